"""Checks of the challenger by itself: whether there is a model, how well it ranks, and how fast."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.gate.checks.check import Check, Status, between, checked, side, versus
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics.quality import Estimate
from ltr_pipeline.scoring.latency import Latency

__all__ = ["RANDOM_MARGIN", "beats_random", "latency_p95", "ndcg_at_5", "trained"]

RANDOM_MARGIN: Final = 0.01
"""How much better than random order the whole interval must be: at 0, one random ranker in forty would pass."""


def trained(evidence: Evidence) -> Check:
    """Fail where there was nothing to learn from."""
    status: Status = "fail" if evidence.untrained else "pass"
    reason = evidence.untrained or f"a model of {evidence.trees:,} trees was trained"
    return checked("trained", status, reason, observed=evidence.trees, threshold=1, unit="trees")


def ndcg_at_5(found: Estimate, policy: Policy, without: str = "no test ranking is eligible") -> Check:
    """Hold the estimate itself against the minimum; `without` says why there is none."""
    status: Status
    if found.value is None:
        status, reason = "not_evaluable", f"{without}, so there is no nDCG@5"
    else:
        status = "pass" if found.value >= policy.ndcg_min else "fail"
        reason = f"nDCG@5 is {found.value:.3f}, {side(status)} the minimum of {policy.ndcg_min:g}"
    return checked(
        "ndcg_at_5", status, reason, observed=found.value, low=found.low, high=found.high, threshold=policy.ndcg_min
    )


def beats_random(evidence: Evidence) -> Check:
    """Pass where the whole interval is above what random order reaches, and a margin."""
    delta, name = evidence.against_random, "beats_random"
    if delta is None:
        reason = "too few test rankings or users to compare with random order"
        return checked(name, "not_evaluable", reason, threshold=RANDOM_MARGIN)
    interval = f"{signed(delta.value)} nDCG@5 ({between(delta)}) against random order"
    if delta.low > RANDOM_MARGIN:
        return versus(name, "pass", f"better than random: {interval}", delta, RANDOM_MARGIN)
    reason = f"not shown to be better than random by more than {RANDOM_MARGIN:g}: {interval}"
    return versus(name, "fail", reason, delta, RANDOM_MARGIN)


def latency_p95(measured: Latency | None, policy: Policy) -> Check:
    """Hold the 95th percentile of the time to rank a request against the maximum."""
    limit, name = policy.latency_p95_max_ms, "latency_p95"
    if measured is None:
        return checked(name, "not_evaluable", "no test ranking to measure the latency on", threshold=limit, unit="ms")
    found = measured.p95_ms
    status: Status = "pass" if found <= limit else "fail"
    side = "within" if status == "pass" else "above"
    takes = f"ranking a request takes {_how_long(measured)} at the 95th percentile"
    reason = f"{takes}, {side} the limit of {limit:g} ms"
    return checked(name, status, reason, observed=found, threshold=limit, unit="ms")


def _how_long(latency: Latency) -> str:
    """Write the p95 that is judged and, where it was measured, that by the clock beside it."""
    if latency.wall_p95_ms is None:
        return f"{latency.p95_ms:.2f} ms"
    judged = "of processor time" if latency.clock == "cpu" else "undisturbed"
    return f"{latency.p95_ms:.2f} ms {judged} ({latency.wall_p95_ms:.2f} ms by the clock)"
