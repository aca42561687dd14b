"""The quality gate: evidence and a policy in, a decision out. Pure: no clock, no files, no randomness.

A check that does not pass either fails, is inconclusive (the data cannot decide) or is not evaluable (there is no such
data). ``docs/gate.md`` has the table of what each does to the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import RECENT_DAYS, Policy
from ltr_pipeline.gate.suspects import changed, suspicions
from ltr_pipeline.metrics.changes import FEWEST_CHANGES
from ltr_pipeline.metrics.coins import MIN_PAIRS, CoinCheck
from ltr_pipeline.metrics.fairness import Fairness, Gap, corrected
from ltr_pipeline.metrics.quality import Delta
from ltr_pipeline.metrics.unbiased import UnbiasedDelta
from ltr_pipeline.scoring.latency import Latency

__all__ = ["RANDOM_MARGIN", "Check", "Decision", "blocks", "decide", "doubt", "suspicious_gain"]

RANDOM_MARGIN: Final = 0.01
"""How much better than random order the whole interval must be: at 0, one random ranker in forty would pass."""

MOST_NAMED: Final = 5
"""Features that a reason names."""

Status = Literal["pass", "fail", "inconclusive", "not_evaluable", "skipped"]

_SEVERITY: Final = ("pass", "inconclusive", "fail")


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


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The gate's verdict, the checks it rests on, and the policy that was applied.

    Attributes
    ----------
    verdict
        ``publish`` or ``keep`` the former model.
    checks
        All of them, in the order of the gate table.
    reasons
        Why the former model is kept, in plain words; empty when publishing.
    mode, policy
        What was applied.
    document
        SHA-256 of the frozen document that was judged, and that alone may be published; None when there is none, and
        in the document itself.
    """

    verdict: Literal["publish", "keep"]
    checks: list[Check]
    reasons: list[str]
    mode: str
    policy: Policy
    document: str | None = None


def decide(evidence: Evidence, policy: Policy) -> Decision:
    """Judge a challenger.

    Every check is made, so that one run shows all that is wrong. A check blocks when its status does (see `blocks`);
    nothing is published in a dry run, whose first reason says what an enforcing gate would have done.
    """
    checks = [
        *(_of_the_model(evidence, policy) if not evidence.untrained else ()),
        _trained(evidence),
        _enough("samples", evidence.train_impressions, policy.min_samples, "training impressions"),
        _enough("queries", evidence.test_queries, policy.min_queries, "eligible test rankings of different queries"),
        _fresh_events(evidence.landed),
        _quarantined_share(evidence.landed, policy),
        _lost_share(evidence.landed, policy),
        _unjoined_share(evidence, policy),
    ]
    reasons = [check.reason for check in checks if blocks(check.status, policy)]
    if policy.gate_mode == "dry_run":
        reasons.insert(0, f"dry run: would {'keep the former model' if reasons else 'publish'}")
    verdict: Literal["publish", "keep"] = "keep" if reasons else "publish"
    return Decision(verdict=verdict, checks=checks, reasons=reasons, mode=policy.gate_mode, policy=policy)


def _of_the_model(evidence: Evidence, policy: Policy) -> Iterator[Check]:
    """Yield the checks that need a model."""
    coin, unbiased = _coin(evidence.coins), _unbiased_delta(evidence, policy)
    yield _ndcg(evidence, policy)
    yield _beats_random(evidence)
    yield _fairness(evidence.fairness, policy)
    yield _unknown_groups(evidence.fairness, policy)
    yield _latency(evidence, policy)
    yield _not_worse("champion", evidence.champion, policy)
    yield _best_recent(evidence, policy)
    yield coin
    yield unbiased
    audited = _feature_audit(evidence)
    clean = None if audited.status == "skipped" else audited.status == "pass"
    yield suspicious_gain(evidence.champion, policy, doubt=doubt(coin, unbiased, audit=clean))
    yield audited
    yield _feature_change(evidence, policy)


def blocks(status: Status, policy: Policy) -> bool:
    """Tell whether a check of this status keeps the former model.

    >>> [blocks(status, Policy()) for status in ("pass", "skipped", "fail", "inconclusive", "not_evaluable")]
    [False, False, True, True, True]
    >>> blocks("inconclusive", Policy(on_inconclusive="publish"))
    False
    """
    kept = {
        "fail": True,
        "inconclusive": policy.on_inconclusive == "keep",
        "not_evaluable": policy.on_not_evaluable == "keep",
    }
    return kept.get(status, False)


