"""docker-compose.yaml and Dockerfile, held against the compose specification's schema and the house's rules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest
import yaml
from airflow.configuration import retrieve_configuration_description

from deploy.environment import STACK
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import Settings, variable
from ltr_pipeline.variables import VARIABLES
from support.packages import needed
from support.programs import CHECKOUT

TEXT = (CHECKOUT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("ltr-pipeline:")}
AIRFLOW = {name: service for name, service in OURS.items() if name != "ltr-serving"}
SETTINGS = {variable(field) for field in ServingSettings.model_fields.values()}
NIGHTLY = {variable(field) for field in Settings.model_fields.values()}
CONNECTIONS = {"AIRFLOW_CONN_LTR_KAFKA", "AIRFLOW_CONN_LTR_S3", "AIRFLOW_CONN_LTR_DATABASE"}
BY_AIRFLOW = {f"AIRFLOW_VAR_{one.name.upper()}" for one in VARIABLES} | CONNECTIONS
RUN_TASKS = ("airflow-scheduler", "airflow-worker", "airflow-api-server")
"""And the API server, on whose board people act as by commands."""
CALL_BACK = ("airflow-dag-processor", "airflow-triggerer")
DIGEST = "@sha256:[0-9a-f]{64}"
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()


def violations(compose: Path) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", compose]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout


def variables(text: str) -> list[tuple[str, str]]:
    """(name, rest) of each ``${NAME:-default}`` or ``${NAME:?message}``, also inside a default."""
    return re.findall(r"\$\{(\w+)([^${}]*)", text)


def environment(name: str) -> dict[str, str | None]:
    """Of a container; None is the value that .env gives, and nothing where it gives none."""
    return SERVICES[name].get("environment", {})


def secrets(name: str) -> set[str]:
    """Return names of the variables of .env that hold secrets and reach a container."""
    reaching = {
        other
        for value in environment(name).values()
        for other, rest in variables(value or "")
        if not rest.startswith(":+")  # only whether there is one
    }
    reaching |= {other for other, value in environment(name).items() if value is None}
    return {
        other
        for other in reaching
        if re.search("PASSWORD|SECRET|FERNET|TOKEN|API_KEYS|SIGNING_KEY|NOTIFY|CONN_", other)
    }


def one_shot(service: dict[str, Any]) -> bool:
    return "restart" not in service


def sources() -> list[str]:
    """Return what the Dockerfile copies out of the checkout."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for line in copied for source in line.split()]


def test_compose_file_follows_the_specification(tmp_path: Path) -> None:
    assert violations(CHECKOUT / "docker-compose.yaml") == ""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEXT.replace("condition: service_healthy", "condition: service_is_healthy"))
    assert "service_is_healthy" in violations(wrong)


def test_stack_has_every_part_of_airflow_and_its_servers() -> None:
    commands = {" ".join(service["command"]).removesuffix(" --skip-serve-logs") for service in AIRFLOW.values()}
    parts = ("api-server", "scheduler", "dag-processor", "triggerer", "celery worker", "db migrate")
    assert commands == {f"airflow {part}" for part in parts} | {"ltr variables", "ltr database init"}
    servers = {"postgres", "postgres-init", "kafka", "kafka-init", "minio", "minio-init", "redis"}
    assert servers == set(SERVICES) - set(OURS)
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["redis", "airflow-worker"]


@pytest.mark.parametrize("name", SERVICES)
def test_service_says_whether_it_is_well_or_ends(name: str) -> None:
    service = SERVICES[name]
    assert one_shot(service) == name.endswith("-init")
    assert one_shot(service) != ("healthcheck" in service)


@pytest.mark.parametrize("name", SERVICES)
def test_service_waits_for_what_it_needs(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        ends = one_shot(SERVICES[other])
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
        profiles = set(SERVICES[other].get("profiles", [])) - set(SERVICES[name].get("profiles", []))
        assert how.get("required", True) != bool(profiles), f"{name} is there without {other}"


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if name in OURS:
        assert SERVICES[name]["build"] == "."
    else:
        assert re.search(rf":(\d+\.\d+\.?\d*(-\w+)?|RELEASE\.\d{{4}}-\S+Z){DIGEST}$", image), image


def test_images_of_the_dockerfile_are_pinned() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert images
    assert all(re.fullmatch(rf"python:3\.\d+\.\d+-slim-\w+{DIGEST}", image) for image in images)
    assert len(set(images)) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-\d+\}:\d+", port), port
        assert SERVICES[name].get("network_mode") is None


