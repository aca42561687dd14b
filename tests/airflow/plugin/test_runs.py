"""Which run of ours a run of Airflow's is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType

from ltr_pipeline.airflow.plugin.runs import our_run

NIGHT = dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC)
BEGUN = dt.datetime(2025, 7, 16, 9, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("dag", "moment", "conf", "ours"),
    [
        ("train_ltr_daily", NIGHT, {}, "20250715_0215"),
        ("train_ltr_daily", None, None, "20250716_0930"),
        ("train_ltr_daily", None, {"date": "2025-07-01"}, "20250701_0215"),
        ("train_ltr_daily", None, {"date": "yesterday"}, None),
        ("train_ltr_hourly", NIGHT.replace(hour=10, minute=35), {}, "20250715_1035"),
    ],
)
def test_a_run_is_named_as_its_task_named_it(
    airflow_database: None, dag: str, moment: dt.datetime | None, conf: Any, ours: str | None
) -> None:
    with create_session() as session:
        run = DagRun(
            dag_id=dag,
            run_id="one",
            run_type=DagRunType.MANUAL,
            state=DagRunState.SUCCESS,
            logical_date=moment,
            run_after=BEGUN,
            conf=conf,
        )
        session.add(run)
    try:
        assert our_run(dag, "one") == ours
        assert our_run("another", "one") is None
    finally:
        with create_session() as session:
            session.delete(session.get_one(DagRun, run.id))
