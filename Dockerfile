# Airflow with the pipeline's wheel in it: Airflow and the service of docker-compose.yaml run this image.

FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84 AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Compiles the kernel that scores (deploy/kernel.py); without it numpy would.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/ltr && python -m venv /opt/build
# Before the sources, so that a changed line of code does not install everything again.
COPY requirements-image.lock requirements-build.lock ./
RUN /opt/ltr/bin/pip install --require-hashes --requirement requirements-image.lock \
    && /opt/build/bin/pip install --require-hashes --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY dags dags
COPY deploy/kernel.py deploy/kernel.py
COPY ltr_pipeline ltr_pipeline
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/ltr/bin/pip install --no-deps dist/*.whl

FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84
# LightGBM's wheel is linked with OpenMP, which the slim image lacks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/ltr /opt/ltr
# As in Airflow's own image: any uid of group 0 may write, so a volume's owner can be chosen by AIRFLOW_UID.
RUN useradd --uid 50000 --gid 0 --home-dir /opt/airflow --create-home airflow \
    && mkdir -p /opt/airflow/logs /opt/airflow/auth /opt/airflow/spool \
    && chown -R airflow:0 /opt/airflow \
    && chmod -R g=u /opt/airflow
ENV AIRFLOW_HOME=/opt/airflow \
    OMP_WAIT_POLICY=PASSIVE \
    PATH=/opt/ltr/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 50000:0
WORKDIR /opt/airflow
CMD ["airflow", "version"]
