"""When new weights are bad: arithmetic that can be followed, and a guard on a clock of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.serving.guard import BLOCK, Breach, Counts, Guard, Limits, Tally, Traffic, breach, evidence

LIMITS = Limits(seconds=600, requests=100, failed_share=0.001, p95_ms=15)
UNKNOWN = Counts()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def counted(requests: int = 0, failed: int = 0, compared: int = 0, slow: int = 0) -> Counts:
    """Counts with their hits as evenly spread as can be."""
    counts = Counts()
    for n in range(requests):
        counts.add(failed=(n + 1) * failed // requests > n * failed // requests)
    for n in range(compared):
        counts.compare(slow=(n + 1) * slow // compared > n * slow // compared)
    return counts


def tally(outcomes: Iterable[bool]) -> Tally:
    found = Tally()
    for outcome in outcomes:
        found.add(hit=outcome)
    return found


def test_a_block_pays_its_share_over_the_allowed_one() -> None:
    """Three blocks with no, one and two slow of twenty at 5 % allowed pay 0, 1 and 2 times what was staked."""
    money = [(1 - stake) * 1.0 * (1 + stake) for stake in (0.1, 0.4, 0.8)]
    assert evidence([1, 1, 1, *[0] * 18], 0.05) == pytest.approx(math.log(sum(money) / 3))


def test_a_burst_is_one_witness_wherever_it_begins() -> None:
    for begin in range(BLOCK):
        outcomes = [*[False] * begin, *[True] * BLOCK, *[False] * 100]
        found = tally(outcomes)
        assert (found.total, found.hits) == (len(outcomes), BLOCK)
        assert sum(found.blocks[1:]) == 1
        assert evidence(found.blocks, 0.05) < math.log(10)


def test_what_is_always_slow_gives_a_block_of_every_two() -> None:
    found = tally([True] * 100)
    assert (found.blocks[BLOCK], sum(found.blocks), found.begun) == (3, 3, 0)
    found = tally([True] * 130)
    assert (found.blocks[BLOCK], sum(found.blocks), found.begun) == (3, 3, 10)


def test_failures_that_come_singly() -> None:
    """0.1 % may fail: one in twenty is 50 times that, and two such blocks are enough; one is chance."""
    assert breach(counted(100, failed=1), UNKNOWN, LIMITS) is None
    assert breach(counted(100, failed=3), UNKNOWN, LIMITS) == Breach(
        "failures", "3 of 100 requests failed; allowed: 0.10%"
    )


def test_a_small_excess_is_found_with_more_requests() -> None:
    """1 % is ten times too much."""
    assert breach(counted(500, failed=5), UNKNOWN, LIMITS) is None
    assert breach(counted(2000, failed=20), UNKNOWN, LIMITS)
    assert breach(counted(2000, failed=2), UNKNOWN, LIMITS) is None


def test_a_p95_is_over_the_limit_when_far_more_than_one_in_twenty_is() -> None:
    found = breach(counted(100, compared=100, slow=100), UNKNOWN, LIMITS)
    assert found is not None
    assert found.by == "latency"
    assert found.reason.startswith("100 of 100 requests took more than 15 ms to score, and more than twice as long")
    assert breach(counted(100, compared=100, slow=20), UNKNOWN, LIMITS) is None
    assert breach(counted(500, compared=500, slow=100), UNKNOWN, LIMITS)


def test_too_few_requests_give_no_verdict() -> None:
    assert breach(counted(99, failed=99), UNKNOWN, LIMITS) is None
    assert breach(counted(1000, compared=99, slow=99), UNKNOWN, LIMITS) is None


def test_a_model_is_not_blamed_for_what_the_one_before_it_did_as_well() -> None:
    assert breach(counted(1000, failed=30), UNKNOWN, LIMITS)
    assert breach(counted(1000, failed=30), counted(1000, failed=25), LIMITS) is None
    assert breach(counted(1000, failed=120), counted(1000, failed=25), LIMITS)


def test_a_model_before_that_answered_hardly_anything_excuses_nothing() -> None:
    assert breach(counted(1000, failed=400), counted(99, failed=99), LIMITS)


def test_what_comes_at_once_counts_once() -> None:
    traffic = Traffic()
    assert [traffic.due(now) for now in (10.0, 10.01, 10.049, 10.06, 10.07)] == [True, False, False, True, False]
    traffic.rest(20.0)
    assert [traffic.due(now) for now in (19.0, 20.0)] == [False, True]


def test_limits_at_their_ends() -> None:
    assert breach(counted(100, failed=1), UNKNOWN, LIMITS._replace(failed_share=0)) is not None
    assert breach(counted(100), UNKNOWN, LIMITS._replace(failed_share=0)) is None
    assert breach(counted(100, failed=100), UNKNOWN, LIMITS._replace(failed_share=1)) is None


@given(st.lists(st.integers(0, 1000), min_size=BLOCK + 1, max_size=BLOCK + 1), st.floats(1e-6, 0.999), st.data())
def test_evidence_grows_with_hits_and_never_blames_what_is_within_the_limit(
    blocks: list[int], allowed: float, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(1, BLOCK))
    fewer, more = [*blocks], [*blocks]
    fewer[hits - 1] += 1
    more[hits] += 1
    assert evidence(more, allowed) >= evidence(fewer, allowed)
    if sum(share * count for share, count in enumerate(more)) <= allowed * BLOCK * sum(more):
        assert evidence(more, allowed) <= 1e-9


@pytest.mark.parametrize("burst", [1, 5, 20])
def test_a_good_model_that_is_looked_at_all_the_time_is_hardly_ever_blamed(burst: int) -> None:
    """As slow as it may be, 2,000 requests, 300 times: at most one in a thousand is expected to be blamed."""
    chance = random.Random(7)
    begins = 0.05 / (burst * 0.95)
    blamed = 0
    for _ in range(300):
        seen, left = Counts(), 0
        for n in range(2000):
            left = left - 1 if left else burst * (chance.random() < begins)
            seen.compare(slow=left > 0)
            if n % 10 == 0 and breach(seen, UNKNOWN, LIMITS):
                blamed += 1
                break
    assert blamed <= 3  # of 300 with ALPHA 0.001, four or more have a probability of 0.0003


def test_a_watch_ends_by_a_breach_by_time_or_for_want_of_requests() -> None:
    for counts, end in [
        (counted(200, failed=200), "breach"),
        (counted(200), "passed"),
        (counted(99, failed=99), "too few requests"),
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
        assert (guard.watch.state, guard.watch.requests) == (end, counts.answers.total)


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
    old.now = counted(10000, failed=9000)
    for minute in range(0, 120, 10):
        clock.now = minute * 60.0
        guard.look()
        for _ in range(500):
            old.now.add(failed=False)
    assert (old.recent.answers.hits, old.recent.answers.total >= 500) == (0, True)
    guard.begin("b", "1" * 64, new, old)
    new.now = counted(200, failed=100)
    assert guard.look()


def test_counts_that_turn_lose_nothing_at_once() -> None:
    traffic = Traffic()
    traffic.now.add(failed=True)
    traffic.turn()
    traffic.now.add(failed=False)
    traffic.now.compare(slow=True)
    recent = traffic.recent
    counts = (recent.answers, recent.comparisons)
    assert [(tally.total, tally.hits) for tally in counts] == [(2, 1), (1, 1)]
    traffic.turn()
    traffic.turn()
    assert traffic.recent.answers.total == 0
