"""Checks that the challenger is not worse than published versions: by clicks, and by what coins decided."""

from __future__ import annotations

from typing import Literal

from ltr_pipeline.gate.checks.check import Check, between, checked, versus
from ltr_pipeline.gate.evidence import Comparison, Evidence, Refreshed
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import RECENT_DAYS, Policy
from ltr_pipeline.metrics.unbiased import UnbiasedDelta

__all__ = ["best_recent", "champion", "parent_delta", "unbiased_delta", "who", "without"]


def champion(evidence: Evidence, policy: Policy) -> Check:
    """Compare with the published version, the first time with the legacy linear weights."""
    return _not_worse("champion", evidence.champion, policy)


def best_recent(evidence: Evidence, policy: Policy) -> Check:
    """Compare with the best other version of the last days."""
    if evidence.best_recent is None:
        reason = f"no version of the last {RECENT_DAYS} days other than the champion"
        return checked("best_recent", "skipped", reason, threshold=-policy.regression_max)
    return _not_worse("best_recent", evidence.best_recent, policy)


def _not_worse(name: str, comparison: Comparison, policy: Policy) -> Check:
    """Pass when a loss above ε is ruled out, fail when it is the best guess, else inconclusive."""
    threshold, delta, other = -policy.regression_max, comparison.delta, who(comparison)
    if comparison.kind == "none":
        return checked(name, "skipped", comparison.reason or "nothing to compare with", threshold=threshold)
    if delta is None:
        why = comparison.reason or "too few rankings or users in common"
        return checked(name, "not_evaluable", f"not comparable with {other}: {why}", threshold=threshold)
    interval = f"{signed(delta.value)} nDCG@5 ({between(delta)}) against {other}{without(comparison)}"
    if _decided(comparison.unbiased, policy):
        advice = f"advice only, since coin pairs decide: {interval} by clicks"
        return versus(name, "skipped", advice, delta, threshold)
    if delta.low > threshold:
        return versus(name, "pass", f"not worse by more than {-threshold:g}: {interval}", delta, threshold)
    if delta.value < threshold:
        sure = "" if delta.high < threshold else "probably "
        return versus(name, "fail", f"{sure}worse by more than {-threshold:g}: {interval}", delta, threshold)
    reason = f"a loss above {-threshold:g} cannot be ruled out: {interval}"
    return versus(name, "inconclusive", reason, delta, threshold)


def unbiased_delta(evidence: Evidence, policy: Policy) -> Check:
    """Judge the champion and the best recent version by coin pairs, where their interval decides; the worse counts."""
    name, threshold = "unbiased_delta", -policy.regression_max
    rivals = [rival for rival in (evidence.champion, evidence.best_recent) if rival and rival.unbiased]
    judged = [_unbiased(rival, rival.unbiased, policy) for rival in rivals if rival.unbiased]
    if not judged:
        reason = "no rival, or too few coin pairs that users answered differently, so clicks decide"
        return checked(name, "skipped", reason, threshold=threshold)
    return max(judged, key=lambda check: ("pass", "skipped", "fail").index(check.status))


def parent_delta(refreshed: Refreshed) -> Check:
    """Fail where a refresh is worse than its parent on the fresh rankings: the whole interval is below 0."""
    name, delta = "parent_delta", refreshed.delta
    if delta is None:
        reason = f"too few fresh rankings or users to compare with {refreshed.parent}, which was refreshed"
        return checked(name, "not_evaluable", reason, threshold=0)
    found = f"{signed(delta.value)} nDCG@5 ({between(delta)}) against {refreshed.parent}, which was refreshed"
    if delta.high < 0:
        return versus(name, "fail", f"worse on fresh rankings: {found}", delta, 0)
    return versus(name, "pass", f"not shown to be worse on fresh rankings: {found}", delta, 0)


def _unbiased(rival: Comparison, delta: UnbiasedDelta, policy: Policy) -> Check:
    name, threshold = "unbiased_delta", -policy.regression_max
    status = _decided(delta, policy)
    found = (
        f"{signed(delta.value)} of {delta.n:,} coin pairs that users answered differently are ordered better than by "
        f"{who(rival)} (95 % CI {signed(delta.low)} to {signed(delta.high)})"
    )
    told = {
        "pass": f"not worse by more than {-threshold:g}, position bias aside: {found}",
        "fail": f"worse by more than {-threshold:g}, position bias aside: {found}",
        None: f"coin pairs are not sure enough to overrule clicks: {found}",
    }
    return checked(
        name,
        status or "skipped",
        told[status],
        observed=delta.value,
        low=delta.low,
        high=delta.high,
        threshold=threshold,
    )


def _decided(delta: UnbiasedDelta | None, policy: Policy) -> Literal["pass", "fail"] | None:
    """Return what coin pairs decide: a loss above ε is ruled out, or a loss is shown and likely above ε; else None.

    A loss is ruled out at 99 %, since that may overrule clicks: at 95 %, the few pairs of a little exploration would do
    so by chance too often, night after night.
    """
    if delta is None:
        return None
    if delta.low_99 > -policy.regression_max:
        return "pass"
    return "fail" if delta.high < 0 and delta.value < -policy.regression_max else None


def who(comparison: Comparison) -> str:
    """Name the ranker that the challenger is compared with."""
    names = {
        "champion": "the champion",
        "best_recent": f"the best version of the last {RECENT_DAYS} days",
        "legacy_linear": "the legacy linear weights",
    }
    return f"{names.get(comparison.kind, 'nothing')} {comparison.version or ''}".strip()


def without(comparison: Comparison) -> str:
    """Say which features of the other ranker are gone, if any."""
    return f", which was scored without {', '.join(comparison.gone)}, as no event has it" if comparison.gone else ""
