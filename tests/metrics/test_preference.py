"""A better ranker wins, equal ones are told apart at most as often as said."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from ltr_pipeline.metrics.interleaving import policy_of, team_draft
from ltr_pipeline.metrics.preference import drafted_lists, preference, preferences

ITEMS, SHOWN = 10, 5
PAIR = policy_of("v1", "legacy")


def simulated(rng, users, lists_each, noise_first, noise_second, taste=0.0):
    """Net credit of interleaved lists under a world with known utilities; a user's taste favours one ranker's order."""
    nets, clusters = [], []
    for user in range(users):
        lean = taste * rng.standard_normal(ITEMS)
        for _ in range(lists_each):
            utility = rng.standard_normal(ITEMS) + lean
            first = np.argsort(-(utility + noise_first * rng.standard_normal(ITEMS))).tolist()
            second = np.argsort(-(utility + noise_second * rng.standard_normal(ITEMS))).tolist()
            drafted = team_draft(first, second, SHOWN, str(rng.integers(2**62)))
            examined = 1 / (1 + np.arange(SHOWN))
            clicked = rng.random(SHOWN) < examined / (1 + np.exp(-2 * utility[drafted.order]))
            side = np.where(drafted.from_first, 1, -1)
            nets.append(int((side * clicked).sum()))
            clusters.append(user)
    return np.array(nets), np.array(clusters)


@pytest.mark.parametrize("turned", [False, True])
def test_a_truly_better_ranker_wins(turned):
    noise = (3.0, 0.1) if turned else (0.1, 3.0)
    found = preference("a", "b", *simulated(np.random.default_rng(1), 100, 4, *noise))
    assert found.winner == ("b" if turned else "a")
    assert (found.share > 0.5) is not turned
    assert found.low < found.share < found.high
    assert found.further == 0
    assert found.wins + found.losses + found.ties == found.rankings == 400


@pytest.mark.parametrize(("users", "lists_each"), [(12, 8), (60, 2)])
def test_equal_rankers_are_told_apart_in_at_most_a_twentieth(users, lists_each):
    draws = 200
    rng = np.random.default_rng(2)
    called = sum(
        preference("a", "b", *simulated(rng, users, lists_each, 1.0, 1.0, taste=0.5)).winner is not None
        for draw in range(draws)
    )
    assert called <= binom.ppf(0.999, draws, 0.05)


def test_users_who_prefer_one_ranker_each_by_chance_are_not_taken_for_independent_lists():
    """Twelve users, each wholly on one side, with a hundred lists each: what lists alone would call certain."""
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(200):
        side = rng.choice([-1, 1], 12)
        called += preference("a", "b", np.repeat(side, 100), np.repeat(np.arange(12), 100)).winner is not None
    assert called <= binom.ppf(0.999, 200, 0.05)


def test_the_further_lists_are_about_as_many_as_it_takes():
    rng = np.random.default_rng(4)
    net, clusters = np.where(rng.random(400) < 0.55, 1, -1), np.arange(400)
    found = preference("a", "b", net, clusters)
    assert found.winner is None
    needed = (2.8 * 0.5 / (found.share - 0.5)) ** 2  # textbook: two-sided 5 %, power 80 %
    assert found.further == pytest.approx(needed - 400, rel=0.3)


@pytest.mark.parametrize("net", [[], [0, 0, 0], [1, 1, 1]])
def test_too_little_is_no_verdict(net):
    found = preference("a", "b", np.array(net, dtype=np.int64), np.arange(len(net)))
    assert (found.winner, found.low, found.high, found.further) == (None, None, None, None)
    assert found.share == (1.0 if any(net) else None)
    assert found.p_value == (0.25 if any(net) else 1.0)


def row(ranking, item, team, relevance, policy=PAIR, user="u"):
    return {
        "query_id": "q", "ranking_id": ranking, "item_id": item, "user_id": user, "policy": policy, "team": team,
        "relevance": relevance,
    }  # fmt: skip


def test_items_are_credited_to_the_team_that_picked_them():
    table = pl.DataFrame(
        [
            row("r1", "a", "v1", 3),
            row("r1", "b", "legacy", 1),
            row("r2", "a", "legacy", 1),
            row("r2", "b", "v1", 0),
            row("r3", "a", None, 3, policy="v1"),
            row("r4", "a", None, 3, policy=None),
            row("r5", "a", "v2", 2, policy=policy_of("v2", "legacy"), user=None),
        ]
    )
    assert drafted_lists(table).rows() == [
        ("v1", "legacy", "u", 0),
        ("v1", "legacy", "u", -1),
        ("v2", "legacy", None, 1),
    ]
    assert drafted_lists(table, least=2)["net"].to_list() == [1, 0, 1]
    found = preferences(drafted_lists(table, least=2))
    assert [(one.first, one.rankings, one.wins) for one in found] == [("served", 3, 2), ("v1", 2, 1), ("v2", 1, 1)]
    assert preferences(drafted_lists(table.clear())) == []
