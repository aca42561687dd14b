"""What Airflow calls when a task has failed for good or a run is late reaches a real webhook, without secrets."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from deploy.native.minio import S3Server
from ltr_pipeline.airflow.callbacks import deadline_missed, hour_failed, run_failed, task_failed
from ltr_pipeline.airflow.runtime import run_settings
from ltr_pipeline.errors import SettingsError, SourceError
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.report.artefacts import DECISION
from ltr_pipeline.runs.run import Run
from ltr_pipeline.settings import load_settings
from support.documents import document
from support.nights import unfair
from support.webhook import Server, running


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with running(Server()) as server:
        monkeypatch.setenv("LTR_NOTIFY_URLS", f"json://user:hunter2@127.0.0.1:{server.port}")
        monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
        monkeypatch.setenv("LTR_LOG_FOLDER", str(tmp_path))
        yield server


def test_a_failed_task_is_told_with_its_error(webhook: Server, tmp_path: Path) -> None:
    instance = SimpleNamespace(dag_id="train_ltr_daily", run_id="r-1", task_id="extract_events", log_url="log/1")
    task_failed({"task_instance": instance, "exception": SourceError("the log is gone")})
    (told,) = webhook.got
    assert told["title"] == "LTR run train_ltr_daily r-1 failed in extract_events"
    assert "the log is gone" in told["message"]
    assert "log/1" in told["message"]
    logged = (tmp_path / "ltr_training.log").read_text()
    assert "the log is gone" in logged
    assert "hunter2" not in logged


@pytest.mark.parametrize(("before", "told"), [("failed", 0), ("success", 1), (None, 1), ("unknown", 1)])
def test_an_hour_that_failed_is_told_unless_the_one_before_was(webhook: Server, before: str | None, told: int) -> None:
    def previous() -> SimpleNamespace | None:
        if before == "unknown":
            raise RuntimeError("the DAG processor cannot ask")
        return SimpleNamespace(state=before) if before else None

    instance = SimpleNamespace(
        dag_id="train_ltr_hourly", run_id="r-1", task_id="refresh_ranker", log_url="", get_previous_dagrun=previous
    )
    hour_failed({"task_instance": instance, "exception": SourceError("the log is gone")})
    assert len(webhook.got) == told


def test_a_wrong_setting_is_told_though_the_settings_cannot_be_read(
    webhook: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTR_WINDOW_DAYS", "a month")
    instance = SimpleNamespace(dag_id="train_ltr_daily", run_id="r-1", task_id="extract_events", log_url="log/1")
    with pytest.raises(SettingsError) as wrong:
        load_settings()
    task_failed({"task_instance": instance, "exception": wrong.value})
    (told,) = webhook.got
    assert "LTR_WINDOW_DAYS" in told["message"]


def test_a_run_that_was_stopped_at_its_limit_is_told(webhook: Server) -> None:
    dag = SimpleNamespace(dag_id="train_ltr_daily", dagrun_timeout=dt.timedelta(hours=6))
    run_failed({"dag": dag, "run_id": "r-1", "reason": "timed_out"})
    (told,) = webhook.got
    assert told["title"] == "LTR run train_ltr_daily r-1 failed in any task"
    assert "after its limit of 6:00:00" in told["message"]


def test_a_failed_task_is_not_told_twice(webhook: Server) -> None:
    run_failed({"dag": SimpleNamespace(dag_id="train_ltr_daily"), "run_id": "r-1", "reason": "task_failure"})
    assert webhook.got == []


def test_a_late_run_is_told(webhook: Server) -> None:
    context = {"dag_run": {"dag_id": "train_ltr_daily", "dag_run_id": "scheduled__2025-07-15"}}
    asyncio.run(deadline_missed("2:00:00", context))
    (told,) = webhook.got
    assert "scheduled__2025-07-15" in told["title"]
    assert "has not finished within 2:00:00" in told["message"]


def test_every_alert_says_that_the_version_in_use_is_unfair(
    webhook: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    settings = run_settings()
    settings.registry.publish(document("20251119_0215"), who="ann", why="by hand")
    decision = decide(unfair().evidence, Policy())
    Run("20251120_0215", settings).write(DECISION, decision)
    dag = SimpleNamespace(dag_id="train_ltr_daily", dagrun_timeout=dt.timedelta(hours=6))
    instance = SimpleNamespace(dag_id="train_ltr_daily", run_id="r-1", task_id="publish_weights", log_url="log/1")
    task_failed({"task_instance": instance, "exception": SourceError("the log is gone")})
    run_failed({"dag": dag, "run_id": "r-1", "reason": "timed_out"})
    asyncio.run(deadline_missed("2:00:00"))
    assert len(webhook.got) == 3
    for told in webhook.got:
        assert told["title"].endswith("; the version in use is unfair")
        assert (
            "20251119_0215, which is in use, ranks groups of people unequally: the fairness gap is" in told["message"]
        )


@pytest.fixture
def published_to_s3(monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> str:
    """A version in a registry that only the Connection ``ltr_s3`` names."""
    monkeypatch.delenv("LTR_REGISTRY_URI", raising=False)
    monkeypatch.setenv("S3_PREFIX", uuid4().hex)
    connection = {
        "conn_type": "aws",
        "login": s3_server.access_key_id,
        "password": s3_server.secret_access_key,
        "schema": s3_server.make_bucket(),
        "extra": {"endpoint_url": s3_server.endpoint},
    }
    monkeypatch.setenv("AIRFLOW_CONN_LTR_S3", json.dumps(connection))
    run_settings().registry.publish(document("20250714_0215"), who="ann", why="by hand")
    return "20250714_0215"


def test_the_version_in_use_is_told_where_only_a_connection_knows_the_registry(
    webhook: Server, published_to_s3: str
) -> None:
    dag = SimpleNamespace(dag_id="train_ltr_daily", dagrun_timeout=dt.timedelta(hours=6))
    instance = SimpleNamespace(dag_id="train_ltr_daily", run_id="r-1", task_id="extract_events", log_url="log/1")
    task_failed({"task_instance": instance, "exception": SourceError("the log is gone")})
    run_failed({"dag": dag, "run_id": "r-1", "reason": "timed_out"})
    asyncio.run(deadline_missed("2:00:00"))
    assert len(webhook.got) == 3
    for told in webhook.got:
        assert f"{published_to_s3} is in use." in told["message"]


def test_a_wrong_connection_does_not_keep_a_failure_from_being_told(
    webhook: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "kafka", "host": "broker:9092", "password": "hunter3"}
    monkeypatch.setenv("AIRFLOW_CONN_LTR_KAFKA", json.dumps(connection))
    with pytest.raises(SettingsError) as wrong:
        run_settings()
    instance = SimpleNamespace(dag_id="train_ltr_daily", run_id="r-1", task_id="extract_events", log_url="log/1")
    task_failed({"task_instance": instance, "exception": wrong.value})
    (told,) = webhook.got
    assert "KAFKA_SASL_PASSWORD" in told["message"]
    assert "hunter3" not in told["message"]


def test_what_a_person_has_stopped_is_no_news(webhook: Server) -> None:
    handed: dict[str, str] = {}
    instance = SimpleNamespace(dag_id="d", run_id="r-1", task_id="t", log_url="", xcom_push=handed.__setitem__)
    task_failed({"task_instance": instance, "exception": KeyboardInterrupt("stopped by SIGINT")})
    assert (webhook.got, handed) == ([], {"failure": "stopped by SIGINT"})
