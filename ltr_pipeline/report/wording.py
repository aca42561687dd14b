"""Gate checks in people's words: the same on the report, in notifications and on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ltr_pipeline.gate.figures import decimal, signed
from ltr_pipeline.gate.policy import RECENT_DAYS
from ltr_pipeline.report.message import Table

if TYPE_CHECKING:  # a figure is written without loading what computes it
    from ltr_pipeline.gate.checks.check import Check
    from ltr_pipeline.gate.decision import Decision

__all__ = ["GATE_COLUMNS", "NONE", "STATUS", "figure", "gate_rows", "gate_table", "interval", "label", "limit", "named"]

Kind = Literal["score", "delta", "ms", "count", "share"]

STATUS = {
    "pass": "pass",
    "fail": "fail",
    "inconclusive": "inconclusive",
    "not_evaluable": "not evaluable",
    "skipped": "skipped",
}
"""How each status is written."""

GATE_COLUMNS: Final = ("Check", "Observed", "95 % CI", "Threshold", "Verdict")
"""Heads of the gate table."""

NONE = "–"
"""The sign that stands where there is no value."""


class _Words(NamedTuple):
    label: str
    side: Literal["≥", "CI >", "≤", ""]
    kind: Kind


_CHECKS = {
    "trained": _Words("Trees", "≥", "count"),
    "ndcg_at_5": _Words("nDCG@5", "≥", "score"),
    "beats_random": _Words("Against random order", "CI >", "delta"),
    "fairness_gap": _Words("Fairness gap", "≤", "score"),
    "unknown_groups": _Words("Unknown groups", "≤", "share"),
    "latency_p95": _Words("Latency p95", "≤", "ms"),
    "samples": _Words("Training impressions", "≥", "count"),
    "queries": _Words("Test rankings", "≥", "count"),
    "champion": _Words("Against the champion", "CI >", "delta"),
    "best_recent": _Words(f"Against the best of {RECENT_DAYS} days", "CI >", "delta"),
    "parent_delta": _Words("Against its parent, lately", "", "delta"),
    "coin": _Words("Coin check", "", "share"),
    "unbiased_delta": _Words("By coin pairs", "CI >", "delta"),
    "suspicious_gain": _Words("Too good to be true", "≤", "delta"),
    "feature_audit": _Words("Suspicious features", "≤", "count"),
    "feature_change": _Words("Change of a feature", "≤", "score"),
    "fresh_events": _Words("New events", "≥", "count"),
    "quarantined_share": _Words("Quarantined records", "≤", "share"),
    "lost_share": _Words("Lost records", "≤", "share"),
    "unjoined_share": _Words("Feedback without an impression", "≤", "share"),
}


def _words(name: str) -> _Words:
    return _CHECKS.get(name) or _Words(name.replace("_", " "), "", "score")


def figure(value: float | None, kind: Kind = "score") -> str:
    """Write a value as people read it; an en dash for None.

    >>> figure(0.71234), figure(-0.0042, "delta"), figure(8.4, "ms"), figure(123456, "count"), figure(0.0123, "share")
    ('0.712', '−0.004', '8.40 ms', '123,456', '1.23 %')
    """
    if value is None:
        return NONE
    match kind:
        case "delta":
            return signed(value)
        case "ms":
            return f"{value:.2f} ms"
        case "count":
            return f"{value:,.0f}"
        case "share":
            return f"{100 * value:.2f} %"
        case _:
            return decimal(value)


def label(check: Check) -> str:
    """Return the name of a check for people."""
    return named(check.name)


def named(check: str) -> str:
    """Return the name for people of the check that is so named.

    >>> named("ndcg_at_5"), named("one_of_another_release")
    ('nDCG@5', 'one of another release')
    """
    return _words(check).label


def observed(check: Check) -> str:
    """Write the observed value of a check."""
    return figure(check.observed, _words(check.name).kind)


def interval(check: Check) -> str:
    """Write the 95 % interval of the observed value, such as ``0.684 to 0.740``."""
    if check.low is None or check.high is None:
        return NONE
    kind = _words(check.name).kind
    return f"{figure(check.low, kind)} to {figure(check.high, kind)}"


def limit(check: Check) -> str:
    """Write the threshold of a check, such as ``≥ 0.650``."""
    if check.threshold is None:
        return NONE
    words = _words(check.name)
    value = {"ms": f"{check.threshold:g} ms", "share": f"{100 * check.threshold:g} %"}.get(words.kind)
    return f"{words.side} {value or figure(check.threshold, words.kind)}".strip()


def side(check: Check) -> str:
    """Return how the observed value must compare with the threshold: ``≥``, ``≤``, or ``CI >`` for the interval."""
    return _words(check.name).side


def gate_rows(decision: Decision) -> list[tuple[str, str, str, str, str]]:
    """Write the cells of every check, see `GATE_COLUMNS`."""
    return [(label(c), observed(c), interval(c), limit(c), STATUS[c.status]) for c in decision.checks]


def gate_table(decision: Decision) -> Table:
    """Return the gate table as a part of a message."""
    return Table(GATE_COLUMNS, gate_rows(decision))
