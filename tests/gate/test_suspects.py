"""When a feature is suspected, and when a change of one is too much."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec.structs import replace

from ltr_pipeline.gate.suspects import changed, suspicions
from ltr_pipeline.metrics.changes import Change
from ltr_pipeline.metrics.outcomes import Told
from support.nights import audited

HONEST = audited("z", gain=0.4, was=0.4)
KNOWS = Told(known=0.7, impressions=412, relevant=1.0, low=0.98, usual=0.3)
DAY = dt.date(2025, 7, 12)


def suspected(**fields: object) -> list[bool]:
    """Whether each suspicion against the feature is sure."""
    return [one.sure for one in suspicions([replace(HONEST, **fields)])]


def test_an_honest_feature_is_not_suspected() -> None:
    assert suspected() == []


@pytest.mark.parametrize(
    ("low", "usual", "sure"),
    [(0.98, 0.3, True), (0.9, 0.3, False), (0.91, 0.01, True), (0.95, 0.6, False), (0.98, 0.6, True)],
)
def test_values_that_only_relevant_impressions_have_know_the_outcome(low: float, usual: float, sure: bool) -> None:
    """Where most impressions are relevant, nine in ten are nothing special."""
    assert suspected(told=replace(KNOWS, low=low, usual=usual)) == [True] * sure


def test_a_feature_that_is_filled_in_later_or_suddenly_dominates_is_doubted() -> None:
    assert suspected(defaults=replace(HONEST.defaults, fading=0.11)) == [False]
    assert suspected(gain=0.5, was=0.05) == [False]
    assert suspected(gain=0.5, was=0.06) == suspected(gain=0.49, was=0.0) == suspected(gain=0.9, was=None) == []


def test_features_that_say_the_same_may_take_turns() -> None:
    """Of two blurred logs of one thing, trees of one night make much of the first, and of the next of the second."""
    assert suspected(gain=0.61, was=0.12) == []


def test_a_feature_that_is_not_used_or_vouched_for_is_not_suspected() -> None:
    assert suspected(told=KNOWS, gain=0.0) == suspected(told=KNOWS, vouched=True) == []
    assert suspected(told=KNOWS, as_served=1.0) == suspected(told=KNOWS, as_served=0.99) == []
    assert suspected(told=KNOWS, as_served=0.98) == [True]


def test_the_surest_suspicion_comes_first() -> None:
    sudden = replace(HONEST, name="a", gain=0.6, was=0.0)
    assert [one.feature for one in suspicions([sudden, replace(HONEST, told=KNOWS)])] == ["z", "a"]


def test_the_most_unusual_change_comes_first_and_none_below_the_limit_is_unusual() -> None:
    small = replace(HONEST, name="small", changes=[Change(day=DAY, distance=0.09, limit=0.01)])
    twice = [Change(day=DAY, distance=0.05, limit=0.01), Change(day=DAY, distance=0.3, limit=0.29)]
    unused = replace(HONEST, gain=0.0, changes=[Change(day=DAY, distance=1.0, limit=0.1)])
    found = changed([small, replace(HONEST, changes=twice), unused, replace(HONEST, changes=[])], 0.1)
    assert [(one.feature, one.distance, one.excess > 0) for one in found] == [("z", 0.3, True), ("small", 0.09, False)]
