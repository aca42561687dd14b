"""Team draft: fair at every place, the same again for the same seed."""

from __future__ import annotations

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.metrics.interleaving import PAIR, policy_of, team_draft

orders = st.integers(1, 12).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n))))


@given(orders, st.none() | st.integers(1, 15), st.text(max_size=8))
def test_every_prefix_is_balanced_and_every_pick_is_its_orders_best(orders, k, seed):
    first, second = orders
    order, from_first = team_draft(first, second, k, seed)
    assert len(order) == len(from_first) == (len(first) if k is None else min(k, len(first)))
    for place, (item, was_first) in enumerate(zip(order, from_first, strict=True)):
        captain = first if was_first else second
        assert item == next(other for other in captain if other not in order[:place])
        picks = sum(from_first[: place + 1])
        assert abs(2 * picks - (place + 1)) == (place + 1) % 2  # as many each, but for the one who opened the round
    assert team_draft(first, second, k, seed) == (order, from_first)


@given(orders, st.integers(1, 12), st.text(max_size=8))
def test_the_list_holds_the_top_of_both_orders_and_nothing_else(orders, k, seed):
    first, second = orders
    k = min(k, len(first))
    shown = set(team_draft(first, second, k, seed).order)
    assert len(shown) == k
    assert shown <= {*first[:k], *second[:k]}  # nobody picks below the list's length
    half = k // 2
    assert {*first[:half], *second[:half]} <= shown


@given(orders.map(lambda pair: pair[0]), st.text(max_size=8))
def test_one_order_with_itself_is_that_order(order, seed):
    assert team_draft(order, order, None, seed).order == list(order)


def test_either_opens_each_round_half_of_the_time():
    drafts = 4000
    opened: Counter[int] = Counter()
    for seed in range(drafts):
        from_first = team_draft([0, 1, 2, 3], [3, 2, 1, 0], None, f"request-{seed}").from_first
        opened.update(place for place in (0, 2) if from_first[place])
    for place in (0, 2):
        assert abs(opened[place] / drafts - 0.5) < 4 * (0.25 / drafts) ** 0.5  # the seeds are fixed: no flake


def test_the_policy_names_both_versions():
    pairs = pl.Series([policy_of("20250714_0215_2", "legacy"), None, "", "legacy", "interleave:one", "swap:a:b"])
    found = pairs.str.extract_groups(PAIR).struct.unnest().rows()
    assert found == [("20250714_0215_2", "legacy"), *[(None, None)] * 5]
