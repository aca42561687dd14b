"""Callbacks that Airflow calls when a task has failed for good, a run was stopped, or a run is late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ltr_pipeline.airflow.keys import FAILURE_KEY
from ltr_pipeline.airflow.runtime import run_settings

__all__ = ["deadline_missed", "hour_failed", "run_failed", "task_failed"]

_TOLD_BY_ITS_TASK = "task_failure"


def task_failed(context: Mapping[str, Any]) -> None:
    """Tell the notification channels and the run's note that a task failed, and why.

    A run at hand that a person has stopped is no news for the channels.
    """
    _failed(context, told_before=False)


def hour_failed(context: Mapping[str, Any]) -> None:
    """Tell as `task_failed` does, but not again where the run before has failed as well: a day has 24 of them."""
    told_before = False
    with suppress(Exception):  # a killed task is told of by the DAG processor, which cannot ask
        before = context["task_instance"].get_previous_dagrun()
        told_before = before is not None and str(getattr(before.state, "value", before.state)) == "failed"
    _failed(context, told_before=told_before)


def _failed(context: Mapping[str, Any], *, told_before: bool) -> None:
    instance, exception = context["task_instance"], context.get("exception")
    error = exception or "the task ended without an exception; it may have been killed"
    if not isinstance(exception, KeyboardInterrupt) and not told_before:
        _tell(f"{instance.dag_id} {instance.run_id}", instance.task_id, error, logs=instance.log_url)
    if exception:  # so this is the task's own process: the DAG processor, which calls for killed ones, cannot push
        with suppress(Exception):  # the channels know
            instance.xcom_push(FAILURE_KEY, str(exception) or type(exception).__name__)


def run_failed(context: Mapping[str, Any]) -> None:
    """Tell the notification channels that a run failed though no task did, such as by its time limit."""
    reason = context.get("reason", "")
    if reason == _TOLD_BY_ITS_TASK:
        return
    limit = context["dag"].dagrun_timeout
    error = f"the run was stopped after its limit of {limit}" if reason == "timed_out" else f"the run failed: {reason}"
    _tell(f"{context['dag'].dag_id} {context['run_id']}", "any task", error)


async def deadline_missed(limit: str, context: Mapping[str, Any] | None = None) -> None:
    """Tell the notification channels that a run has not finished within `limit`."""
    run = (context or {}).get("dag_run") or {}
    error = f"the run has not finished within {limit}; look at it in Airflow"
    await asyncio.to_thread(
        _tell, f"{run.get('dag_id', 'train_ltr_daily')} {run.get('dag_run_id', '')}", "any task", error
    )


def _tell(run: str, task: str, error: BaseException | str, *, logs: str = "") -> None:
    """Tell of a failure with the settings that a task gets, or without: that they are wrong has to be told, too."""
    from ltr_pipeline.report import outcome

    try:
        settings = run_settings()
    except Exception:  # of ours or of Airflow's secrets backend: the task has met it, and `error` says it
        settings = None
    outcome.notify_failure(run, task, error, settings, logs=logs)