def _check(
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
    return Check(
        name=name, status=status, observed=observed, low=low, high=high, threshold=threshold, unit=unit, reason=reason
    )


def _trained(evidence: Evidence) -> Check:
    status: Status = "fail" if evidence.untrained else "pass"
    reason = evidence.untrained or f"a model of {evidence.trees:,} trees was trained"
    return _check("trained", status, reason, observed=evidence.trees, threshold=1, unit="trees")


def _ndcg(evidence: Evidence, policy: Policy) -> Check:
    found = evidence.metrics.ndcg_at_5
    status: Status
    if found.value is None:
        status, reason = "not_evaluable", "no test ranking is eligible, so there is no nDCG@5"
    else:
        status = "pass" if found.value >= policy.ndcg_min else "fail"
        reason = f"nDCG@5 is {found.value:.3f}, {_side(status)} the minimum of {policy.ndcg_min:g}"
    return _check(
        "ndcg_at_5", status, reason, observed=found.value, low=found.low, high=found.high, threshold=policy.ndcg_min
    )


def _side(status: Status) -> str:
    return "not below" if status == "pass" else "below"


def _beats_random(evidence: Evidence) -> Check:
    delta, name = evidence.against_random, "beats_random"
    if delta is None:
        reason = "too few test rankings or users to compare with random order"
        return _check(name, "not_evaluable", reason, threshold=RANDOM_MARGIN)
    interval = f"{signed(delta.value)} nDCG@5 ({_between(delta)}) against random order"
    if delta.low > RANDOM_MARGIN:
        return _versus(name, "pass", f"better than random: {interval}", delta, RANDOM_MARGIN)
    reason = f"not shown to be better than random by more than {RANDOM_MARGIN:g}: {interval}"
    return _versus(name, "fail", reason, delta, RANDOM_MARGIN)


def _fairness(fairness: Fairness, policy: Policy) -> Check:
    """Judge pure and mixed rankings each by themselves; the worse result counts."""
    name, limit = "fairness_gap", policy.fairness_max
    if not fairness.configured:
        return _check(name, "skipped", f"no groups configured: {fairness.reason}", threshold=limit)
    judged = [_gap(gap, limit, of_both=len(fairness.judged) > 1) for gap in fairness.judged]
    worst = max(judged, key=lambda check: _SEVERITY.index(check.status), default=None)
    if worst is None or (not fairness.evaluable and worst.status == "pass"):
        reason = f"the fairness gap cannot be judged: {fairness.reason}"
        unjudged = worst or _check(name, "not_evaluable", reason, threshold=limit)
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
    return _check("fairness_gap", status, reason, observed=found, low=low, high=high, threshold=limit)


def _unknown_groups(fairness: Fairness, policy: Policy) -> Check:
    """Fail where too many impressions are of no group that can be judged."""
    name, limit = "unknown_groups", policy.unknown_group_share_max
    if not fairness.configured:
        return _check(name, "skipped", f"no groups configured: {fairness.reason}", threshold=limit)
    share = fairness.unknown_share + fairness.pooled_share
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    rare = f", {100 * fairness.pooled_share:.1f} % one too rare to judge" if fairness.pooled else ""
    found = f"{100 * fairness.unknown_share:.1f} % of the test impressions have no protected group{rare}"
    reason = f"{found}, {side} {100 * limit:g} %"
    return _check(name, status, reason, observed=share, threshold=limit)


def _latency(evidence: Evidence, policy: Policy) -> Check:
    limit, name = policy.latency_p95_max_ms, "latency_p95"
    if evidence.latency is None:
        return _check(name, "not_evaluable", "no test ranking to measure the latency on", threshold=limit, unit="ms")
    found = evidence.latency.p95_ms
    status: Status = "pass" if found <= limit else "fail"
    side = "within" if status == "pass" else "above"
    takes = f"ranking a request takes {_how_long(evidence.latency)} at the 95th percentile"
    reason = f"{takes}, {side} the limit of {limit:g} ms"
    return _check(name, status, reason, observed=found, threshold=limit, unit="ms")


def _how_long(latency: Latency) -> str:
    """Write the p95 that is judged and, where it was measured, that by the clock beside it."""
    if latency.wall_p95_ms is None:
        return f"{latency.p95_ms:.2f} ms"
    judged = "of processor time" if latency.clock == "cpu" else "undisturbed"
    return f"{latency.p95_ms:.2f} ms {judged} ({latency.wall_p95_ms:.2f} ms by the clock)"


def _enough(name: str, found: int, least: int, what: str) -> Check:
    status: Status = "pass" if found >= least else "fail"
    reason = f"{found:,} {what}, {_side(status)} the minimum of {least:,}"
    return _check(name, status, reason, observed=found, threshold=least, unit=what)


def _not_worse(name: str, comparison: Comparison, policy: Policy) -> Check:
    """Pass when a loss above ε is ruled out, fail when it is the best guess, else inconclusive."""
    threshold, delta, other = -policy.regression_max, comparison.delta, _other(comparison)
    if comparison.kind == "none":
        return _check(name, "skipped", comparison.reason or "nothing to compare with", threshold=threshold)
    if delta is None:
        why = comparison.reason or "too few rankings or users in common"
        return _check(name, "not_evaluable", f"not comparable with {other}: {why}", threshold=threshold)
    interval = f"{signed(delta.value)} nDCG@5 ({_between(delta)}) against {other}{_without(comparison)}"
    if _decided(comparison.unbiased, policy):
        advice = f"advice only, since coin pairs decide: {interval} by clicks"
        return _versus(name, "skipped", advice, delta, threshold)
    if delta.low > threshold:
        return _versus(name, "pass", f"not worse by more than {-threshold:g}: {interval}", delta, threshold)
    if delta.value < threshold:
        sure = "" if delta.high < threshold else "probably "
        return _versus(name, "fail", f"{sure}worse by more than {-threshold:g}: {interval}", delta, threshold)
    reason = f"a loss above {-threshold:g} cannot be ruled out: {interval}"
    return _versus(name, "inconclusive", reason, delta, threshold)


def _best_recent(evidence: Evidence, policy: Policy) -> Check:
    if evidence.best_recent is None:
        reason = f"no version of the last {RECENT_DAYS} days other than the champion"
        return _check("best_recent", "skipped", reason, threshold=-policy.regression_max)
    return _not_worse("best_recent", evidence.best_recent, policy)


def _coin(coins: CoinCheck | None) -> Check:
    """Fail on proof that the scores know the coin, however few pairs there are; pass only where there are enough."""
    name = "coin"
    if coins is None:
        return _check(name, "skipped", "no position was logged, so no coin is known", threshold=0.5)
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
    return _check(name, status, reason, observed=coins.share, low=coins.low, high=coins.high, threshold=0.5)


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


def _unbiased_delta(evidence: Evidence, policy: Policy) -> Check:
    """Judge the champion and the best recent version by coin pairs, where their interval decides; the worse counts."""
    name, threshold = "unbiased_delta", -policy.regression_max
    rivals = [rival for rival in (evidence.champion, evidence.best_recent) if rival and rival.unbiased]
    judged = [_unbiased(rival, rival.unbiased, policy) for rival in rivals if rival.unbiased]
    if not judged:
        reason = "no rival, or too few coin pairs that users answered differently, so clicks decide"
        return _check(name, "skipped", reason, threshold=threshold)
    return max(judged, key=lambda check: ("pass", "skipped", "fail").index(check.status))


def _unbiased(rival: Comparison, delta: UnbiasedDelta, policy: Policy) -> Check:
    name, threshold = "unbiased_delta", -policy.regression_max
    status = _decided(delta, policy)
    found = (
        f"{signed(delta.value)} of {delta.n:,} coin pairs that users answered differently are ordered better than by "
        f"{_other(rival)} (95 % CI {signed(delta.low)} to {signed(delta.high)})"
    )
    told = {
        "pass": f"not worse by more than {-threshold:g}, position bias aside: {found}",
        "fail": f"worse by more than {-threshold:g}, position bias aside: {found}",
        None: f"coin pairs are not sure enough to overrule clicks: {found}",
    }
    return _check(
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
    name, limit, delta, other = "suspicious_gain", _largest_gain(champion, policy), champion.delta, _other(champion)
    if champion.kind == "none":
        return _check(name, "skipped", champion.reason or "nothing to compare with", threshold=limit)
    if delta is None:
        return _check(name, "not_evaluable", f"not comparable with {other}", threshold=limit)
    gain = f"{signed(delta.value)} nDCG@5 ({_between(delta)}) against {other}{_without(champion)}"
    if (delta.value if champion.kind == "legacy_linear" else delta.high) <= limit:
        return _versus(name, "pass", f"a plausible gain: {gain}", delta, limit)
    if not doubt:
        return _versus(name, "pass", f"a large gain, which coins and the feature audit clear: {gain}", delta, limit)
    found = "too good to be true" if delta.value > limit else f"a gain above {limit:.3g} cannot be ruled out"
    held = "ltr_suspicious_gain_share" if limit < policy.suspicious_gain else "ltr_suspicious_gain"
    reason = f"{found}: {gain}; {doubt}; look for a feature that knows the outcome, or raise {held}"
    return _versus(name, "inconclusive", reason, delta, limit)


def _largest_gain(rival: Comparison, policy: Policy) -> float:
    """Return the gain that is not suspicious: where little is left to be gained, a share of that."""
    reached = rival.metrics.ndcg_at_5.value if rival.metrics else None
    if reached is None:
        return policy.suspicious_gain
    return min(policy.suspicious_gain, policy.suspicious_gain_share * (1 - reached))


def _feature_audit(evidence: Evidence) -> Check:
    """Fail where a feature knows the outcome; where one only looks as if it did, somebody has to look."""
    name = "feature_audit"
    if not evidence.audit:
        return _check(name, "skipped", "the features were not audited", threshold=0, unit="features")
    found = suspicions(evidence.audit)
    if not found:
        reason = "no feature looks as if it knew the outcome"
        return _check(name, "pass", reason, observed=0, threshold=0, unit="features")
    status: Status = "fail" if any(one.sure for one in found) else "inconclusive"
    reason = "; ".join(one.what for one in found)
    return _check(name, status, reason, observed=len(found), threshold=0, unit="features")


def _feature_change(evidence: Evidence, policy: Policy) -> Check:
    """Fail where a feature changed as it never does from one day to the next."""
    name, limit = "feature_change", policy.feature_change_max
    found = changed(evidence.audit, limit)
    if not found:
        reason = f"it takes {FEWEST_CHANGES + 1} training days to know how much features change"
        return _check(name, "skipped", reason, threshold=limit)
    most, *others = found
    if most.excess <= 0:
        reason = "no feature changed unusually from one day to the next"
        return _check(name, "pass", reason, observed=most.distance, threshold=most.limit)
    reason = (
        f"{most.feature} changed on {most.day} as it never does from one day to the next: the two days differ by "
        f"{most.distance:.3f}, normal ones by at most {most.limit:.3f}"
    )
    if more := [one.feature for one in others if one.excess > 0]:
        named = f"{', '.join(more[:MOST_NAMED])}{f' and {len(more) - MOST_NAMED} more' * (len(more) > MOST_NAMED)}"
        reason = f"{reason}; so did {named}"
    return _check(name, "fail", reason, observed=most.distance, threshold=most.limit)


def _fresh_events(landed: Landed | None) -> Check:
    """Fail without new impressions, or without any feedback: such a day teaches nothing, and a source may be broken."""
    if landed is None:
        return _check("fresh_events", "skipped", "a backfill reads no source", threshold=1)
    fewest = min(landed.impressions, landed.feedback)
    status: Status = "pass" if fewest > 0 else "fail"
    reason = f"{landed.impressions:,} impressions and {landed.feedback:,} feedback events arrived for this run"
    return _check("fresh_events", status, reason, observed=fewest, threshold=1, unit="events")


def _quarantined_share(landed: Landed | None, policy: Policy) -> Check:
    name, limit = "quarantined_share", policy.quarantined_share_max
    if landed is None:
        return _check(name, "skipped", "a backfill reads no source", threshold=limit)
    if landed.records_read == 0:
        return _check(name, "not_evaluable", "no record arrived for this run", threshold=limit)
    share = landed.records_quarantined / landed.records_read
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    reason = f"{landed.records_quarantined:,} of {landed.records_read:,} records quarantined, {side} {100 * limit:g} %"
    return _check(name, status, reason, observed=share, threshold=limit)


def _lost_share(landed: Landed | None, policy: Policy) -> Check:
    name, limit = "lost_share", policy.lost_share_max
    if landed is None:
        return _check(name, "skipped", "a backfill reads no source", threshold=limit)
    sent = landed.records_read + landed.records_lost
    share = landed.records_lost / sent if sent else 0.0
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    reason = f"{landed.records_lost:,} of {sent:,} records were gone before they were read, {side} {100 * limit:g} %"
    return _check(name, status, reason, observed=share, threshold=limit)


def _unjoined_share(evidence: Evidence, policy: Policy) -> Check:
    name, limit = "unjoined_share", policy.unjoined_share_max
    if not evidence.joinable:
        return _check(name, "skipped", "no feedback could belong to an impression", threshold=limit)
    share = evidence.unjoined / evidence.joinable
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    reason = (
        f"{evidence.unjoined:,} of {evidence.joinable:,} interactions belong to no impression, {side} {100 * limit:g} %"
    )
    return _check(name, status, reason, observed=share, threshold=limit)


def _versus(name: str, status: Status, reason: str, delta: Delta, threshold: float) -> Check:
    return _check(name, status, reason, observed=delta.value, low=delta.low, high=delta.high, threshold=threshold)


def _other(comparison: Comparison) -> str:
    names = {
        "champion": "the champion",
        "best_recent": f"the best version of the last {RECENT_DAYS} days",
        "legacy_linear": "the legacy linear weights",
    }
    return f"{names.get(comparison.kind, 'nothing')} {comparison.version or ''}".strip()


def _without(comparison: Comparison) -> str:
    return f", which was scored without {', '.join(comparison.gone)}, as no event has it" if comparison.gone else ""


def _between(delta: Delta) -> str:
    return f"95 % CI {signed(delta.low)} to {signed(delta.high)}"
