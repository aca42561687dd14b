"""Coin pairs: what the service logged gives back exactly the pairs it swapped, and no others."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from ltr_pipeline.metrics import coins
from ltr_pipeline.metrics.coins import FLIPS, CoinPairs, coin_pairs, flip_p_value
from ltr_pipeline.serving.ranking.order import explore

NAN = float("nan")


def pairs(group: list[int], position: list[int], propensity: list[float]) -> CoinPairs:
    return coin_pairs(np.array(group, int), np.array(position, int), np.array(propensity, np.float32))


def listed(found: CoinPairs) -> list[tuple[int, int, int, int]]:
    return list(zip(*(column.tolist() for column in found), strict=True))


@given(st.integers(2, 12), st.integers(), st.data())
def test_the_pairs_are_those_that_the_service_may_have_swapped(size: int, seed: int, data: st.DataObject) -> None:
    """Rows come back in any order, some may be missing; the places of a pair tell which items belong together."""
    shown = explore(range(size), "v", random.Random(seed))
    assert shown.propensities is not None
    kept = data.draw(st.lists(st.integers(0, size - 1), unique=True, min_size=1))
    found = pairs([len(kept)], [place + 1 for place in kept], [shown.propensities[place] for place in kept])
    begin = 1 if shown.propensities[0] == 1.0 else 0
    swapped = {(place + 1, place + 2) for place in range(begin, size - 1, 2)}
    whole = {(upper, lower) for upper, lower in swapped if {upper - 1, lower - 1} <= set(kept)}
    seen = {(kept[upper] + 1, kept[lower] + 1) for upper, lower, _, _ in listed(found)}
    told = 0 in kept or any(shown.propensities[place] == 1.0 for place in kept)
    assert seen == (whole if told else set())
    assert [kept[upper] + 1 for upper in found.upper] == found.rank.tolist()


@pytest.mark.parametrize(
    ("position", "propensity"),
    [
        ([1, 2, 3, 4], [NAN] * 4),
        ([1, 2, 3, 4], [0.5, 0.5, 0.5, NAN]),
        ([1, 2, 3, 4], [0.5, 0.5, 0.25, 0.5]),
        ([1, 2, 2, 3], [0.5, 0.5, 0.5, 1.0]),  # two lists that were taken for one
        ([1, 2, 3, 4], [0.5, 0.5, 1.0, 0.5]),  # nobody in the middle is without a partner
        ([1, 2, 3, 4], [1.0, 0.5, 0.5, 0.5, 1.0][1:]),  # cut at rank 1, by its end at rank 2
        ([2, 3, 4, 5], [0.5] * 4),  # the cut is unknown
    ],
)
def test_a_list_whose_cut_is_not_known_has_no_pair(position: list[int], propensity: list[float]) -> None:
    assert listed(pairs([4], position, propensity)) == []


def test_a_list_says_nothing_of_its_neighbour() -> None:
    found = pairs([2, 3, 2], [2, 1, 1, 2, 3, 1, 2], [0.5, 0.5, NAN, NAN, NAN, 0.5, 0.5])
    assert listed(found) == [(1, 0, 1, 0), (5, 6, 1, 2)]
    assert len(pairs([], [], [])) == 0


@given(st.lists(st.integers(-9, 9), max_size=9), st.integers(0, 2**32))
def test_the_p_value_counts_the_turns_of_every_user(sums: list[int], seed: int) -> None:
    turns = np.array([[1 if number >> bit & 1 else -1 for bit in range(len(sums))] for number in range(2 ** len(sums))])
    totals = np.abs(turns @ np.array(sums, dtype=np.int64)) if sums else np.zeros(1)
    exact = (totals >= abs(sum(sums))).mean()
    assert flip_p_value(np.array(sums, dtype=float), seed) == pytest.approx(exact, abs=5 * (0.25 / FLIPS) ** 0.5)


def test_many_users_are_tested_as_few() -> None:
    rng = np.random.default_rng(1)
    coins_of = rng.normal(size=5000)
    expected = 2 * norm.sf(abs(coins_of.sum()) / np.sqrt(np.square(coins_of).sum()))
    assert flip_p_value(coins_of, 2) == pytest.approx(expected, abs=0.03)
    assert flip_p_value(coins_of + 0.1, 2) == 1 / (1 + FLIPS)


def test_an_honest_score_is_hardly_ever_accused() -> None:
    alarms = []
    for seed in range(400):
        group, found, score = drawn(60, seed=seed)
        alarms.append(coins.check(found, score, group, np.arange(60) // 2, seed=seed).p_value)
    assert 2 <= (np.array(alarms) < 0.05).sum() <= 38
    assert (np.array(alarms) < coins.DOUBT).sum() <= 12


def drawn(lists: int, items: int = 6, seed: int = 3) -> tuple[NDArray[np.int64], CoinPairs, NDArray[np.float64]]:
    """Explored lists and an honest score of their rows, in shown order."""
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    score = rng.normal(size=(lists, items))
    shown = [explore(np.argsort(-row).tolist(), "v", chance) for row in score]
    ordered = np.concatenate([row[list(each.order)] for row, each in zip(score, shown, strict=True)])
    propensity = np.concatenate([each.propensities or () for each in shown])
    group = np.full(lists, items)
    return group, coin_pairs(group, np.tile(np.arange(items) + 1, lists), propensity), ordered


def test_an_honest_score_is_cleared_and_one_that_has_the_position_is_not() -> None:
    group, found, score = drawn(300)
    users = np.arange(300) // 3
    honest = coins.check(found, score, group, users, seed=1)
    assert not honest.knows
    assert honest.enough
    assert honest.low < 0.5 < honest.high
    place = np.tile(np.arange(6) + 1, 300)
    leaking = coins.check(found, score - 0.2 * place, group, users, seed=1)
    assert leaking.knows
    assert leaking.share > 0.6
    assert leaking.low > 0.5


def test_lists_that_are_logged_ten_times_prove_nothing_more() -> None:
    group, found, score = drawn(40)
    once = coins.check(found, score, group, np.arange(40), seed=1)
    many = CoinPairs(*(np.tile(column, 10) for column in found))
    again = coins.check(many, score, group, np.arange(40), seed=1)
    assert again.pairs == 10 * once.pairs
    assert again.p_value == pytest.approx(once.p_value, abs=0.01)
    assert again.clusters == pytest.approx(once.clusters)
    assert again.high - again.low == pytest.approx(once.high - once.low)


def test_few_pairs_and_few_users_clear_nobody() -> None:
    group, found, score = drawn(400)
    assert coins.check(found, score, group, np.arange(400), seed=1).enough
    assert not coins.check(found, score, group, np.arange(400) % 25, seed=1).enough
    few = found.only(found.ranking < 100)
    assert not coins.check(few, score, group, np.arange(400), seed=1).enough
    tied = coins.check(found, np.zeros_like(score), group, np.arange(400), seed=1)
    assert (tied.rankings, tied.pairs, tied.share, tied.p_value, tied.enough) == (400, 0, None, 1.0, False)


def test_says_which_share_of_the_rankings_to_explore() -> None:
    group, found, score = drawn(1000)
    none = coins.check(found.only(found.ranking < 0), score, group, np.arange(1000), seed=1)
    assert (none.possible, none.suffices) == (2500.0, 0.2)
    assert abs(len(found) - none.possible) < 150
    few = coins.check(found.only(found.ranking < 0), score, np.full(100, 6), np.arange(100), seed=1)
    assert few.suffices is None
