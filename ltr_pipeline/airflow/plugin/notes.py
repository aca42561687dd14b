"""The note on each nightly and hourly run in Airflow's UI: how it ended, why, and where its report is.

A task cannot write a note on its own run, so the scheduler does when the run ends, from what its tasks handed on as
XComs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow.listeners import hookimpl
from airflow.utils.state import TaskInstanceState

from ltr_pipeline.airflow.keys import AT_HAND, FAILURE_KEY, JUDGED, OUTCOME_KEY

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

__all__ = ["Notes"]

_BEGINNINGS: Final = ("Published ", "Kept the former version: ", "No model was trained: ", "Failed ", AT_HAND)
_LONGEST: Final = 1000  # characters, as Airflow's column has
_ROOM: Final = 450  # of them for the reason: the rest is said after it


class Notes:
    """Listens to runs that end."""

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun) -> None:
        """Note how a run ended that was judged."""
        if dag_run.dag_id in JUDGED:
            with _in_session(dag_run) as (run, session):
                for outcome in _handed(run, session, OUTCOME_KEY).values():
                    _note(run, *_ended(outcome))

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """Note which task failed, why, and what to do."""
        if dag_run.dag_id in JUDGED:
            with _in_session(dag_run) as (run, session):
                _forget_deadline(run, session)
                failed = run.get_task_instances([TaskInstanceState.FAILED], session=session)
                tasks = [task.task_id for task in failed]
                _note(run, *_failed(tasks, _handed(run, session, FAILURE_KEY), msg))


@contextmanager
def _in_session(dag_run: DagRun) -> Iterator[tuple[DagRun, Session]]:
    """Yield the run in the session of the scheduler, who commits it; a run at hand is in none, so in a new one."""
    from airflow.utils.session import create_session
    from sqlalchemy.orm import object_session

    if session := object_session(dag_run):
        yield dag_run, session
    else:
        with create_session() as session:
            yield session.get_one(type(dag_run), dag_run.id), session


def _handed(run: DagRun, session: Session, key: str) -> dict[str, Any]:
    """Return what tasks of the run handed on by this name, by task."""
    from airflow.models.xcom import XComModel

    asked = XComModel.get_many(run_id=run.run_id, key=key, dag_ids=run.dag_id)
    found: Iterable[Any] = session.scalars(asked)
    return {xcom.task_id: XComModel.deserialize_value(xcom) for xcom in found}


def _forget_deadline(run: DagRun, session: Session) -> None:
    """Let a run that has ended not be told as late, and be cleared.

    Airflow answers a clear with an error while a deadline is open: https://github.com/apache/airflow/issues/70368.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.deadline import Deadline

    Deadline.prune_deadlines(session=session, conditions={DagRun.id: run.id})


def _ended(outcome: Mapping[str, Any]) -> tuple[str, str]:
    version = outcome["version"]
    published = f"Published {version}" if outcome["moved"] else f"Published {version}, but `latest` did not move"
    there = outcome["report"]  # none where there was nothing to judge
    report = f"Report: {there} (`ltr report {outcome['run']} --open` shows it)" if there else ""
    alarm = outcome.get("alarm")  # of a task before an upgrade there is none
    more = f"{_shortened(alarm)}\n\n{report}" if alarm else report
    kept = "Kept the former version" if outcome.get("due", True) else "No model was trained"
    return f"{published if version else kept}: {outcome['reason']}.", more


def _failed(tasks: Sequence[str], reasons: Mapping[str, str], msg: str) -> tuple[str, str]:
    """Say where and why, and what to do; who failed before publishing cannot have moved `latest`."""
    why = " ".join(f"Failed in {task}: {reasons.get(task, 'its log says why').rstrip('.')}." for task in tasks)
    unknown = not tasks or {"publish_weights", "notify", "refresh_ranker"}.intersection(tasks)
    stays = "`ltr versions` says whether `latest` has moved" if unknown else "`latest` stays as it was"
    clear = "clear this task with all after it" if tasks else "clear the tasks that have not ended"
    more = f"{stays}. When the cause is gone, {clear}: the run goes on where it stopped."
    return why or f"Failed, but no task did ({msg}).", more


def _note(run: DagRun, why: str, more: str) -> None:
    """Write a note, unless a person has written one."""
    if not run.note or run.note.startswith(_BEGINNINGS):
        run.note = f"{_shortened(why)}\n\n{more}".strip()[:_LONGEST]


def _shortened(text: str) -> str:
    """Return text that leaves room for the rest of the note, of characters that every database takes."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable if len(printable) <= _ROOM else f"{printable[:_ROOM]} …"
