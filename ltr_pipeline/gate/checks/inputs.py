"""Checks of what the night was made from: enough rows, features as they were, events that arrived whole."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.checks.check import Check, Status, checked, side
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.suspects import changed
from ltr_pipeline.metrics.changes import FEWEST_CHANGES

__all__ = [
    "feature_change",
    "fresh_events",
    "lost_share",
    "quarantined_share",
    "queries",
    "samples",
    "unjoined_share",
]

MOST_NAMED: Final = 5
"""Features that a reason names."""


def samples(evidence: Evidence, policy: Policy) -> Check:
    """Fail with too little to learn from."""
    return _enough("samples", evidence.train_impressions, policy.min_samples, "training impressions")


def queries(evidence: Evidence, policy: Policy) -> Check:
    """Fail with too little to judge by."""
    what = "eligible test rankings of different queries"
    return _enough("queries", evidence.test_queries, policy.min_queries, what)


def _enough(name: str, found: int, least: int, what: str) -> Check:
    status: Status = "pass" if found >= least else "fail"
    reason = f"{found:,} {what}, {side(status)} the minimum of {least:,}"
    return checked(name, status, reason, observed=found, threshold=least, unit=what)


def feature_change(evidence: Evidence, policy: Policy) -> Check:
    """Fail where a feature changed as it never does from one day to the next."""
    name, limit = "feature_change", policy.feature_change_max
    found = changed(evidence.audit, limit)
    if not found:
        reason = f"it takes {FEWEST_CHANGES + 1} training days to know how much features change"
        return checked(name, "skipped", reason, threshold=limit)
    most, *others = found
    if most.excess <= 0:
        reason = "no feature changed unusually from one day to the next"
        return checked(name, "pass", reason, observed=most.distance, threshold=most.limit)
    reason = (
        f"{most.feature} changed on {most.day} as it never does from one day to the next: the two days differ by "
        f"{most.distance:.3f}, normal ones by at most {most.limit:.3f}"
    )
    if more := [one.feature for one in others if one.excess > 0]:
        named = f"{', '.join(more[:MOST_NAMED])}{f' and {len(more) - MOST_NAMED} more' * (len(more) > MOST_NAMED)}"
        reason = f"{reason}; so did {named}"
    return checked(name, "fail", reason, observed=most.distance, threshold=most.limit)


def fresh_events(landed: Landed | None) -> Check:
    """Fail without new impressions, or without any feedback: such a day teaches nothing, and a source may be broken."""
    if landed is None:
        return checked("fresh_events", "skipped", "a backfill reads no source", threshold=1)
    fewest = min(landed.impressions, landed.feedback)
    status: Status = "pass" if fewest > 0 else "fail"
    reason = f"{landed.impressions:,} impressions and {landed.feedback:,} feedback events arrived for this run"
    return checked("fresh_events", status, reason, observed=fewest, threshold=1, unit="events")


def quarantined_share(landed: Landed | None, policy: Policy) -> Check:
    """Fail where too many records were refused."""
    name, limit = "quarantined_share", policy.quarantined_share_max
    if landed is None:
        return checked(name, "skipped", "a backfill reads no source", threshold=limit)
    if landed.records_read == 0:
        return checked(name, "not_evaluable", "no record arrived for this run", threshold=limit)
    share = landed.records_quarantined / landed.records_read
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    reason = f"{landed.records_quarantined:,} of {landed.records_read:,} records quarantined, {side} {100 * limit:g} %"
    return checked(name, status, reason, observed=share, threshold=limit)


def lost_share(landed: Landed | None, policy: Policy) -> Check:
    """Fail where too many records were gone before they were read."""
    name, limit = "lost_share", policy.lost_share_max
    if landed is None:
        return checked(name, "skipped", "a backfill reads no source", threshold=limit)
    sent = landed.records_read + landed.records_lost
    share = landed.records_lost / sent if sent else 0.0
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    reason = f"{landed.records_lost:,} of {sent:,} records were gone before they were read, {side} {100 * limit:g} %"
    return checked(name, status, reason, observed=share, threshold=limit)


def unjoined_share(evidence: Evidence, policy: Policy) -> Check:
    """Fail where too much feedback belongs to no impression."""
    name, limit = "unjoined_share", policy.unjoined_share_max
    if not evidence.joinable:
        return checked(name, "skipped", "no feedback could belong to an impression", threshold=limit)
    share = evidence.unjoined / evidence.joinable
    status: Status = "pass" if share <= limit else "fail"
    side = "within" if status == "pass" else "above"
    reason = (
        f"{evidence.unjoined:,} of {evidence.joinable:,} interactions belong to no impression, {side} {100 * limit:g} %"
    )
    return checked(name, status, reason, observed=share, threshold=limit)
