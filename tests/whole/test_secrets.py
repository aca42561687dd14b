"""Nights that end well and nights that fail, through the real DAG and real servers: no secret is left anywhere.

Searched are all logs (at DEBUG, those of every library), what is printed, Airflow's metadata database and files, the
training log, every object on S3 (manifests, artefacts, reports, documents, ledger), and what `ltr doctor` finds.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from airflow.configuration import conf
from airflow.sdk import DAG

from deploy.native.kafka import PASSWORD, USER, KafkaServer
from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.doctor import examine
from ltr_pipeline.errors import LtrError
from ltr_pipeline.settings import load_settings
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from support.small import DAYS, LENIENT, NIGHT, RUN, simulate
from support.topics import Topic

WRONG_SASL, WRONG_S3 = "hunter2-of-no-broker", "hunter2-of-no-bucket-0123456789"
WEBHOOK, SIGNING, FORMER_KEY = "hunter2-of-the-webhook", "hunter2-that-signs", "hunter2-that-signed"
AWAY = "127.0.0.1:1"

Environment = dict[str, str]


@pytest.fixture(scope="module")
def topic(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Topic:
    """Twelve days of events."""
    folder = tmp_path_factory.mktemp("log")
    simulate(folder)
    topic = Topic(kafka)
    topic.send(*(folder / "audit.log").read_bytes().splitlines())
    return topic


@pytest.fixture
def place() -> str:
    return uuid4().hex


@pytest.fixture
def sound(topic: Topic, s3_server: S3Server, place: str, tmp_path: Path) -> Environment:
    """An environment full of secrets, all of them right, but for a webhook that nobody listens at."""
    gate = {f"AIRFLOW_VAR_{name.upper()}": value for name, value in LENIENT.items()}
    return (
        s3_server.environment
        | gate
        | {
            "KAFKA_BOOTSTRAP_SERVERS": topic.server.address("SASL_PLAINTEXT"),
            "KAFKA_TOPIC": topic.name,
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "LTR_KAFKA_TIMEOUT_SECONDS": "5",
            "S3_BUCKET": BUCKET,
            "S3_PREFIX": f"{place}/ltr",
            "LTR_DATA_URI": f"s3://{BUCKET}/{place}/data",
            "LTR_SIGNING_KEY": f"{SIGNING} {FORMER_KEY}",
            "LTR_NOTIFY_URLS": f"json://somebody:{WEBHOOK}@{AWAY}/{WEBHOOK}?+key={WEBHOOK}",
            "LTR_LOG_FOLDER": str(tmp_path / "logs"),
            "LTR_EVENTS_PATH": str(tmp_path / "audit.log"),
            "LTR_WINDOW_DAYS": str(DAYS),
            "LTR_BUCKETS": "2",
        }
    )


def right(sound: Environment) -> Environment:
    return {}


def wrong_login(sound: Environment) -> Environment:
    return {"KAFKA_SASL_PASSWORD": WRONG_SASL}


def wrong_login_from_a_connection(sound: Environment) -> Environment:
    connection = {"conn_type": "kafka", "host": sound["KAFKA_BOOTSTRAP_SERVERS"], "login": USER, "password": WRONG_SASL}
    return {"AIRFLOW_CONN_LTR_KAFKA": json.dumps(connection)}


def broker_away(sound: Environment) -> Environment:
    simulate(Path(sound["LTR_EVENTS_PATH"]).parent)
    return {"KAFKA_BOOTSTRAP_SERVERS": AWAY, "LTR_KAFKA_TIMEOUT_SECONDS": "0.5"}


def wrong_bucket_login(sound: Environment) -> Environment:
    return {"AWS_SECRET_ACCESS_KEY": WRONG_S3}


def wrong_bucket_login_from_a_connection(sound: Environment) -> Environment:
    connection = {"conn_type": "aws", "login": sound["AWS_ACCESS_KEY_ID"], "password": WRONG_S3}
    return {"AIRFLOW_CONN_LTR_S3": json.dumps(connection)}


def settings_that_contradict_each_other(sound: Environment) -> Environment:
    return {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}


def everything_in_one_address(sound: Environment) -> Environment:
    return {"KAFKA_BOOTSTRAP_SERVERS": f"{USER}:{PASSWORD}@{AWAY}", "S3_ENDPOINT": f"http://me:{WRONG_S3}@{AWAY}"}


# What is changed, the state of the run, and what the training log or the notification's text names then.
NIGHTS: dict[Callable[[Environment], Environment], tuple[str, str]] = {
    right: ("success", "weights published"),
    broker_away: ("success", "falling back to files"),
    wrong_login: ("failed", "KAFKA_SASL_PASSWORD"),
    wrong_login_from_a_connection: ("failed", "KAFKA_SASL_PASSWORD"),
    wrong_bucket_login: ("failed", "AWS_SECRET_ACCESS_KEY"),
    wrong_bucket_login_from_a_connection: ("failed", "AWS_SECRET_ACCESS_KEY"),
    settings_that_contradict_each_other: ("failed", "KAFKA_SASL_PASSWORD"),
    everything_in_one_address: ("failed", "KAFKA_BOOTSTRAP_SERVERS"),
}


FIRST, *MORE = NIGHTS


@pytest.mark.parametrize(
    "change",
    [FIRST, *(pytest.param(change, marks=pytest.mark.long) for change in MORE)],
    ids=lambda change: change.__name__,
)
def test_no_secret_is_left_anywhere(
    change: Callable[[Environment], Environment],
    dag: DAG,
    sound: Environment,
    place: str,
    s3_options: S3Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in (sound | change(sound)).items():
        monkeypatch.setenv(name, value)
    state, named = NIGHTS[change]
    caplog.set_level(logging.DEBUG)
    done = dag.test(run_conf={"date": NIGHT.isoformat()})
    assert str(done.state) == state
    bucket = open_storage(f"s3://{BUCKET}/{place}", s3_options)
    _copy_home(tmp_path / "airflow")
    traces = {
        "logs": caplog.text.encode(),
        "printed": "".join(capfd.readouterr()).encode(),
        "doctor": _doctor().encode(),
        "XCom": _xcom(done.run_id).encode(),
        **{str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()},
        **{f"s3/{key}": bucket.get(key) for key in bucket.keys()},  # noqa: SIM118
    }
    assert named.encode() in traces["logs"] + traces["printed"]
    if state == "success":
        assert RUN.encode() in traces["XCom"]
        assert any(key.endswith("history/00000001.json") for key in traces)
        assert "notification not delivered" in traces[str(tmp_path / "logs" / "ltr_training.log")].decode()
    secrets = (PASSWORD, sound["AWS_SECRET_ACCESS_KEY"], WRONG_SASL, WRONG_S3, WEBHOOK, SIGNING, FORMER_KEY)
    found = [(secret, where) for secret in secrets for where, what in traces.items() if secret.encode() in what]
    assert found == []


def _doctor() -> str:
    try:
        return "\n".join(finding.text for finding in examine(load_settings()))
    except LtrError as error:
        return repr(error)


def _copy_home(folder: Path) -> None:
    """Copy by another process: closing a database's file lets go of all locks that this process has on it."""
    home = Path(conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///")).parent
    subprocess.run(["cp", "-r", home, folder], check=True)


def _xcom(run_id: str) -> str:
    """All that tasks handed each other."""
    database = sqlite3.connect(conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///"))
    return str(database.execute("select task_id, key, value from xcom where run_id = ?", [run_id]).fetchall())
