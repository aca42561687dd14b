"""What coin pairs say free of position bias, in worlds whose examination and preferences are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ltr_pipeline.metrics.coins import CoinPairs, coin_pairs
from ltr_pipeline.metrics.unbiased import curve, difference

ITEMS = 8


class Shown:
    """Explored lists in which an item is answered when it is liked and looked at, at rank r with chance 1 / r^bias."""

    def __init__(self, lists: int, bias: float, seed: int = 5, by: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        worth = rng.normal(size=(lists, ITEMS))
        shown = np.argsort(-(by * worth + rng.normal(size=worth.shape)), axis=1)
        cut = rng.integers(2, size=lists)
        propensity = np.full(worth.shape, 0.5)
        for row in range(lists):
            propensity[row, : cut[row]] = 1.0
            if (ITEMS - cut[row]) % 2:
                propensity[row, -1] = 1.0
            for first in range(cut[row], ITEMS - 1, 2):
                if rng.random() < 0.5:
                    shown[row, [first, first + 1]] = shown[row, [first + 1, first]]
        self.worth = np.take_along_axis(worth, shown, axis=1).ravel()
        self.position = np.tile(np.arange(ITEMS) + 1, lists)
        liked = rng.random(self.worth.size) < 1 / (1 + np.exp(-self.worth))
        looked = rng.random(self.worth.size) < self.position.astype(float) ** -bias
        self.relevance = (liked & looked).astype(np.int8) * rng.integers(1, 4, size=self.worth.size).astype(np.int8)
        self.users = np.arange(lists) // 2
        self.noise = rng.normal(size=self.worth.size)
        self.pairs: CoinPairs = coin_pairs(np.full(lists, ITEMS), self.position, propensity.ravel())

    def compare(self, score: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        found = difference(self.pairs, self.relevance, score, other, self.users)
        assert found is not None
        return found.value


@pytest.mark.parametrize("bias", [0.0, 0.35, 1.0])
def test_the_curve_is_how_much_each_rank_is_looked_at(bias: float) -> None:
    shown = Shown(20_000, bias)
    found = curve(shown.pairs, shown.relevance, shown.users)
    assert [point.rank for point in found] == list(range(1, ITEMS + 1))
    assert found[0].value == 1.0
    for point in found[1:]:
        assert point.low < point.value < point.high
        assert point.value == pytest.approx(point.rank**-bias, rel=0.15)
    assert sum(point.low <= point.rank**-bias <= point.high for point in found) >= ITEMS - 1


def test_the_curve_ends_where_hardly_anything_is_known() -> None:
    few = Shown(150, 1.0)
    assert len(curve(few.pairs, few.relevance, few.users)) < ITEMS
    assert curve(few.pairs, np.zeros_like(few.relevance), few.users) == []


@pytest.mark.parametrize("bias", [0.35, 1.0])
def test_a_score_that_repeats_the_shown_order_gains_nothing(bias: float) -> None:
    """By the answers it is far better than chance; by the coins it is not."""
    shown = Shown(20_000, bias, by=0.0)  # in an order that has nothing to do with what users like
    order, chance = -shown.position.astype(float), np.zeros(len(shown.worth))
    plain = np.sign(shown.relevance[shown.pairs.upper].astype(int) - shown.relevance[shown.pairs.lower])
    assert (plain > 0).sum() > 1.1 * (plain < 0).sum()
    found = difference(shown.pairs, shown.relevance, order, chance, shown.users)
    assert found is not None
    assert found.value == pytest.approx(0.0, abs=1e-9)
    assert (found.swapped, found.other_swapped) == (0.0, 0.5)


@pytest.mark.parametrize("bias", [0.35, 1.0])
def test_the_ranker_that_users_like_is_better_whatever_was_shown(bias: float) -> None:
    shown = Shown(3_000, bias)
    good, worse = shown.worth, shown.worth + shown.noise
    place = shown.worth - 2.0 * shown.position
    assert shown.compare(good, worse) > 0.05
    assert shown.compare(worse, good) == pytest.approx(-shown.compare(good, worse))
    assert shown.compare(place, good) < -0.05
    assert shown.compare(good, good) == 0.0


def test_the_interval_holds_the_truth_and_repeats_do_not_narrow_it() -> None:
    held, shares = 0, []
    for seed in range(200):
        shown = Shown(150, 0.7, seed)
        found = difference(shown.pairs, shown.relevance, shown.worth, shown.worth + shown.noise, shown.users)
        assert found is not None
        shares.append((found.low, found.high, found.value))
    low, high, value = np.array(shares).T
    held = ((low <= value.mean()) & (value.mean() <= high)).mean()
    assert 0.9 <= held <= 0.99
    again = CoinPairs(*(np.tile(column, 10) for column in shown.pairs))
    repeated = difference(again, shown.relevance, shown.worth, shown.worth + shown.noise, shown.users)
    assert repeated is not None
    assert repeated.value == pytest.approx(value[-1], abs=0.02)
    assert repeated.half == pytest.approx((high[-1] - low[-1]) / 2, rel=0.15)


def test_few_users_make_no_interval() -> None:
    shown = Shown(60, 0.7)
    assert difference(shown.pairs, shown.relevance, shown.worth, shown.noise, shown.users % 9) is None
    assert difference(shown.pairs, np.zeros_like(shown.relevance), shown.worth, shown.noise, shown.users) is None
