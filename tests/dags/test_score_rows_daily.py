"""The real DAG that scores rows, run by Airflow in this process, over a real database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRunType

from ltr_pipeline.airflow.runtime import scoring_occasion
from support.commands import A, project, published
from support.databases import opened, run, users

JOBS = """
[lead_score]
kind = "score"
table = "users"
key = "id"
score = "lead_score"
version = "model_version"
features = { A = "a", S = "s" }

[best]
kind = "rank"
table = "users"
query = "writes"
item = "id"
features = { A = "a" }
when = ["published"]
"""


@pytest.fixture
def scoring(airflow_database: None) -> DAG:
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag("dags").dags["score_rows_daily"]
    for task in dag.tasks:
        task.retry_delay = dt.timedelta()
        task.retry_exponential_backoff = 0
    return dag


@pytest.fixture
def states(
    scoring: DAG, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, str]]:
    root = Path.cwd()
    project(tmp_path, monkeypatch)
    monkeypatch.chdir(root)
    published(tmp_path, A)
    (tmp_path / "scoring.toml").write_text(JOBS)
    monkeypatch.setenv("LTR_SCORING", str(tmp_path / "scoring.toml"))
    # PostgreSQL by a Connection, as in production; SQLite by the variable.
    name = "LTR_DATABASE_URL" if database_url.startswith("sqlite") else "AIRFLOW_CONN_LTR_DATABASE"
    monkeypatch.setenv(name, database_url)

    def run_it() -> dict[str, str]:
        done = scoring.test()
        return {
            f"{one.task_id}{one.map_index if one.map_index >= 0 else ''}": str(one.state)
            for one in done.get_task_instances()
        } | {"run": str(done.state)}

    return run_it


def test_every_job_is_done_and_a_second_run_changes_nothing(
    states: Callable[[], dict[str, str]], database_url: str
) -> None:
    with opened(database_url) as database:
        users(database, 250)
        green = {"choose_jobs": "success", "score_job0": "success", "score_job1": "success", "run": "success"}
        assert states() == green
        assert run(database, "SELECT DISTINCT model_version, writes FROM users") == [(A, 1)]
        assert run(database, "SELECT count(*) FROM users WHERE lead_score IS NULL") == [(0,)]
        assert run(database, "SELECT job, state FROM score_runs ORDER BY job") == [
            ("best", "done"),
            ("lead_score", "done"),
        ]
        assert states() == green
        assert run(database, "SELECT DISTINCT writes FROM users") == [(1,)]


def test_what_cannot_be_scored_is_a_red_task_that_is_not_tried_again(
    states: Callable[[], dict[str, str]], database_url: str
) -> None:
    with opened(database_url) as database:
        users(database, 10)
        run(database, "UPDATE users SET a = 1e300")
        assert states()["score_job0"] == "failed"
        assert run(database, "SELECT state FROM score_runs WHERE job = 'lead_score'") == [("rejected",)]


def event(**extra: Any) -> SimpleNamespace:
    return SimpleNamespace(extra=extra)


@pytest.mark.parametrize(
    ("kind", "events", "occasion"),
    [
        ("scheduled", [], "daily"),
        ("manual", [], None),
        ("asset_triggered", [event(version=A)], "published"),
        ("asset_triggered", [event(mode="hourly")], "hourly"),
        ("asset_triggered", [event(mode="hourly"), event(mode="daily")], "published"),
    ],
)
def test_the_occasion_is_why_it_runs(kind: str, events: list[Any], occasion: str | None) -> None:
    for run_type in (kind, DagRunType(kind)):  # the latter is what a task gets
        context = {"dag_run": SimpleNamespace(run_type=run_type), "triggering_asset_events": {"ltr_weights": events}}
        assert scoring_occasion(context) == occasion
