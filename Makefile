# Python 3.11 or newer and make are all that is needed; everything else goes to .venv (deploy/install.py).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TRIED  := $(VENV)/.try

# One machine, no servers: Airflow on SQLite in .airflow, events from files, the registry on disk.
export AIRFLOW_HOME ?= $(CURDIR)/.airflow
export AIRFLOW__CORE__DAGS_FOLDER ?= $(CURDIR)/dags
export AIRFLOW__CORE__LOAD_EXAMPLES ?= False
export AIRFLOW__CORE__PARALLELISM ?= 4
export AIRFLOW__API__HOST ?= 127.0.0.1
export AIRFLOW__API__PORT ?= 8080
export AIRFLOW__API__BASE_URL ?= http://127.0.0.1:$(AIRFLOW__API__PORT)
export LTR_LOG_FOLDER ?= logs
# libgomp spin-waits otherwise, and two busy processes make training a hundred times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup run serve demo up down airflow variables test test-long lint format secrets lock clean
help:
	@echo "make setup [TRY=1]          install into .venv: everything, or only what \`ltr init\` and \`ltr try\` need"
	@echo "make run [DATE=YYYY-MM-DD]  train, gate and publish the next day (or repeat one); RETRAIN=1 trains when not due, too"
	@echo "make serve                  rank by the published weights on http://127.0.0.1:8000 (docs/api.md)"
	@echo "make demo                   simulated users, service, night, reload: what the loop gains, in a few minutes"
	@echo "make up / make down         Airflow on $(AIRFLOW__API__BASE_URL), the service beside it"
	@echo "make up SERVICES=1          the same on real servers: PostgreSQL, Kafka, MinIO (docs/stack.md)"
	@echo "make variables              the nights' Variables in that Airflow: creates the missing ones, shows what is in use"
	@echo "make airflow CMD=\"…\"       any command of that Airflow, such as \"variables set ltr_ndcg_min 0.9\""
	@echo "make secrets                what docker-compose.yaml needs in .env"
	@echo "make test / make lint       tests / ruff, mypy, import floors, doctests"
	@echo "make test-long              longer repetitions of some tests, before a change is done"
	@echo "make clean                  remove what runs made (not .venv, not your logs)"

KERNEL := deploy/kernel.py ltr_pipeline/scoring/kernel.c ltr_pipeline/scoring/reading.c

# With TRY=1 only what `ltr init` and `ltr try` need; whatever needs the rest installs it then.
setup: $(if $(TRY),$(TRIED),$(READY))
$(READY): requirements.lock pyproject.toml $(KERNEL)
	@$(PYTHON) deploy/install.py
$(TRIED): requirements-try.lock pyproject.toml $(KERNEL)
	@$(PYTHON) deploy/install.py --try

# A stamp, not the database: a migration that was killed, or another version of Airflow, migrates again.
SPACE := $(subst ,, )
MIGRATED := $(subst $(SPACE),\$(SPACE),$(AIRFLOW_HOME))/.migrated
$(MIGRATED): $(READY)
	@$(BIN)/airflow db migrate > /dev/null
	@touch "$(AIRFLOW_HOME)/.migrated"

# With SERVICES=1 on PostgreSQL, Kafka and MinIO, as docker-compose.yaml has it; without, on SQLite and files.
STACK  := $(BIN)/python -m deploy.native.stack
RUNNING := $(AIRFLOW_HOME)/services.env
WITH_SERVERS := if [ -e "$(RUNNING)" ]; then set -a; . "$(RUNNING)"; set +a; fi;

run: $(READY) $(MIGRATED)
	@$(WITH_SERVERS) $(BIN)/ltr run $(if $(DATE),--date $(DATE)) $(if $(RETRAIN),--retrain)

serve: $(READY)
	@$(WITH_SERVERS) $(BIN)/ltr serve

demo: $(READY) $(MIGRATED)
	@$(BIN)/ltr demo

up: $(READY) $(if $(SERVICES),,$(MIGRATED))
	@$(if $(SERVICES),$(STACK),$(BIN)/ltr) up

down: $(READY)
	@if [ -e "$(RUNNING)" ]; then $(STACK) down; else $(BIN)/ltr down; fi

airflow: $(READY) $(MIGRATED)
	@$(WITH_SERVERS) $(BIN)/airflow $(CMD)

variables: $(READY) $(MIGRATED)
	@$(WITH_SERVERS) $(BIN)/ltr variables

# A file stays with one worker, which starts the servers that it needs; the conftest puts long files first.
JOBS ?= 2
IN_PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-long: $(READY)
	LTR_EXAMPLES=long $(BIN)/python -m pytest $(IN_PARALLEL) -m "long or hypothesis"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --doctest-modules ltr_pipeline

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What docker-compose.yaml needs and nobody should choose: added to .env where it is missing.
secrets:
	@umask 077; touch .env; add() { grep -q "^$$1=." .env || printf '%s=%s\n' "$$1" "$$2" >> .env; }; \
	[ -z "$$(tail -c 1 .env)" ] || echo >> .env; \
	add POSTGRES_PASSWORD "$$(openssl rand -hex 24)"; \
	add POSTGRES_LTR_PASSWORD "$$(openssl rand -hex 24)"; \
	add AWS_SECRET_ACCESS_KEY "$$(openssl rand -hex 20)"; \
	add MINIO_ROOT_PASSWORD "$$(openssl rand -hex 20)"; \
	add MINIO_SERVING_PASSWORD "$$(openssl rand -hex 20)"; \
	add AIRFLOW__CORE__FERNET_KEY "$$(openssl rand -base64 32 | tr '+/' '-_')"; \
	add AIRFLOW__API__SECRET_KEY "$$(openssl rand -hex 32)"; \
	add AIRFLOW__API_AUTH__JWT_SECRET "$$(openssl rand -hex 64)"; \
	add LTR_API_KEYS "$$(openssl rand -hex 32)"

# Pin every dependency with its hashes, for every platform and Python that Airflow supports; of these, what the image
# holds (the package with these extras), what builds its wheel, and what `ltr try` needs in a checkout; and uv itself.
IMAGE_EXTRAS := airflow calendar celery database kafka-fast postgres segments serving
COMPILE := $(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
PART := --constraint requirements.lock --no-annotate
lock: $(READY)
	$(COMPILE) pyproject.toml --all-extras --output-file requirements.lock $(LOCK)
	$(COMPILE) pyproject.toml $(IMAGE_EXTRAS:%=--extra %) $(PART) --output-file requirements-image.lock
	echo hatchling | $(COMPILE) - $(PART) --output-file requirements-build.lock
	printf 'hatchling\neditables\n' | $(COMPILE) pyproject.toml - $(PART) --output-file requirements-try.lock
	echo uv | $(COMPILE) - --no-annotate --output-file requirements-uv.lock $(LOCK)

clean:
	rm -rf var .airflow dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
