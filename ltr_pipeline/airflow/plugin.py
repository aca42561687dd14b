"""The note on each nightly run in Airflow's UI: how it ended, why, and where its report is.

A task cannot write a note on its own run, so the scheduler does when the run ends, from what the last task handed on.
It loads this plugin by the package's entry point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

__all__ = ["OUTCOME_KEY", "LtrPlugin"]

OUTCOME_KEY: Final = "outcome"
"""XCom of the task that published or kept: its outcome and the address of the report."""

_BEGINNINGS: Final = ("Published", "Kept", "Failed")


class _Notes:
    """Listens to runs that end."""

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun) -> None:
        """Note how a run ended that was judged."""
        if outcome := _outcome(dag_run):
            version = outcome.get("version")
            begins = f"Published {version}" if version else "Kept the former version"
            _note(dag_run, f"{begins}: {outcome['reason']}.", f"Report: {outcome['report']}")

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """Note which tasks failed, and what to do."""
        if dag_run.dag_id in _DAGS:
            failed = [instance.task_id for instance in dag_run.get_task_instances() if instance.state == "failed"]
            where = f"in {', '.join(sorted(failed))}" if failed else f"({msg})"
            what = "`latest` stays as it was. The task's log says why and what to do; then clear it and all after it."
            _note(dag_run, f"Failed {where}.", what)


def _outcome(dag_run: DagRun) -> dict[str, Any] | None:
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None or dag_run.dag_id not in _DAGS:
        return None
    asked = XComModel.get_many(run_id=dag_run.run_id, key=OUTCOME_KEY, dag_ids=dag_run.dag_id, limit=1)
    found = session.scalars(asked).first()
    return XComModel.deserialize_value(found) if found else None


def _note(dag_run: DagRun, *paragraphs: str) -> None:
    """Write a note, unless a person has written one."""
    if not dag_run.note or dag_run.note.startswith(_BEGINNINGS):
        dag_run.note = "\n\n".join(paragraphs)[:_LONGEST]


_DAGS: Final = ("train_ltr_daily",)
_LONGEST: Final = 1000  # characters, as Airflow's column has


class LtrPlugin(AirflowPlugin):
    """What this package adds to Airflow."""

    name = "ltr_pipeline"
    listeners = [_Notes()]  # noqa: RUF012 - Airflow's own form
