"""A better ranker wins, equal ones are told apart at most as often as said."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad
from scipy.stats import binom, norm

from ltr_pipeline.metrics.interleaving import policy_of, team_draft
from ltr_pipeline.metrics.preference import drafted_lists, preference, preferences

ITEMS, SHOWN = 10, 5
PAIR = policy_of("v1", "legacy")
SHOWN_AT = {f"r{day}": datetime(2025, 7, day, tzinfo=UTC) for day in range(1, 9)}


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
    assert (found.low > 0.5) is (found.high > 0.5) is not turned
    assert found.evidence >= found.needed
    assert found.further == 0
    assert found.wins + found.losses + found.ties == found.rankings == 400


def named(net, clusters, days):
    """Whether a winner is named at the end of any of `days` equal parts of the lists."""
    ends = np.linspace(0, len(net), days + 1).astype(int)[1:]
    return any(preference("a", "b", net[:end], clusters[:end]).winner for end in ends)


@pytest.mark.parametrize(("users", "lists_each"), [(12, 8), (60, 2)])
def test_equal_rankers_read_every_day_are_told_apart_in_at_most_a_twentieth(users, lists_each):
    draws = 200
    rng = np.random.default_rng(2)
    called = 0
    for _ in range(draws):
        net, clusters = simulated(rng, users, lists_each, 1.0, 1.0, taste=0.5)
        order = rng.permutation(len(net))  # users come back
        called += named(net[order], clusters[order], 14)
    assert called <= binom.ppf(0.999, draws, 0.05)


def test_users_who_prefer_one_ranker_each_by_chance_are_not_taken_for_independent_lists():
    """Twelve users, each wholly on one side, with a hundred lists each: what lists alone would call certain."""
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(200):
        net, clusters = np.repeat(rng.choice([-1, 1], 12), 100), np.repeat(np.arange(12), 100)
        called += named(net, clusters, 12)
    assert called <= binom.ppf(0.999, 200, 0.05)


def test_evidence_is_what_the_bettors_of_all_strengths_have_made_of_one():
    net, clusters = np.array([1, 1, 1, -1, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 2])
    surplus = np.array([2, 2, 1])
    bettor = lambda strength: np.exp(strength * surplus.sum() - strength**2 * (surplus**2).sum() / 2)  # noqa: E731
    mixed, _ = quad(lambda strength: norm.pdf(strength, scale=20**-0.5) * bettor(strength), -10, 10)
    assert preference("a", "b", net, clusters).evidence == pytest.approx(mixed)


def test_the_interval_holds_the_shares_that_the_evidence_does_not_rule_out():
    rng = np.random.default_rng(5)
    net, clusters = np.where(rng.random(300) < 0.7, 1, -1), rng.integers(0, 90, 300)
    found = preference("a", "b", net, clusters)
    users = np.array([[(net[clusters == user] > 0).sum(), (clusters == user).sum()] for user in range(90)])

    def evidence(share):
        surplus = 2 * (users[:, 0] - share * users[:, 1])
        squares = surplus @ surplus
        return np.sqrt(20 / (20 + squares)) * np.exp(surplus.sum() ** 2 / (2 * (20 + squares)))

    for share in np.linspace(0, 1, 201):
        assert (evidence(share) < 20) == (found.low < share < found.high)
    assert found.winner == "a"


def test_the_further_lists_are_enough_four_times_in_five():
    rng = np.random.default_rng(4)
    found = preference("a", "b", np.repeat([1, -1], [228, 172]), np.arange(400))
    assert found.winner is None
    total, draws = 400 + found.further, 400
    enough = sum(
        preference("a", "b", np.where(rng.random(total) < found.share, 1, -1), np.arange(total)).winner == "a"
        for _ in range(draws)
    )
    assert binom.ppf(0.001, draws, 0.75) <= enough <= binom.ppf(0.999, draws, 0.85)


@pytest.mark.parametrize("net", [[], [0, 0, 0], [1, 1, 1]])
def test_too_little_is_no_verdict(net):
    found = preference("a", "b", np.array(net, dtype=np.int64), np.arange(len(net)))
    assert found.winner is None
    assert found.share == (1.0 if any(net) else None)
    assert (found.low, found.high) == ((0.0, 1.0) if any(net) else (None, None))
    assert found.evidence == pytest.approx(1.134 if any(net) else 1.0, abs=1e-3)


def row(ranking, item, team, relevance, policy=PAIR, user="u"):
    return {
        "query_id": "q", "time": SHOWN_AT[ranking], "ranking_id": ranking,
        "item_id": item, "user_id": user, "policy": policy, "team": team,
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
        (SHOWN_AT["r1"], "v1", "legacy", "user u", 0),
        (SHOWN_AT["r2"], "v1", "legacy", "user u", -1),
        (SHOWN_AT["r5"], "v2", "legacy", "query q", 1),
    ]
    assert drafted_lists(table, least=2)["net"].to_list() == [1, 0, 1]
    found = preferences(drafted_lists(table, least=2))
    assert [(one.first, one.rankings, one.wins) for one in found] == [("served", 3, 2), ("v1", 2, 1), ("v2", 1, 1)]
    assert preferences(drafted_lists(table.clear())) == []


def test_lines_share_the_level_in_the_order_in_which_they_came_and_keep_their_parts():
    shown = [("r1", "v1", "b"), ("r2", "v2", "b"), ("r3", "v1", "c"), ("r4", "v0", "b")]  # v0 is a rollback
    parts = []
    for count in range(1, len(shown) + 1):
        table = pl.DataFrame(
            [row(r, "a", first, 1, policy=policy_of(first, other)) for r, first, other in shown[:count]]
        )
        parts.append({(one.first, one.second): 0.05 * one.needed for one in preferences(drafted_lists(table))})
    assert parts[0] == {("v1", "b"): pytest.approx(1 / 0.8)}
    first = {("served", "b"): 1 / 0.8, ("v1", "b"): 1 / (0.2 / 2), ("v2", "b"): 1 / (0.2 / 6)}
    assert parts[1] == pytest.approx(first)
    assert parts[3] == pytest.approx(first | {("v1", "c"): 1 / (0.2 / 12), ("v0", "b"): 1 / (0.2 / 20)})
    assert sum(1 / part for part in parts[3].values()) <= 1