def test_volumes_are_declared_and_used() -> None:
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert {mount for mount in mounts if not mount.startswith(".")} == set(COMPOSE["volumes"])


def test_variables_are_documented() -> None:
    known = SETTINGS | set(STACK)
    unknown = {name for name, rest in variables(TEXT) if name not in known}
    assert not unknown
    assert all(name in (CHECKOUT / "config_env.example").read_text() for name in STACK)


def test_secrets_have_no_default() -> None:
    secret = re.compile("PASSWORD|SECRET|FERNET|TOKEN|API_KEYS")
    found = {name: rest for name, rest in variables(TEXT) if secret.search(name)}
    ours = {"AWS_SECRET_ACCESS_KEY", "LTR_API_KEYS"}
    assert set(found) >= {name for name in STACK if secret.search(name)} | ours
    assert all(rest.startswith(":?") for rest in found.values())
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not secret.search(name) or value is None or value.startswith(("${", "/")), name


def test_secrets_that_are_needed_are_those_that_make_makes() -> None:
    needed = {name for name, rest in variables(TEXT) if rest.startswith(":?")}
    rule = (CHECKOUT / "Makefile").read_text().partition("\nsecrets:")[2].partition("\n\n")[0]
    assert set(re.findall(r"\badd (\w+)", rule)) == needed


@pytest.mark.parametrize("name", OURS)
def test_environment_is_one_that_somebody_reads(name: str) -> None:
    options = retrieve_configuration_description(include_providers=True)
    for given in environment(name).keys() - BY_AIRFLOW:
        if given.startswith("AIRFLOW__"):
            section, option = given.removeprefix("AIRFLOW__").lower().split("__", 1)
            assert option in options[section]["options"], given
        else:
            assert given in SETTINGS | {"OMP_WAIT_POLICY"}, given


def test_every_setting_reaches_the_container_that_uses_it() -> None:
    for name in RUN_TASKS:
        assert environment(name).keys() >= BY_AIRFLOW | NIGHTLY - {"AWS_SESSION_TOKEN"}  # MinIO's logins have none
    assert environment("airflow-variables-init").keys() >= BY_AIRFLOW - CONNECTIONS
    for name in CALL_BACK:
        assert environment(name).keys() >= {"LTR_NOTIFY_URLS", "S3_BUCKET", "AWS_ACCESS_KEY_ID", "LTR_VERIFY_KEYS"}
    assert environment("ltr-serving").keys() >= SETTINGS - NIGHTLY | {"LTR_DATA_URI", "S3_BUCKET", "LTR_VERIFY_KEYS"}
    data = {environment(name)["LTR_DATA_URI"] for name in ("ltr-serving", "minio-init", *RUN_TASKS, *CALL_BACK)}
    assert data == {"s3://${S3_BUCKET:-litgo-models}/data"}


def test_scores_have_a_database_of_their_own_beside_airflows() -> None:
    addresses = {environment(name)["LTR_DATABASE_URL"] for name in (*RUN_TASKS, "ltr-database-init")}
    (address,) = addresses
    assert address.startswith("${LTR_DATABASE_URL:-postgresql://ltr:${POSTGRES_LTR_PASSWORD:?")
    assert address.endswith("}@postgres:5432/ltr}")
    assert "postgres-init" in SERVICES["ltr-database-init"]["depends_on"]
    assert SERVICES["postgres-init"]["image"] == SERVICES["postgres"]["image"]
    assert not [name for name, service in SERVICES.items() if "ltr-database-init" in service.get("depends_on", {})]
    script = SERVICES["postgres-init"]["entrypoint"][-1].replace("/opt/postgres", "deploy/postgres")
    assert (CHECKOUT / script).exists()


