"""Callbacks that Airflow calls when a task has failed for good or a run is late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

__all__ = ["deadline_missed", "task_failed"]


def task_failed(context: Mapping[str, Any]) -> None:
    """Tell the notification channels that a task failed, and why."""
    from ltr_pipeline import outcomes

    instance = context["task_instance"]
    error = context.get("exception") or "the task ended without an exception; it may have been killed"
    outcomes.notify_failure(f"{instance.dag_id} {instance.run_id}", instance.task_id, error, logs=instance.log_url)


async def deadline_missed(limit: str, context: Mapping[str, Any] | None = None) -> None:
    """Tell the notification channels that a run has not finished within `limit`."""
    from ltr_pipeline import outcomes

    run = (context or {}).get("dag_run") or {}
    await asyncio.to_thread(
        outcomes.notify_late, f"{run.get('dag_id', 'train_ltr_daily')} {run.get('dag_run_id', '')}", limit
    )
