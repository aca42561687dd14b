"""Checks of how equally well groups of people are ranked."""

from __future__ import annotations

import math
from typing import Final

from msgspec.structs import replace

from ltr_pipeline.gate.checks.check import Check, Status, checked
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics.fairness import Fairness, Gap, corrected

__all__ = ["fairness_gap", "unknown_groups"]

_SEVERITY: Final = ("pass", "inconclusive", "fail")


def fairness_gap(fairness: Fairness, policy: Policy) -> Check:
    """Judge pure and mixed rankings each by themselves; the worse result counts."""
    name, limit = "fairness_gap", policy.fairness_max
    if not fairness.configured:
        return checked(name, "skipped", f"no groups configured: {fairness.reason}", threshold=limit)
    judged = [_gap(gap, limit, of_both=len(fairness.judged) > 1) for gap in fairness.judged]
    worst = max(judged, key=lambda check: _SEVERITY.index(check.status), default=None)
    if worst is None or (not fairness.evaluable and worst.status == "pass"):
        reason = f"the fairness gap cannot be judged: {fairness.reason}"
        unjudged = worst or checked(name, "not_evaluable", reason, threshold=limit)
        return replace(unjudged, status="not_evaluable", reason=reason)
    return worst


def _gap(gap: Gap, limit: float, *, of_both: bool) -> Check:
    """Pass within the limit where twice the limit is ruled out; fail above it where no noise explains that."""
    found, noise = gap.corrected_gap or 0.0, gap.noise or 0.0
    upper = math.inf if gap.upper is None else gap.upper  # a former release did not measure it
    where = f" in {gap.kind} rankings" if of_both else ""
    said = f"the fairness gap{where} is {found:.3f} after noise correction (raw {gap.gap or 0.0:.3f})"
    status: Status
    if found > limit:
        shown = (gap.gap or 0.0) > (gap.null_p95 or 0.0) and (gap.corrected_p20 or 0.0) > limit
        status = "fail" if shown else "inconclusive"
        reason = f"{said}, above the limit of {limit:g}{'' if shown else ', but noise may explain that'}"
    elif upper > 2 * limit:
        status = "inconclusive"
        reason = f"{said}, but up to {upper:.3f} cannot be ruled out, above twice the limit of {limit:g}"
    else:
        status, reason = "pass", f"{said}, within the limit of {limit:g}; more than {upper:.3f} is ruled out"
    low, high = (corrected(end or 0.0, noise) for end in (gap.low, gap.high))
    return checked("fairness_gap", status, reason, observed=found, low=low, high=high, threshold=limit)


def unknown_groups(fairness: Fairness, policy: Policy) -> Check:
    """Fail where too many impressions are of no group that can be judged."""
    name, limit = "unknown_groups", policy.unknown_group_share_max
    if not fairness.configured:
        return checked(name, "skipped", f"no groups configured: {fairness.reason}", threshold=limit)
    share = fairness.unknown_share + fairness.pooled_share
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    rare = f", {100 * fairness.pooled_share:.1f} % one too rare to judge" if fairness.pooled else ""
    found = f"{100 * fairness.unknown_share:.1f} % of the test impressions have no protected group{rare}"
    reason = f"{found}, {side} {100 * limit:g} %"
    return checked(name, status, reason, observed=share, threshold=limit)
