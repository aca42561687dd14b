"""When new weights are bad: arithmetic that can be followed, and a guard on a clock of its own."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.serving.guard import ALPHA, Breach, Counts, Guard, Limits, Traffic, breach, evidence

LIMITS = Limits(seconds=600, requests=100, failed_share=0.001, p95_ms=15)
UNKNOWN = Counts()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_hit_counts_log_two_and_each_miss_a_little_against() -> None:
    """0.1 % may fail, so the alternative is 0.2 %: a failure is ln 2, a success ln(0.998 / 0.999)."""
    one, nothing = math.log(2), math.log(0.998 / 0.999)
    assert evidence(3, 100, 0.001) == pytest.approx(3 * one + 97 * nothing)
    assert evidence(3, 100, 0.001) == pytest.approx(1.982, abs=1e-3)


def test_a_few_failures_in_a_hundred_are_chance_and_eleven_are_not() -> None:
    """10 * 0.6931 - 90 * 0.0010 = 6.84 is below ln 1000 = 6.91; one more is above."""
    assert breach(Counts(100, failed=10), UNKNOWN, LIMITS) is None
    assert breach(Counts(100, failed=11), UNKNOWN, LIMITS) == Breach(
        "failures", "11 of 100 requests failed; allowed: 0.10%"
    )


def test_a_small_excess_is_found_with_more_requests() -> None:
    """1 % is ten times too much: 20 of 2000 give 20 * 0.6931 - 1980 * 0.0010 = 11.9."""
    assert breach(Counts(2000, failed=20), UNKNOWN, LIMITS)
    assert breach(Counts(2000, failed=2), UNKNOWN, LIMITS) is None


def test_a_p95_is_over_the_limit_when_far_more_than_one_in_twenty_is() -> None:
    """20 of 100: 20 ln 2 - 80 * 0.0541 = 9.5; 10 of 100: 6.93 - 4.87 = 2.1."""
    found = breach(Counts(100, compared=100, slow=20), UNKNOWN, LIMITS)
    assert found is not None
    assert found.by == "latency"
    assert found.reason.startswith("20 of 100 requests took more than 15 ms to score, and more than twice as long")
    assert breach(Counts(100, compared=100, slow=10), UNKNOWN, LIMITS) is None
    assert breach(Counts(500, compared=500, slow=50), UNKNOWN, LIMITS)


def test_too_few_requests_give_no_verdict() -> None:
    assert breach(Counts(99, failed=99), UNKNOWN, LIMITS) is None
    assert breach(Counts(1000, compared=99, slow=99), UNKNOWN, LIMITS) is None


def test_a_model_is_not_blamed_for_what_the_one_before_it_did_as_well() -> None:
    assert breach(Counts(1000, failed=30), UNKNOWN, LIMITS)
    assert breach(Counts(1000, failed=30), Counts(1000, failed=25), LIMITS) is None
    assert breach(Counts(1000, failed=60), Counts(1000, failed=25), LIMITS)


def test_a_model_before_that_answered_hardly_anything_excuses_nothing() -> None:
    assert breach(Counts(1000, failed=400), Counts(99, failed=99), LIMITS)


def test_what_comes_at_once_counts_once() -> None:
    traffic = Traffic()
    assert [traffic.due(now) for now in (10.0, 10.01, 10.049, 10.06, 10.07)] == [True, False, False, True, False]
    traffic.rest(20.0)
    assert [traffic.due(now) for now in (19.0, 20.0)] == [False, True]


def test_limits_at_their_ends() -> None:
    assert breach(Counts(100, failed=1), UNKNOWN, LIMITS._replace(failed_share=0)) is not None
    assert breach(Counts(100), UNKNOWN, LIMITS._replace(failed_share=0)) is None
    assert breach(Counts(100, failed=100), UNKNOWN, LIMITS._replace(failed_share=1)) is None


@given(st.integers(1, 10**6), st.floats(1e-6, 0.999), st.data())
def test_evidence_grows_with_hits_and_never_blames_what_is_within_the_limit(
    requests: int, allowed: float, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(1, requests))
    assert evidence(hits, requests, allowed) > evidence(hits - 1, requests, allowed)
    if hits <= allowed * requests:
        assert evidence(hits, requests, allowed) <= 0


def test_a_good_model_that_is_looked_at_after_every_request_is_hardly_ever_blamed() -> None:
    """Exactly as slow as it may be, 2,000 requests, 500 times: at most one in a thousand is expected to be blamed."""
    chance = random.Random(7)
    blamed = 0
    for _ in range(500):
        slow = 0
        for n in range(1, 2001):
            slow += chance.random() < 0.05
            if evidence(slow, n, 0.05) >= math.log(1 / ALPHA):
                blamed += 1
                break
    assert blamed <= 4  # of 500 with ALPHA 0.001, five or more have a probability of 0.0002


def test_a_watch_ends_by_a_breach_by_time_or_for_want_of_requests() -> None:
    for counts, end in [
        (Counts(200, failed=200), "breach"),
        (Counts(200), "passed"),
        (Counts(99, failed=99), "too few requests"),
    ]:
        clock, traffic = Clock(), Traffic()
        guard = Guard(LIMITS, clock)
        guard.begin("b", "0" * 64, traffic, Traffic())
        assert guard.look() is None
        assert guard.watching
        traffic.now = counts
        clock.now = 599
        assert (guard.look() is not None) == (end == "breach")
        clock.now = 600
        guard.look()
        assert (guard.watch.state, guard.watch.requests) == (end, counts.requests)


def test_what_comes_first_is_not_watched_and_neither_is_anything_in_no_time() -> None:
    for limits, former in [(LIMITS, None), (LIMITS._replace(seconds=0), Traffic())]:
        guard = Guard(limits, Clock())
        guard.begin("a", "0" * 64, Traffic(), former)
        assert guard.look() is None
        assert guard.watch.state == "off"


def test_the_model_before_is_judged_by_its_recent_requests() -> None:
    """It failed for an hour long ago; the new one may not."""
    clock, old, new = Clock(), Traffic(), Traffic()
    guard = Guard(LIMITS, clock)
    guard.begin("a", "0" * 64, old, None)
    old.now = Counts(10000, failed=9000)
    for minute in range(0, 120, 10):
        clock.now = minute * 60.0
        guard.look()
        old.now.requests += 500
    assert (old.recent.failed, old.recent.requests >= 500) == (0, True)
    guard.begin("b", "1" * 64, new, old)
    new.now = Counts(200, failed=100)
    assert guard.look()


def test_counts_that_turn_lose_nothing_at_once() -> None:
    traffic = Traffic()
    traffic.now.add(failed=True)
    traffic.turn()
    traffic.now.add(failed=False)
    traffic.now.compare(slow=True)
    recent = traffic.recent
    assert (recent.requests, recent.failed, recent.compared, recent.slow) == (2, 1, 1, 1)
    traffic.turn()
    traffic.turn()
    assert traffic.recent.requests == 0
