"""How every task of these DAGs is retried, and who is told when it fails at last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ltr_pipeline.airflow.callbacks import task_failed
from ltr_pipeline.airflow.runtime import RETRY_POLICY

__all__ = ["task_defaults"]


def task_defaults(longest: timedelta = timedelta(hours=1)) -> dict[str, Any]:
    """Return the ``default_args`` of a DAG; `longest` is the time that a task may take."""
    return {
        "owner": "ranking",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": longest,
        "on_failure_callback": task_failed,
    }
