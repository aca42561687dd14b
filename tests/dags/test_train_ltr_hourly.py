"""The real hourly DAG, run by Airflow in this process: the refresh, its Asset, its note, what is kept or fails."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from ltr_pipeline.jobs import hourly
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.storage.lease import Terms, held
from support.dagruns import moved_events, note
from support.hours import HOUR, LATE, REFRESH, a_day_after_a_night, copied
from support.small import LENIENT, RUN
from support.webhook import Server, running


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hourly")
    a_day_after_a_night(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    copied(template, tmp_path)
    places = {
        "EVENTS_PATH": template / "audit.log",
        "DATA_URI": tmp_path / "data",
        "REGISTRY_URI": tmp_path / "registry",
    }
    for name, place in places.items():
        monkeypatch.setenv(f"LTR_{name}", str(place))
    monkeypatch.setenv("LTR_WINDOW_DAYS", "12")
    monkeypatch.setenv("LTR_BUCKETS", "2")
    for name, value in LENIENT.items():
        monkeypatch.setenv(f"AIRFLOW_VAR_{name.upper()}", value)
    return load_settings()


@pytest.fixture
def dag(airflow_database: None) -> DAG:
    """The hourly DAG; it waits for nothing before it tries a task again."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag("dags").dags["train_ltr_hourly"]
    for task in dag.tasks:
        task.retry_delay = dt.timedelta()
        task.retry_exponential_backoff = 0
    return dag


def run(dag: DAG, at: dt.datetime = LATE, **params: Any) -> Any:
    return dag.test(logical_date=at, run_after=at, run_conf=params)


def tries(done: Any) -> int:
    (instance,) = done.get_task_instances()
    return int(instance.try_number)


def test_a_refresh_is_published_told_to_followers_and_noted(dag: DAG, settings: Settings) -> None:
    done = run(dag)
    assert done.state == "success"
    assert settings.registry.promoted() == REFRESH
    (event,) = moved_events(done.run_id)
    assert (event["version"], event["mode"], event["latest"]) == (REFRESH, "refit", REFRESH)
    assert event["metrics"]["ndcg_at_5"] == settings.registry.load(REFRESH).ndcg_at_5
    said = note(done.run_id)
    assert said.startswith(f"Published {REFRESH}: latest moved from {RUN} to {REFRESH}.")
    assert said.endswith(f"refreshes/{REFRESH}/report.html (`ltr report {REFRESH} --open` shows it)")
    (move,) = [move for move in settings.registry.history() if move.version == REFRESH]
    assert move.who == f"airflow/{done.run_id}"


def test_where_there_is_nothing_to_refresh_the_run_is_green_and_its_note_says_why(
    dag: DAG, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hourly, "TERMS", Terms(patience=0.1))
    with held(settings.data, "landing", "the run 20250716_0215"):
        done = run(dag, LATE + HOUR)
    assert done.state == "success"
    assert moved_events(done.run_id) == []
    said = note(done.run_id)
    assert said.startswith(f"Kept the former version: {RUN} stays in use: the run 20250716_0215 (process ")
    assert said.endswith("try again.")
    assert settings.registry.promoted() == RUN


def test_a_dry_run_judges_alone(dag: DAG, settings: Settings) -> None:
    done = run(dag, LATE + 2 * HOUR, dry_run=True)
    assert done.state == "success"
    assert note(done.run_id).startswith("Kept the former version: ")
    assert [move.version for move in settings.registry.history()] == [RUN]


def test_what_time_may_heal_is_tried_again_and_goes_on(
    dag: DAG, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ltr_pipeline.errors import StorageError

    build, broken = hourly.build_fresh, [True]

    def once(*given: Any) -> Any:
        if broken.pop() if broken else False:
            raise StorageError("the storage was away")
        return build(*given)

    monkeypatch.setattr(hourly, "build_fresh", once)
    done = run(dag, LATE + 3 * HOUR)
    assert (done.state, tries(done)) == ("success", 2)
    assert settings.registry.promoted() == "20250716_0235"


def test_a_fault_is_red_changes_nothing_and_is_told_once(
    dag: DAG, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LTR_NDCG_MIN", "high")
    with running(Server()) as webhook:
        monkeypatch.setenv("LTR_NOTIFY_URLS", f"json://127.0.0.1:{webhook.port}")
        done = run(dag, LATE + 4 * HOUR)
        assert (done.state, tries(done)) == ("failed", 1)
        (told,) = webhook.got
        assert "train_ltr_hourly" in told["title"]
        assert "ltr_ndcg_min" in told["message"]
        said = note(done.run_id)
        assert said.startswith("Failed in refresh_ranker: ")
        assert "`ltr versions` says whether `latest` has moved" in said
        again = run(dag, LATE + 5 * HOUR)
        assert again.state == "failed"
        assert len(webhook.got) == 1
    assert settings.registry.promoted() == RUN
