"""Checks that a gain is true: that the model knows neither where items were shown nor what came of it."""

from __future__ import annotations

from ltr_pipeline.gate.checks.check import Check, Status, between, checked, versus
from ltr_pipeline.gate.checks.rivals import who, without
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.suspects import suspicions
from ltr_pipeline.metrics.coins import MIN_PAIRS, CoinCheck

__all__ = ["coin", "doubt", "feature_audit", "suspicious_gain"]


def coin(coins: CoinCheck | None) -> Check:
    """Fail on proof that the scores know the coin, however few pairs there are; pass only where there are enough."""
    name = "coin"
    if coins is None:
        return checked(name, "skipped", "no position was logged, so no coin is known", threshold=0.5)
    seen = f"the upper item has the higher score in {100 * (coins.share or 0):.1f} % of {coins.pairs:,} coin pairs"
    status: Status
    if coins.knows:
        status = "fail"
        reason = f"the model knows where items were shown: {seen}, where a coin decided (p = {coins.p_value:.1g})"
    elif coins.may_know:
        status = "inconclusive"
        reason = f"the model may know where items were shown: {seen}, where a coin decided (p = {coins.p_value:.1g})"
    elif coins.enough:
        status, reason = "pass", f"{seen}, as a coin would have it (p = {coins.p_value:.2f})"
    else:
        status, reason = "skipped", _too_few(coins)
    return checked(name, status, reason, observed=coins.share, low=coins.low, high=coins.high, threshold=0.5)


def _too_few(coins: CoinCheck) -> str:
    """Say what is missing to clear a model, which share of the rankings to explore, and from when on that suffices."""
    if coins.pairs >= MIN_PAIRS:
        return f"{coins.pairs:,} coin pairs, but of too few users"
    found = f"there are only {coins.pairs:,} coin pairs" if coins.rankings else "no test ranking was explored"
    if coins.suffices is None:
        way_out = "these test days have too few rankings, even if all were explored; raise ltr_min_queries to have more"
    else:
        since = f", from {coins.ready:%Y-%m-%d} on" if coins.ready else ""
        way_out = f"LTR_EXPLORE_SHARE={coins.suffices:g} in the service would suffice{since}"
    return f"{found}, and to clear a model takes {MIN_PAIRS} coin pairs: {way_out}"


def doubt(coin: Check, unbiased: Check, *, audit: bool | None) -> str:
    """Say what is missing until a large gain counts as true: both the coins and an audit clear it; empty where they do.

    Parameters
    ----------
    audit
        Whether no feature looks as if it were logged after the fact; None where that was not examined.
    """
    if coin.status != "pass":
        return f"nothing clears it: {coin.reason}" if coin.status == "skipped" else "the coin check does not clear it"
    if audit is None:
        return "the features were not audited"
    if not audit:
        return "the feature audit does not clear it"
    return "coin pairs say that it is worse" if unbiased.status == "fail" else ""


def suspicious_gain(champion: Comparison, policy: Policy, *, doubt: str) -> Check:
    """Pass when a gain above the limit is ruled out, or no `doubt` is left; against hand-set weights, when unseen."""
    name, limit, delta, other = "suspicious_gain", _largest_gain(champion, policy), champion.delta, who(champion)
    if champion.kind == "none":
        return checked(name, "skipped", champion.reason or "nothing to compare with", threshold=limit)
    if delta is None:
        return checked(name, "not_evaluable", f"not comparable with {other}", threshold=limit)
    gain = f"{signed(delta.value)} nDCG@5 ({between(delta)}) against {other}{without(champion)}"
    if (delta.value if champion.kind == "legacy_linear" else delta.high) <= limit:
        return versus(name, "pass", f"a plausible gain: {gain}", delta, limit)
    if not doubt:
        return versus(name, "pass", f"a large gain, which coins and the feature audit clear: {gain}", delta, limit)
    found = "too good to be true" if delta.value > limit else f"a gain above {limit:.3g} cannot be ruled out"
    held = "ltr_suspicious_gain_share" if limit < policy.suspicious_gain else "ltr_suspicious_gain"
    reason = f"{found}: {gain}; {doubt}; look for a feature that knows the outcome, or raise {held}"
    return versus(name, "inconclusive", reason, delta, limit)


def _largest_gain(rival: Comparison, policy: Policy) -> float:
    """Return the gain that is not suspicious: where little is left to be gained, a share of that."""
    reached = rival.metrics.ndcg_at_5.value if rival.metrics else None
    if reached is None:
        return policy.suspicious_gain
    return min(policy.suspicious_gain, policy.suspicious_gain_share * (1 - reached))


def feature_audit(evidence: Evidence) -> Check:
    """Fail where a feature knows the outcome; where one only looks as if it did, somebody has to look."""
    name = "feature_audit"
    if not evidence.audit:
        return checked(name, "skipped", "the features were not audited", threshold=0, unit="features")
    found = suspicions(evidence.audit)
    if not found:
        reason = "no feature looks as if it knew the outcome"
        return checked(name, "pass", reason, observed=0, threshold=0, unit="features")
    status: Status = "fail" if any(one.sure for one in found) else "inconclusive"
    reason = "; ".join(one.what for one in found)
    return checked(name, status, reason, observed=len(found), threshold=0, unit="features")
