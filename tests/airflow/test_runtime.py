"""What a running task makes of Airflow's Connections, and of its run."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from ltr_pipeline.airflow.runtime import run_request, run_settings
from ltr_pipeline.errors import SettingsError


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: object) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "generic", **fields}))


def test_without_connections_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "env:9092")
    settings = run_settings()
    assert settings.kafka is not None
    assert settings.kafka.bootstrap_servers == "env:9092"
    assert settings.s3_bucket is None


def test_ltr_kafka_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "env:9092")
    monkeypatch.setenv("KAFKA_TOPIC", "env_topic")
    connect(
        monkeypatch,
        "ltr_kafka",
        host="broker",
        port=9093,
        login="ann",
        password="hunter2",
        extra={"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"},
    )
    kafka = run_settings().kafka
    assert kafka is not None
    assert (kafka.bootstrap_servers, kafka.username, kafka.password) == ("broker:9093", "ann", "hunter2")
    assert (kafka.security_protocol, kafka.topic) == ("SASL_PLAINTEXT", "env_topic")


def test_a_connection_of_the_kafka_provider_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    extra = {
        "bootstrap.servers": "a:9092,b:9092",
        "group.id": "ours",
        "security.protocol": "SSL",
        "ssl.ca.location": str(authority),
    }
    connect(monkeypatch, "ltr_kafka", extra=extra)
    kafka = run_settings().kafka
    assert kafka is not None
    assert (kafka.bootstrap_servers, kafka.group_id, kafka.ca_file) == ("a:9092,b:9092", "ours", authority)


def test_ltr_s3_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET", "env-bucket")
    monkeypatch.setenv("S3_ENDPOINT", "http://env:9000")
    extra = {"endpoint_url": "http://minio:9000", "region_name": "eu-central-1"}
    connect(monkeypatch, "ltr_s3", login="key", password="secret", schema="models", extra=extra)
    settings = run_settings()
    assert settings.s3_bucket == "models"
    assert (settings.s3.endpoint, settings.s3.region) == ("http://minio:9000", "eu-central-1")
    assert (settings.s3.access_key_id, settings.s3.secret_access_key) == ("key", "secret")


def test_a_wrong_connection_is_a_clear_error_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "ltr_kafka", host="broker:9092", password="hunter2")
    with pytest.raises(SettingsError, match="KAFKA_SASL_PASSWORD") as wrong:
        run_settings()
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        (DagRunType.SCHEDULED, False),
        (DagRunType.MANUAL, True),
        (DagRunType.BACKFILL, True),
        (DagRunType.ASSET_TRIGGERED, False),
        (DagRunType.OPERATOR_TRIGGERED, False),
    ],
)
def test_a_run_that_somebody_asked_for_is_known_by_its_kind(kind: DagRunType, by_hand: bool) -> None:
    moment = dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC)
    context = {
        "params": {"retrain": by_hand},
        "logical_date": moment,
        "dag_run": SimpleNamespace(run_type=kind),
        "ti": SimpleNamespace(try_number=1, max_tries=3),
    }
    asked = run_request(context)
    assert (asked["by_hand"], asked["retrain"], asked["moment"]) == (by_hand, by_hand, moment.isoformat())
