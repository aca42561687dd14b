"""`make up SERVICES=1` on free ports: what an ordinary producer sends to Kafka becomes a published version in MinIO."""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer

from deploy.native.kafka import lacking
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.local.ports import free_ports
from ltr_pipeline.local.programs import members
from ltr_pipeline.schedule import night_of
from ltr_pipeline.signing import make_private_key, public_keys, signing_keys
from ltr_pipeline.variables import VARIABLES
from support import servers
from support.programs import CHECKOUT

DAG = "train_ltr_daily"
PATIENCE_SECONDS = 420
SIGNING_KEY = make_private_key()
START_SECONDS = 1800  # MinIO may have to be built, Kafka to be fetched


def command(what: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.native.stack", what],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    if done.returncode:
        pytest.fail(f"stack {what}: {done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def stack() -> Iterator[dict[str, str]]:
    """Environment of a stack that runs."""
    if lacking():
        servers.missing("the whole stack", f"install {', '.join(lacking())}")
    # not one of pytest's own folders: where tests run as root, PostgreSQL does not, and must get in
    home = Path(tempfile.mkdtemp(prefix="ltr-tests-stack-"))
    home.chmod(0o755)
    airflow, postgres, kafka, minio, serving = map(str, free_ports(5))
    asked = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{airflow}",
        "POSTGRES_PORT": postgres,
        "KAFKA_PORT": kafka,
        "MINIO_PORT": minio,
        "LTR_SERVE_PORT": serving,
        "WEIGHTS_POLL_SECONDS": "1",
        "LTR_SIGNING_KEY": SIGNING_KEY,
        "LTR_VERIFY_KEYS": " ".join(public_keys(signing_keys(SIGNING_KEY))),
        "AIRFLOW_VAR_LTR_FAIRNESS_MAX": "0.2",  # the simulated month ends today: some day 0.05 would not be reached
    }
    try:
        said = command("up", asked)
        assert f"Scores go to the PostgreSQL database ltr at 127.0.0.1:{postgres}, user ltr (LTR_DATABASE_URL;" in said
        servers.used("the whole stack", "PostgreSQL, Kafka, MinIO, the service, and Airflow in four processes")
        lines = shlex.split((home / "services.env").read_text())
        yield asked | dict(line.split("=", 1) for line in lines)
    finally:
        groups = [int(file.read_text().split()[0]) for file in (home / "services").glob("*.pid")]
        running = [len(members(group)) for group in groups]
        command("down", asked)
        shutil.rmtree(home)
    assert len(groups) == 8
    assert all(running)
    assert not [process for group in groups for process in members(group)]


@pytest.fixture(scope="module")
def api(stack: dict[str, str]) -> Any:
    def call(method: str, path: str, body: dict[str, Any] | None = None, token: str = "") -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        data = json.dumps(body).encode() if body else None
        url = f"{stack['AIRFLOW__API__BASE_URL']}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            return json.load(answer)

    passwords = json.loads(Path(stack["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).read_text())
    ((user, password),) = passwords.items()
    token = call("POST", "/auth/token", {"username": user, "password": password})["access_token"]
    return lambda method, path, body=None: call(method, f"/api/v2{path}", body, token)


def wait(what: str, ready: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(2)
    pytest.fail(f"no {what} within {PATIENCE_SECONDS} s")


def health(stack: dict[str, str]) -> Any:
    """Return what the service says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack['LTR_SERVE_PORT']}/ltr/health", timeout=60) as answer:
        return json.load(answer)


def judged(stack: dict[str, str]) -> float:
    """Return when, by the service, the gate last judged a night; 0 when it cannot know."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack['LTR_SERVE_PORT']}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("ltr_last_judged_timestamp_seconds "))


def ltr(stack: dict[str, str], folder: Path, *arguments: str, **other: str) -> str:
    program = Path(sys.executable).with_name("ltr")
    done = subprocess.run(
        [program, *arguments], env=stack | other, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environ(stack: dict[str, str], part: str) -> dict[str, str]:
    """Return the environment of a process that runs."""
    pid = (Path(stack["AIRFLOW_HOME"]) / "services" / f"{part}.pid").read_text().split()[0]
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def produce(stack: dict[str, str], log: Path) -> int:
    """Send each line of a log as an ordinary producer does."""
    producer = KafkaProducer(bootstrap_servers=stack["KAFKA_BOOTSTRAP_SERVERS"])
    lines = log.read_bytes().splitlines()
    for line in lines:
        producer.send(stack["KAFKA_TOPIC"], line)
    producer.flush(60)
    producer.close()
    return len(lines)


def test_all_parts_are_well(stack: dict[str, str], api: Any) -> None:
    parts = api("GET", "/monitor/health")
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )
    assert (health(stack)["status"], health(stack)["version"]) == ("live", "legacy")
    names = {variable["key"] for variable in api("GET", "/variables")["variables"]}
    assert names == {variable.name for variable in VARIABLES} - {"ltr_fairness_max"}  # that is the environment's


def test_produced_events_become_a_version_in_minio(stack: dict[str, str], api: Any, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    simulated = {"KAFKA_BOOTSTRAP_SERVERS": "", "S3_BUCKET": "", "LTR_DATA_URI": "", "LTR_EVENTS_PATH": str(log)}
    ltr(stack, tmp_path, "simulate", "--days", "31", "--rankings-per-day", "200", **simulated)
    sent = produce(stack, log)
    wait("DAG", lambda: [dag for dag in api("GET", "/dags")["dags"] if dag["dag_id"] == DAG])
    api("PATCH", f"/dags/{DAG}?update_mask=is_paused", {"is_paused": False})
    finished = ("success", "failed")
    run = wait(
        "finished run",
        lambda: [run for run in api("GET", f"/dags/{DAG}/dagRuns")["dag_runs"] if run["state"] in finished],
    )[0]
    assert run["state"] == "success"
    tasks = api("GET", f"/dags/{DAG}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
    states = {task["task_id"]: task["state"] for task in tasks}
    assert (states["publish_weights"], states["keep_previous"]) == ("success", "skipped")

    (event,) = api("GET", "/assets/events")["asset_events"]

    s3 = boto3.client(
        "s3",
        endpoint_url=stack["S3_ENDPOINT"],
        region_name=stack["AWS_REGION"],
        aws_access_key_id=stack["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack["AWS_SECRET_ACCESS_KEY"],
    )
    day = run["logical_date"][:10]
    latest = json.load(s3.get_object(Bucket=stack["S3_BUCKET"], Key="ltr/latest/ltr_weights.json")["Body"])
    assert latest["version"] == f"{day.replace('-', '')}_0215"
    manifest = json.load(
        s3.get_object(
            Bucket=stack["S3_BUCKET"], Key=f"data/{folder_of(night_of(dt.date.fromisoformat(day)))}/manifest.json"
        )["Body"]
    )
    assert sent > 31 * 200
    assert stack["KAFKA_TOPIC"] in json.dumps(manifest)
    (version,) = json.loads(ltr(stack, tmp_path, "versions", "--json"))
    assert version["version"] == event["extra"]["version"] == latest["version"]
    assert latest["signature"].startswith("ed25519:")
    wait("reload", lambda: health(stack)["version"] == latest["version"])
    moment = dt.datetime.fromisoformat(run["logical_date"]).timestamp()
    wait("judged night", lambda: judged(stack) == moment)  # else LtrNoJudgedRun fires for ever

    assert stack["LTR_DATABASE_URL"].endswith(f"@127.0.0.1:{stack['POSTGRES_PORT']}/ltr")
    ltr(stack, tmp_path, "simulate", "--database")
    (scored,) = json.loads(ltr(stack, tmp_path, "score", "--json"))
    assert (scored["version"], scored["rows"], scored["batches"]) == (latest["version"], 1000, 10)
    (again,) = json.loads(ltr(stack, tmp_path, "score", "--json"))
    assert again["rows"] == 0
    for what in ("train", "classify"):
        ltr(stack, tmp_path, "segments", what)
    assert "engajamento" in ltr(stack, tmp_path, "segments", "show")


def test_each_part_has_the_variables_of_its_container(stack: dict[str, str]) -> None:
    """Whatever the shell has set. The API server writes its title over what /proc shows of its environment."""
    parts = [environ(stack, part) for part in ("airflow-scheduler", "airflow-triggerer", "ltr-serving")]
    scheduler, _, service = parts
    secrets = (
        "AIRFLOW__CORE__FERNET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "LTR_SIGNING_KEY",
        "LTR_DATABASE_URL",
        "LTR_API_KEYS",
    )
    has = [[bool(part.get(name)) for name in secrets] for part in parts]
    assert has == [
        [True, True, True, True, False],
        [True, True, False, False, False],
        [False, True, False, False, True],
    ]
    assert [part["AWS_ACCESS_KEY_ID"] for part in parts] == ["ltr", "ltr", "ltr-serving"]
    assert scheduler["AWS_SECRET_ACCESS_KEY"] != service["AWS_SECRET_ACCESS_KEY"]
    assert not any(name.startswith("MINIO_") and name != "MINIO_PORT" for part in parts for name in part)


def refused(home: Path, environment: dict[str, str]) -> str:
    """What a start says that does not come off, after which nothing runs and nothing says that anything does."""
    command = [sys.executable, "-m", "deploy.native.stack", "up"]
    done = subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert not [*home.glob("services.env"), *home.glob("services/*.pid")]
    running = [
        process for process in psutil.process_iter(["cmdline"]) if str(home) in " ".join(process.info["cmdline"] or ())
    ]
    assert not running
    return done.stdout + done.stderr


def ports() -> dict[str, str]:
    names = ("POSTGRES_PORT", "KAFKA_PORT", "MINIO_PORT", "LTR_SERVE_PORT", "AIRFLOW__API__PORT")
    found = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    return found | {"AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{found['AIRFLOW__API__PORT']}"}


def test_taken_ports_are_found_before_anything_starts(tmp_path: Path) -> None:
    free = ports()
    with socket.create_server(("127.0.0.9", int(free["LTR_SERVE_PORT"]))):
        said = refused(tmp_path, os.environ | free | {"AIRFLOW_HOME": str(tmp_path)})
    assert (
        f"(process {os.getpid()}) listens on 127.0.0.9:{free['LTR_SERVE_PORT']}; stop it or set LTR_SERVE_PORT" in said
    )
    assert not [*tmp_path.glob("services/*.log")]


@pytest.mark.long
def test_a_server_that_does_not_start_leaves_none_of_the_others() -> None:
    if lacking():
        servers.missing("the whole stack", f"install {', '.join(lacking())}")
    with tempfile.TemporaryDirectory(prefix="ltr-tests-stack-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "services").mkdir(mode=0o711)
        (home / "services" / "kafka").write_text("a file where a folder belongs")
        said = refused(home, os.environ | ports() | {"AIRFLOW_HOME": folder})
    assert "Stopping what had started: postgres, s3." in said
    assert f"kafka has ended; {folder}/services/kafka.log ends:" in said


@pytest.mark.long
def test_a_server_that_ended_is_started_again_and_named(stack: dict[str, str]) -> None:
    program = psutil.Process(int((Path(stack["AIRFLOW_HOME"]) / "services" / "kafka.pid").read_text().split()[0]))
    for broker in program.children():
        broker.kill()
    wait("end of Kafka's program", lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE)
    said = command("up", stack)
    assert [line for line in said.splitlines() if "started again" in line] == ["kafka has ended, and is started again"]
    consumer = KafkaConsumer(bootstrap_servers=stack["KAFKA_BOOTSTRAP_SERVERS"])
    assert stack["KAFKA_TOPIC"] in consumer.topics()
    consumer.close()
