"""From a running task's context to the plain values that `ltr_pipeline.jobs` takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, Variable

from ltr_pipeline.policy import VARIABLES
from ltr_pipeline.schedule import night_of

__all__ = ["RETRY_POLICY", "gate_variables", "run_request"]

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("ltr_pipeline.errors.StorageError", RetryAction.RETRY, reason="storage may come back"),
        RetryRule("ltr_pipeline.errors.LtrError", RetryAction.FAIL, reason="the same input fails again"),
    ]
)
"""Retry what time can heal; fail at once where the same input would fail the same way."""


def gate_variables() -> dict[str, str]:
    """The Airflow Variables of the gate that are set, read now."""
    values = {variable.name: Variable.get(variable.name, default=None) for variable in VARIABLES}
    return {name: str(value) for name, value in values.items() if value is not None}


def run_request(context: Mapping[str, Any]) -> dict[str, Any]:
    """What one run was asked for: its moment, and the Params that a user set.

    A scheduled run is named after its logical date. A manual one has none and is named after the moment it was
    triggered, unless the Param ``date`` names a day: then it is that day's nightly run.
    """
    params = context["params"]
    if params.get("date"):
        moment = night_of(date.fromisoformat(params["date"]))
    else:
        moment = context.get("logical_date") or context["dag_run"].run_after
    return {
        "moment": moment.astimezone(UTC).isoformat(),
        "window_days": params.get("window_days"),
        "dry_run": bool(params.get("dry_run")),
    }
