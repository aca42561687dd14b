"""A run at hand in Airflow's database: marked, the only one of its DAG, and never left there as running.

A scheduler sees such a run as any other, and would take its tasks where the DAG is switched on. So they are in a pool
without slots, of which no scheduler takes any. While the run is under way, a record beside Airflow's database names it
and its process: who finds the record of a process that is gone marks its run as failed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import msgspec
from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.configuration import AIRFLOW_HOME
from airflow.jobs.job import most_recent_job
from airflow.models import dagrun
from airflow.models.dag import DagModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunType
from sqlalchemy import select
from sqlalchemy.orm import Session

from ltr_pipeline.airflow.keys import AT_HAND, FAILURE_KEY
from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.programs import identity, lives
from ltr_pipeline.registry import me

__all__ = ["POOL", "alone", "fail_killed"]

POOL: Final = "run_at_hand"
ABOUT_POOL: Final = "Tasks of runs at hand, which `ltr run` runs itself: no slots, so that no scheduler takes them."


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """A run at hand, and the `identity` of its process."""

    run_id: str
    process: str


@contextlib.contextmanager
def alone(dag: DAG) -> Iterator[dt.datetime]:
    """Let ``dag.test()`` run at the moment that is given, marked and as the only run; what is left of it has failed.

    Raises
    ------
    ProgramError
        Another run of the DAG is under way, or about to be.
    """
    fail_killed(dag.dag_id)
    with create_session() as session:
        Pool.create_or_update_pool(POOL, 0, ABOUT_POOL, include_deferred=False, session=session)
        _check_alone(dag, session)
    for task in dag.tasks:
        task.pool = POOL
    moment = dt.datetime.now(dt.UTC)
    run_id = DagRun.generate_run_id(run_type=DagRunType.MANUAL, logical_date=moment, run_after=moment)
    record = _record(dag.dag_id)
    record.write_bytes(msgspec.json.encode(_Record(run_id=run_id, process=identity(os.getpid()))))
    create = partial(_create, dagrun.get_or_create_dagrun, dag)
    try:
        # dag.test() offers no other way to a run that is marked from its begin and was looked at before its first task.
        with patch.object(dagrun, "get_or_create_dagrun", create):
            yield moment
    except BaseException as error:
        _fail(dag.dag_id, run_id, str(error) or type(error).__name__)
        raise
    finally:
        record.unlink(missing_ok=True)


def fail_killed(dag_id: str) -> None:
    """Mark the run at hand as failed whose process was killed and so could not."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):  # it may have been killed while it wrote that
        left = msgspec.json.decode(_record(dag_id).read_bytes(), type=_Record)
        if not lives(left.process):
            _fail(dag_id, left.run_id, "its process was killed")
            _record(dag_id).unlink(missing_ok=True)


def _record(dag_id: str) -> Path:
    return Path(AIRFLOW_HOME) / f"{dag_id}.at_hand.json"


def _create(create: Any, dag: DAG, /, *, session: Session, **given: Any) -> DagRun:  # noqa: ANN401 - Airflow's own
    """Create the run with its mark, and take it back when a scheduler has begun another at the same time.

    A scheduler that looks later sees this one, and keeps to the DAG's `max_active_runs`.
    """
    run: DagRun = create(session=session, **given | {"triggering_user_name": f"{me()}, by ltr run"})
    run.note = f"{AT_HAND} by {me()}, process {os.getpid()}: no scheduler takes its tasks (pool {POOL})."
    session.commit()
    try:
        _check_alone(dag, session, but=run.run_id)
    except ProgramError:
        session.delete(run)
        session.commit()
        raise
    return run


def _check_alone(dag: DAG, session: Session, but: str = "") -> None:
    """Raise ProgramError when another run is under way, or queued where a scheduler may begin it at any moment."""
    switched_on = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag.dag_id)) is False
    scheduler = most_recent_job("SchedulerJob", session=session)
    scheduled = scheduler is not None and scheduler.is_alive()
    states = [DagRunState.RUNNING, *([DagRunState.QUEUED] if switched_on and scheduled else [])]
    runs = session.scalars(select(DagRun).where(DagRun.dag_id == dag.dag_id, DagRun.state.in_(states)))
    for run in runs:
        if run.run_id != but and not _is_over(run, dag):
            more = "" if scheduled else "; no scheduler is at work (`make up` starts one)"
            raise ProgramError(
                f"{dag.dag_id} is not run: two runs at once would use the same data, and its run {run.run_id} is "
                f"{_under_way(run)}{more}; wait until it has ended or, if nothing runs it any more, mark it as failed "
                "in Airflow's UI"
            )


def _is_over(run: DagRun, dag: DAG) -> bool:
    """Return whether a run has passed the DAG's limit: any scheduler that looks at it marks it as failed."""
    limit, begun = dag.dagrun_timeout, run.start_date
    return bool(limit and begun and begun < dt.datetime.now(dt.UTC) - limit)


def _under_way(run: DagRun) -> str:
    by = f" ({run.triggering_user_name})" if run.triggering_user_name else ""
    since = f"running since {run.start_date:%Y-%m-%d %H:%M} UTC" if run.start_date else "running"
    return f"{since if run.state == DagRunState.RUNNING else 'queued'}{by}"


def _fail(dag_id: str, run_id: str, why: str) -> None:
    """Mark a run that has not ended as failed, as the UI does, for a reason that its note then says."""
    with create_session() as session:
        session.rollback()  # it is that of dag.test(), which may have been interrupted anywhere
        run = session.scalar(
            select(DagRun).where(
                DagRun.dag_id == dag_id,
                DagRun.run_id == run_id,
                DagRun.state == DagRunState.RUNNING,
                DagRun.clear_number == 0,  # else it is a scheduler's by now
            )
        )
        dag = run and DBDagBag().get_dag_for_run(dag_run=run, session=session)
        if run is None or dag is None:
            return
        for task in run.get_task_instances([TaskInstanceState.RUNNING], session=session):
            XComModel.set(FAILURE_KEY, why, dag_id=dag_id, task_id=task.task_id, run_id=run_id, session=session)
        set_dag_run_state_to_failed(dag=dag, run_id=run_id, commit=True, session=session)
        session.flush()
        run.notify_dagrun_state_changed(msg=why)