def test_no_container_gets_another_ones_secrets() -> None:
    assert [name for name, service in SERVICES.items() if "env_file" in service] == []
    database = {"POSTGRES_PASSWORD"}
    of_airflow = {name for name in STACK if name.startswith("AIRFLOW__") and re.search("KEY|SECRET", name)} | database
    calls_back = of_airflow | {"AWS_SECRET_ACCESS_KEY", "LTR_NOTIFY_URLS"}
    scores = {"POSTGRES_LTR_PASSWORD"}
    runs_tasks = calls_back | CONNECTIONS | scores | {"LTR_SIGNING_KEY", "KAFKA_SASL_PASSWORD"}
    kafka, logins = {"KAFKA_SASL_PASSWORD"}, {"AWS_SECRET_ACCESS_KEY", "MINIO_SERVING_PASSWORD"}
    expected = {
        "airflow-init": of_airflow,
        "airflow-variables-init": of_airflow,
        **dict.fromkeys(CALL_BACK, calls_back),
        **dict.fromkeys(RUN_TASKS, runs_tasks),
        "ltr-serving": kafka
        | {"LTR_API_KEYS", "MINIO_SERVING_PASSWORD", "SERVING_SIGNING_KEY"}
        | {"LTR_AIRFLOW_PASSWORD", "LTR_AIRFLOW_TOKEN"},
        "minio-init": logins | {"MINIO_ROOT_PASSWORD"},
        "minio": {"MINIO_ROOT_PASSWORD"},
        "postgres": database,
        "postgres-init": database | scores,
        "ltr-database-init": scores,
    }
    assert {name: secrets(name) for name in SERVICES} == {name: expected.get(name, set()) for name in SERVICES}


def test_dag_bundle_is_the_wheel() -> None:
    from ltr_pipeline.airflow.bundle import LtrDagBundle

    (bundle,) = json.loads(
        AIRFLOW["airflow-scheduler"]["environment"]["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
    )
    assert bundle["classpath"] == f"{LtrDagBundle.__module__}.{LtrDagBundle.__qualname__}"


def test_image_is_built_from_what_reaches_the_builder() -> None:
    assert all((CHECKOUT / source).exists() for source in sources())
    ignore = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(sources())


def pins(lock: str) -> dict[str, str]:
    """Version, marker and hashes of each package of a lock, which holds nothing else but comments."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^ *#.*\n", "", (CHECKOUT / lock).read_text(), flags=re.MULTILINE).strip())
    shape = r"([a-z0-9.-]+)(==[^ ;]+(?: ; .+)?(?: \\\n +--hash=sha256:[0-9a-f]{64})+)"
    return dict(re.fullmatch(shape, entry).groups() for entry in entries)  # type: ignore[union-attr]


@pytest.mark.parametrize("lock", ["requirements-image.lock", "requirements-build.lock", "requirements-try.lock"])
def test_a_smaller_lock_is_a_part_of_the_lock(lock: str) -> None:
    whole, part = pins("requirements.lock"), pins(lock)
    assert {name: pin.partition(" ")[0] for name, pin in part.items()}.items() <= {
        name: pin.partition(" ")[0] for name, pin in whole.items()
    }.items()
    for name, pin in part.items():
        assert set(re.findall("sha256:.*", pin)) <= set(re.findall("sha256:.*", whole[name])), name


@pytest.mark.parametrize("lock", ["requirements-image.lock", "requirements-build.lock"])
def test_image_installs_by_hashes(lock: str) -> None:
    assert f"--require-hashes --requirement {lock}" in DOCKERFILE


def test_image_holds_what_production_needs_and_nothing_else() -> None:
    extras = re.search(r"^IMAGE_EXTRAS := (.+)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert "dev" not in extras
    # what only Windows needs is never in the image, while on Linux a tool of development may need it
    image = {name for name, pin in pins("requirements-image.lock").items() if "; sys_platform == 'win32'" not in pin}
    here = needed("ltr-pipeline", extras)
    assert here <= image
    assert (image - here) & needed("ltr-pipeline", ["dev"]) == set()


def test_wheel_is_built_from_what_the_image_copies(tmp_path: Path) -> None:
    for source in sources():
        path = CHECKOUT / source
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (copytree if path.is_dir() else copy)(path, tmp_path / source)
    (folder := tmp_path / "dist").mkdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "ltr_pipeline/airflow/dags/train_ltr_daily.py" in names
    assert "ltr_pipeline/airflow/bundle.py" in names
    assert len(names) == len(set(names))


def test_the_image_that_builds_has_a_compiler() -> None:
    build, _, run = DOCKERFILE.partition("\nFROM ")[2].partition("\nFROM ")
    assert "gcc libc6-dev" in build
    assert "gcc" not in run
