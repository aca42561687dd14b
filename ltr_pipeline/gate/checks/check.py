"""One line of the gate table: what was seen, what it was held against, and what that means."""

from __future__ import annotations

from typing import Literal

import msgspec

from ltr_pipeline.gate.figures import signed
from ltr_pipeline.metrics.quality import Delta

__all__ = ["Check", "Status", "between", "checked", "side", "versus"]

Status = Literal["pass", "fail", "inconclusive", "not_evaluable", "skipped"]


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the gate table.

    Attributes
    ----------
    status
        ``pass``; ``fail``: blocks, always; ``inconclusive``: the data cannot decide; ``not_evaluable``: there is no
        such data; ``skipped``: does not apply, never blocks.
    observed, low, high
        What was seen and its 95 % interval, in `unit`; None where there is none.
    threshold
        What it was held against.
    reason
        What the status means, in plain words.
    """

    name: str
    status: Status
    observed: float | None
    low: float | None
    high: float | None
    threshold: float | None
    unit: str
    reason: str


def checked(
    name: str,
    status: Status,
    reason: str,
    *,
    observed: float | None = None,
    low: float | None = None,
    high: float | None = None,
    threshold: float | None = None,
    unit: str = "",
) -> Check:
    """Make a check; there is no figure where none is given."""
    return Check(
        name=name, status=status, observed=observed, low=low, high=high, threshold=threshold, unit=unit, reason=reason
    )


def versus(name: str, status: Status, reason: str, delta: Delta, threshold: float) -> Check:
    """Make a check of a difference and its interval."""
    return checked(name, status, reason, observed=delta.value, low=delta.low, high=delta.high, threshold=threshold)


def between(delta: Delta) -> str:
    """Write the interval of a difference."""
    return f"95 % CI {signed(delta.low)} to {signed(delta.high)}"


def side(status: Status) -> str:
    """Say on which side of a minimum the figure is."""
    return "not below" if status == "pass" else "below"
