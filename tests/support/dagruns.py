"""All that Airflow has of a run that ``dag.test()`` did: what followers of the Asset got, and its note."""

from __future__ import annotations

import json
import sqlite3
from typing import Any


def moved_events(run_id: str) -> list[dict[str, Any]]:
    """Return what the Asset's followers got from a run."""
    from airflow.configuration import conf

    database = sqlite3.connect(conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///"))
    found = database.execute(
        "select e.extra from asset_event e join asset a on a.id = e.asset_id "
        "where a.name = 'ltr_weights' and e.source_run_id = ?",
        [run_id],
    )
    return [json.loads(extra) for (extra,) in found]


def note(run_id: str) -> str:
    """Return what Airflow shows on the page of a run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalars(select(DagRun).where(DagRun.run_id == run_id)).one().note or ""
