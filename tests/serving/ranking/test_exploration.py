"""Exploration: no item moves by more than one rank, and propensities are the shares that are seen."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.serving.ranking.order import explore, plain


@given(st.lists(st.integers(), unique=True), st.integers())
def test_neighbours_are_swapped_and_nothing_else(order: list[int], seed: int) -> None:
    mixed = explore(order, "v1", random.Random(seed))
    assert sorted(mixed.order) == sorted(order)
    assert mixed.policy == "v1+explore"
    assert mixed.propensities is not None
    assert len(mixed.propensities) == len(order)
    for rank, (row, propensity) in enumerate(zip(mixed.order, mixed.propensities, strict=True)):
        moved = abs(order.index(row) - rank)
        assert moved <= 1
        assert propensity == 0.5 or (propensity == 1.0 and moved == 0)
    alone = [rank for rank, propensity in enumerate(mixed.propensities) if propensity == 1.0]
    assert set(alone) <= {0, len(order) - 1}
    assert len(order) - len(alone) == 2 * ((len(order) - len(alone)) // 2)


def test_propensities_are_the_shares_that_are_seen() -> None:
    """Given the pairs, each of an even number of pairs' orders is seen equally often, independently of the others."""
    chance = random.Random(5)
    seen: dict[tuple[float, ...], Counter[tuple[int, ...]]] = {}
    draws = 40_000
    for _ in range(draws):
        mixed = explore(range(5), "v1", chance)
        assert mixed.propensities is not None
        seen.setdefault(tuple(mixed.propensities), Counter())[tuple(mixed.order)] += 1
    assert set(seen) == {(0.5, 0.5, 0.5, 0.5, 1.0), (1.0, 0.5, 0.5, 0.5, 0.5)}
    for orders in seen.values():
        assert abs(orders.total() - draws / 2) < 5 * (draws / 4) ** 0.5
        assert len(orders) == 4
        expected = orders.total() / 4
        assert all(abs(count - expected) < 5 * (expected * 0.75) ** 0.5 for count in orders.values())


def test_an_order_that_is_not_mixed_has_no_propensities() -> None:
    assert plain([2, 0, 1], "v1") == ([2, 0, 1], "v1", None, None)
