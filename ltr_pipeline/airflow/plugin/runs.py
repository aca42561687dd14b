"""From a run of a DAG, as Airflow names it, to our run, which is named after its moment."""

from __future__ import annotations

import datetime as dt

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

from ltr_pipeline.runs.names import run_name
from ltr_pipeline.schedule import night_of

__all__ = ["our_run"]


def our_run(dag: str, run_id: str) -> str | None:
    """Return the name of our run, as `airflow.runtime.run_request` names it; None where Airflow has no such run."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag, DagRun.run_id == run_id))
        if run is None:
            return None
        conf = run.conf if isinstance(run.conf, dict) else {}
        asked, moment = conf.get("date"), run.logical_date or run.run_after
    if isinstance(asked, str) and asked:
        try:
            moment = night_of(dt.date.fromisoformat(asked))
        except ValueError:
            return None
    return run_name(moment)
