"""The quality gate: evidence and a policy in, a decision out. Pure: no clock, no files, no randomness.

A check that does not pass either fails, is inconclusive (the data cannot decide) or is not evaluable (there is no such
data). ``docs/gate.md`` has the table of what each does to the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from ltr_pipeline.gate.checks import fairness, inputs, leaks, ranker, rivals
from ltr_pipeline.gate.checks.check import Check, Status
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.policy import Consequence, Policy

__all__ = ["NOT_DUE", "Champion", "Decision", "Verdict", "blocks", "consequence", "decide"]

Verdict = Literal["publish", "keep", "ask"]

NOT_DUE: Final = "not due"
"""How the reason begins why a night trained no model, where it was the policy's."""


class Champion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The published version as this night found it; it blocks nothing, as an unfair champion is no reason to keep it.

    Attributes
    ----------
    version
        Its id.
    fairness
        Its fairness gap, judged as that of the challenger.
    """

    version: str
    fairness: Check


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The gate's verdict, the checks it rests on, and the policy that was applied.

    Attributes
    ----------
    verdict
        ``publish``, ``keep`` the former model, or ``ask`` a person.
    checks
        All of them, in the order of the gate table.
    reasons
        Why the former model is kept, or a person is asked, in plain words; empty when publishing.
    mode, policy
        What was applied.
    champion
        The version that was in use; None where there was none that could be scored, and from a release that did not.
    due
        False where no training was due; then the checks are those of the version in use and of the data, `verdict` is
        ``keep``, and the first reason says why none was due.
    document
        SHA-256 of the frozen document that was judged, and that alone may be published; None when there is none, and
        in the document itself.
    """

    verdict: Verdict
    checks: list[Check]
    reasons: list[str]
    mode: str
    policy: Policy
    champion: Champion | None = None
    document: str | None = None
    due: bool = True


def decide(evidence: Evidence, policy: Policy) -> Decision:
    """Judge a challenger, or where no training was due the version in use.

    Every check is made, so that one run shows all that is wrong. What a check does to the verdict depends on its status
    (see `consequence`): one that keeps outweighs all that ask, and one that asks all that publish. Nothing is published
    in a dry run, whose first reason says what an enforcing gate would have done.
    """
    if not evidence.due:
        return _resting(evidence, policy)
    checks = [
        *(_of_the_model(evidence, policy) if not evidence.untrained else ()),
        ranker.trained(evidence),
        inputs.samples(evidence, policy),
        inputs.queries(evidence, policy),
        *_of_the_events(evidence, policy),
    ]
    reasons = [check.reason for check in checks if blocks(check.status, policy)]
    verdict = _verdict(checks, policy)
    if policy.gate_mode == "dry_run":
        reasons.insert(0, f"dry run: would {_WOULD[verdict]}")
        verdict = "keep"
    return Decision(
        verdict=verdict,
        checks=checks,
        reasons=reasons,
        mode=policy.gate_mode,
        policy=policy,
        champion=_champion(evidence, policy),
    )


_WOULD: Final[dict[Verdict, str]] = {
    "publish": "publish",
    "keep": "keep the former model",
    "ask": "ask a person",
}


def _verdict(checks: Sequence[Check], policy: Policy) -> Verdict:
    found = {consequence(check.status, policy) for check in checks}
    order: tuple[Verdict, ...] = ("keep", "ask")
    return next((verdict for verdict in order if verdict in found), "publish")


def _resting(evidence: Evidence, policy: Policy) -> Decision:
    """Judge the version in use, as a challenger would be; what fails is told, and there is nothing to publish."""
    checks = [
        *_of_the_version_in_use(evidence, policy),
        inputs.queries(evidence, policy),
        *_of_the_events(evidence, policy),
    ]
    return Decision(
        verdict="keep",
        checks=checks,
        reasons=[f"{NOT_DUE}: {evidence.untrained}", *(check.reason for check in checks if check.status == "fail")],
        mode=policy.gate_mode,
        policy=policy,
        champion=_champion(evidence, policy),
        due=False,
    )


def _champion(evidence: Evidence, policy: Policy) -> Champion | None:
    version, measured = evidence.champion.version, evidence.champion_fairness
    if version is None or measured is None:
        return None
    return Champion(version=version, fairness=fairness.fairness_gap(measured, policy))


def _of_the_model(evidence: Evidence, policy: Policy) -> Iterator[Check]:
    """Yield the checks that need a model."""
    coin, unbiased = leaks.coin(evidence.coins), rivals.unbiased_delta(evidence, policy)
    yield ranker.ndcg_at_5(evidence.metrics.ndcg_at_5, policy)
    yield ranker.beats_random(evidence)
    yield fairness.fairness_gap(evidence.fairness, policy)
    yield fairness.unknown_groups(evidence.fairness, policy)
    yield ranker.latency_p95(evidence.latency, policy)
    yield rivals.champion(evidence, policy)
    yield rivals.best_recent(evidence, policy)
    if evidence.refreshed:
        yield rivals.parent_delta(evidence.refreshed)
    yield coin
    yield unbiased
    audited = leaks.feature_audit(evidence)
    clean = None if audited.status == "skipped" else audited.status == "pass"
    yield leaks.suspicious_gain(evidence.champion, policy, doubt=leaks.doubt(coin, unbiased, audit=clean))
    yield audited
    yield inputs.feature_change(evidence, policy)


def _of_the_version_in_use(evidence: Evidence, policy: Policy) -> Iterator[Check]:
    """Yield the checks that a model can be held against by itself, as far as they could be measured."""
    champion, fair = evidence.champion, evidence.champion_fairness
    if champion.metrics:
        yield ranker.ndcg_at_5(champion.metrics.ndcg_at_5, policy)
    else:
        yield ranker.ndcg_at_5(evidence.metrics.ndcg_at_5, policy, champion.reason)
    if fair:
        yield fairness.fairness_gap(fair, policy)
        yield fairness.unknown_groups(fair, policy)
    yield ranker.latency_p95(evidence.champion_latency, policy)


def _of_the_events(evidence: Evidence, policy: Policy) -> Iterator[Check]:
    yield inputs.fresh_events(evidence.landed)
    yield inputs.quarantined_share(evidence.landed, policy)
    yield inputs.lost_share(evidence.landed, policy)
    yield inputs.unjoined_share(evidence, policy)


def blocks(status: Status, policy: Policy) -> bool:
    """Tell whether a check of this status keeps the gate from publishing by itself.

    >>> [blocks(status, Policy()) for status in ("pass", "skipped", "fail", "inconclusive", "not_evaluable")]
    [False, False, True, True, True]
    >>> blocks("inconclusive", Policy(on_inconclusive="publish"))
    False
    """
    return consequence(status, policy) != "publish"


def consequence(status: Status, policy: Policy) -> Consequence:
    """Return what a check of this status does to the verdict: nothing, which publishes, keep, or ask.

    >>> consequence("inconclusive", Policy(on_inconclusive="ask")), consequence("fail", Policy(on_inconclusive="ask"))
    ('ask', 'keep')
    """
    found: dict[Status, Consequence] = {
        "fail": "keep",
        "inconclusive": policy.on_inconclusive,
        "not_evaluable": policy.on_not_evaluable,
    }
    return found.get(status, "publish")
