"""The real DAG that watches, run by Airflow in this process; people are told by a real webhook."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from airflow.dag_processing.dagbag import DagBag

from ltr_pipeline.monitoring.records import DriftReport, Outcomes
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from support.small import DAY, DAYS, FIRST, NIGHT, WORLD, up_to
from support.webhook import Server, running


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project in which a night has landed, the day before it with half of a feature."""
    monkeypatch.setenv("LTR_EVENTS_PATH", str(tmp_path / "audit.log"))
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    monkeypatch.setenv("LTR_DATABASE_URL", f"sqlite:///{tmp_path / 'ltr.db'}")
    monkeypatch.setenv("LTR_WINDOW_DAYS", str(DAYS))
    world = msgspec.structs.replace(WORLD, halved={"S": NIGHT - DAY}, rankings_per_day=200)
    write_log(tmp_path / "audit.log", world, FIRST, DAYS)
    loaded = load_settings()
    up_to("extract_events", loaded)
    return loaded


def run(**params: object) -> str:
    """State of a run."""
    dag = DagBag("dags").dags["monitor_ltr"]
    for task in dag.tasks:
        task.retries = 0
    return str(dag.test(run_conf=params).state)


def test_a_landed_night_is_watched_and_people_are_told(
    airflow_database: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(settings.data)
    with running(Server()) as hook:
        monkeypatch.setenv("LTR_NOTIFY_URLS", f"json://127.0.0.1:{hook.port}/")
        assert run() == "success"
        assert run() == "success"  # nothing is due
    assert [one.date for one in history.read(DriftReport)] == [NIGHT - DAY]
    assert [one.date for one in history.read(Outcomes) if one.matured] == [NIGHT - 4 * DAY]
    (told,) = hook.got
    assert told["title"].startswith(f"LTR {NIGHT}: S")
    assert "S is lower: its median is 0.2" in told["message"]


def test_a_night_that_never_landed_is_a_fault(airflow_database: None, settings: Settings) -> None:
    assert run(night="2031-01-01") == "failed"
