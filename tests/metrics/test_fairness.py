"""The fairness gap against hand arithmetic, scikit-learn and fairlearn, and its null against simulated fair rankers."""

import numpy as np
import polars as pl
import pytest
from fairlearn.metrics import MetricFrame
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ltr_pipeline.errors import DatasetError, RankerError
from ltr_pipeline.metrics import fairness
from ltr_pipeline.metrics.fairness import MIN_SUPPORT, corrected
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.rankings import Rankings


def table(seed, rankings=400, size=8, items=60, groups="ab", penalty=0.0):
    """Rankings of recurring items whose group is their own; `penalty` is taken off the last group's scores."""
    rng = np.random.default_rng(seed)
    item = np.concatenate([rng.choice(items, size, replace=False) for _ in range(rankings)])
    relevance = rng.choice(4, size=rankings * size, p=[0.7, 0.1, 0.1, 0.1])
    label = np.array(list(groups))[item % len(groups)]
    score = relevance + rng.normal(0.0, 1.5, size=len(item)) - penalty * (label == groups[-1])
    return relevance, score.round(1), np.full(rankings, size), pl.Series(label), pl.Series(item)


def measure(relevance, score, group, label, item=None, users=None, seed=0, expected_groups=(), ndcg_at_5=None):
    clusters = np.arange(len(group)) if users is None else users
    groups = ProtectedGroups(label, item=item, expected=expected_groups)
    return fairness.measure(Rankings(relevance, score, group), groups, clusters, seed, ndcg_at_5=ndcg_at_5)


def accuracy_by_hand(relevance, score, group, label):
    """A(q, g) written as the definition reads, with scikit-learn's AUC per pair of grades."""
    found = {}
    for q, rows in enumerate(np.split(np.arange(len(score)), np.cumsum(group)[:-1])):
        for g in set(label[rows]) - {None}:
            right = pairs = 0.0
            for i in rows[(label[rows] == g) & (relevance[rows] > 0)]:
                others = [j for j in rows if label[j] not in (g, None) and relevance[j] < relevance[i]]
                if others:
                    right += roc_auc_score([1] + [0] * len(others), score[[i, *others]]) * len(others)
                    pairs += len(others)
            if pairs:
                found[q, g] = right / pairs
    return found


def test_accuracy_of_a_small_ranking_is_the_arithmetic_of_its_definition():
    # a: 3 above b's 0 (right), tied with b's 1 (half) = 3/4; b: 1 below a's 0 (wrong) = 0
    found = measure([3, 0, 1, 0], [2.0, 3.0, 2.0, 1.0], [4], pl.Series(["a", "a", "b", "b"]))
    assert [(g.protected_group, g.accuracy, g.pairs, g.rankings) for g in found.groups] == [
        ("a", 0.75, 2, 1),
        ("b", 0.0, 1, 1),
    ]


def test_agrees_with_scikit_learn_and_fairlearn():
    relevance, score, group, label, item = table(1, rankings=150, groups="abc")
    label = label.set(label.is_in(["c"]) & (pl.Series(np.arange(len(label))) % 3 == 0), None)
    by_hand = accuracy_by_hand(relevance, score, group, label.to_numpy())
    found = measure(relevance, score, group, label, item)
    values, names = np.array(list(by_hand.values())), np.array([g for _, g in by_hand])
    frame = MetricFrame(
        metrics=lambda y_true, y_pred: float(np.mean(y_pred)), y_true=values, y_pred=values, sensitive_features=names
    )
    assert {g.protected_group: g.accuracy for g in found.groups} == pytest.approx(frame.by_group.to_dict(), abs=1e-12)
    assert found.gap == pytest.approx(frame.difference(), abs=1e-12)
    assert found.gap > 0
    assert found.unknown_share == pytest.approx(label.null_count() / len(label))


def test_all_pairs_count_where_the_group_belongs_to_the_ranking():
    relevance, score, group, _, item = table(2)
    of_ranking = np.where(np.arange(len(group)) % 3 == 0, "x", "y")
    label = np.repeat(of_ranking, group)
    found = measure(relevance, score, group, pl.Series(label), item)
    per_ranking = {}
    for q, rows in enumerate(np.split(np.arange(len(score)), np.cumsum(group)[:-1])):
        better, worse = relevance[rows][:, None], relevance[rows][None]
        ours, theirs = score[rows][:, None], score[rows][None]
        right = ((ours > theirs) + 0.5 * (ours == theirs))[better > worse]
        if len(right):
            per_ranking.setdefault(of_ranking[q], []).append(right.mean())
    assert {g.protected_group: g.accuracy for g in found.groups} == pytest.approx(
        {name: np.mean(values) for name, values in per_ranking.items()}, abs=1e-12
    )


@given(st.integers(0, 10_000))
def test_row_order_and_names_of_groups_do_not_matter(seed):
    relevance, score, group, label, item = table(3, rankings=120, size=5)
    order = np.concatenate([start + np.random.default_rng(seed + start).permutation(5) for start in range(0, 600, 5)])
    before = measure(relevance, score, group, label, item)
    after = measure(relevance[order], score[order], group, label[order].replace({"a": "z", "b": "y"}), item[order])
    assert before.gap is not None
    assert after.gap == pytest.approx(before.gap, abs=1e-12)
    assert 0.0 <= before.gap <= 1.0
    assert sorted(g.accuracy for g in after.groups) == pytest.approx(sorted(g.accuracy for g in before.groups))


def test_a_penalty_is_seen_and_its_direction_named():
    found = measure(*table(4, rankings=1000, penalty=1.0))
    assert found.evaluable
    assert found.corrected_gap > 0.05
    assert found.gap > found.null_p95
    assert found.low < found.gap < found.high
    assert found.corrected_p20 > 0.05
    first, last = (entry for entry in found.groups if entry.kind == "mixed")
    assert first.accuracy > last.accuracy
    assert first.exposure > 1.0 > last.exposure
    assert found.exposure_gap == pytest.approx(first.exposure - last.exposure)


def test_noise_correction_takes_the_bias_off_a_fair_ranker():
    raw, left, above = [], [], 0
    for seed in range(30):
        found = measure(*table(seed, rankings=300, groups="abcd"), seed=seed)
        raw.append(found.gap)
        left.append(found.corrected_gap)
        above += found.gap > found.null_p95
    assert np.mean(raw) > 0.03  # what noise alone shows
    assert np.mean(left) < np.mean(raw) / 2
    assert above <= 5  # 1 or 2 of 30 are expected


def test_null_knows_that_items_recur():
    """Items of different quality make a gap by chance that shuffling row by row would call significant."""
    rng = np.random.default_rng(0)
    alarms = {"items": 0, "rows": 0}
    for seed in range(30):
        relevance, score, group, _, item = table(seed, rankings=200, items=20)
        quality = rng.normal(0.0, 1.5, size=20)
        label = pl.Series(np.array(["a", "b"])[rng.permutation(20) % 2][item.to_numpy()])
        for name, where in (("items", item), ("rows", None)):
            found = measure(relevance, score + quality[item.to_numpy()], group, label, where, seed=seed)
            alarms[name] += found.gap > found.null_p95
    assert alarms["items"] <= 5  # 1 or 2 of 30 are expected
    assert alarms["rows"] >= 9


def test_null_of_a_group_of_users_knows_that_users_recur():
    """30 users with very different scores: two groups of them differ by chance."""
    alarms = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        relevance, score, group, _, item = table(seed)
        user = rng.integers(30, size=len(group))
        spread = np.repeat(rng.gamma(1.0, 3.0, size=30)[user], group)
        label = pl.Series(np.repeat(np.array(["x", "y"])[user % 2], group))
        found = measure(relevance, score + spread * rng.normal(size=len(score)), group, label, item, users=user)
        alarms += found.gap > found.null_p95
    assert alarms <= 5


def test_nothing_configured_says_so():
    relevance, score, group, label, item = table(5, rankings=20)
    found = measure(relevance, score, group, pl.Series([None] * len(label), dtype=pl.String), item)
    assert (found.configured, found.evaluable, found.gap, found.unknown_share) == (False, False, None, 1.0)
    assert found.reason == "no impression has a protected group"


def test_thin_groups_are_never_silent():
    relevance, score, group, label, item = table(6, rankings=MIN_SUPPORT - 1)
    found = measure(relevance, score, group, label, item)
    assert (found.configured, found.evaluable, found.gap) == (True, False, None)
    assert f"needs {MIN_SUPPORT} rankings" in found.reason

    relevance, score, group, label, item = table(6)
    rare = label.set(pl.Series(np.arange(len(label)) < 80), "rare")
    found = measure(relevance, score, group, rare, item)
    assert not found.evaluable
    assert "rare has" in found.reason
    assert found.gap is not None  # of the groups with support: it may still fail the gate


def test_a_group_that_vanished_from_the_test_days_is_not_a_silent_pass():
    relevance, score, group, label, item = table(6)
    found = measure(relevance, score, group, label, item, expected_groups=["a", "c"])
    assert not found.evaluable
    assert found.reason.endswith("c has 0")
    assert found.groups[2].exposure is None
    gone = pl.Series([None] * len(label), dtype=pl.String)
    found = measure(relevance, score, group, gone, item, expected_groups=["a", "b"])
    assert (found.configured, found.evaluable, found.gap) == (True, False, None)


def test_one_group_and_few_users_are_not_evaluable():
    relevance, score, group, label, item = table(7)
    one = measure(relevance, score, group, pl.Series(["a"] * len(label)), item)
    assert not one.evaluable
    assert "two protected groups" in one.reason
    few = measure(relevance, score, group, label, item, users=np.arange(len(group)) % 5)
    assert not few.evaluable
    assert "5 users" in few.reason


def test_no_relevant_item_at_all():
    _, score, group, label, item = table(8)
    found = measure(np.zeros(len(score), dtype=int), score, group, label, item)
    assert (found.evaluable, found.gap) == (False, None)
    assert {g.accuracy for g in found.groups} == {None}
    assert found.reason == "no ranking has two items of different groups of which one is more relevant"


def of_users(seed, rankings=800, unfair=0.0):
    """Rankings of recurring items whose group is the user's; `unfair` is noise on the scores for group b."""
    relevance, score, group, _, item = table(seed, rankings=rankings)
    label = np.where(np.arange(rankings) % 2 == 0, "a", "b")
    noise = np.random.default_rng(seed).normal(size=len(score)) * unfair
    return relevance, score + noise * np.repeat(label == "b", group), group, pl.Series(np.repeat(label, group)), item


def test_pure_and_mixed_rankings_are_judged_each_by_themselves():
    """800 lists of two user groups, unfair, keep their gap when 200 mixed lists that are fair stand beside them."""
    unfair, fair = of_users(13, unfair=6.0), table(14, rankings=200)
    alone = measure(*unfair)
    relevance, score, group, label, item = (
        pl.concat([one, two]) if isinstance(one, pl.Series) else np.concatenate([one, two])
        for one, two in zip(unfair, fair, strict=True)
    )
    both = measure(relevance, score, group, label, item)
    assert (alone.kind, both.kind, both.other.kind) == ("pure", "pure", "mixed")
    assert alone.gap > 0.15
    assert both.gap == pytest.approx(alone.gap, abs=0.005)
    assert both.other.corrected_gap < 0.05
    assert both.evaluable


@pytest.mark.parametrize("rankings", [800, 3000])
def test_a_dirty_record_in_a_thousand_changes_no_definition(rankings):
    for seed in range(3):
        relevance, score, group, label, item = of_users(seed, rankings, unfair=2.0)
        clean = measure(relevance, score, group, label, item)
        dirty = np.random.default_rng(seed).random(len(label)) < 0.001
        other = label.replace({"a": "b", "b": "a"})
        found = measure(relevance, score, group, label.zip_with(pl.Series(~dirty), other), item)
        assert dirty.any()
        assert (found.kind, found.evaluable) == (clean.kind, True)
        assert found.gap == pytest.approx(clean.gap, abs=0.005)


def test_typos_are_pooled_and_block_nothing():
    relevance, score, group, label, item = table(15)
    shown = label.set(pl.Series(np.arange(len(label)) == 0), "A ").set(pl.Series(np.arange(len(label)) == 1), "a ")
    groups = ProtectedGroups.pool(shown, label, item, 0.01)
    found = fairness.measure(Rankings(relevance, score, group), groups, np.arange(len(group)), 0)
    assert (groups.names, groups.pooled, found.evaluable) == (["a", "b", "other"], ["A"], True)
    assert found.pooled_share == 1 / len(label)


def test_more_groups_than_fit_two_bytes():
    names = pl.Series([f"g{n:05}" for n in range(40_000)])
    rankings = Rankings(np.tile([1, 0], 20_000), np.zeros(40_000), np.full(20_000, 2))
    groups = ProtectedGroups.pool(names, names, None, 0.01)
    found = fairness.measure(rankings, groups, np.arange(20_000), 0)
    assert (len(found.pooled), found.pooled_share, found.evaluable) == (40_000, 1.0, False)


def test_rankings_of_one_group_without_a_relevant_item():
    _, score, group, _, item = table(8)
    of_row = np.repeat(np.where(np.arange(len(group)) % 2 == 0, "a", "b"), group)
    found = measure(np.zeros(len(score), dtype=int), score, group, pl.Series(of_row), item)
    assert found.reason == "no ranking has two items of known groups of which one is more relevant"


def test_long_lists_are_sampled_without_bias():
    rng = np.random.default_rng(9)
    size, rankings = 600, 40
    relevance = np.zeros(size * rankings, dtype=int)
    relevance[::20] = 1
    score = relevance + rng.normal(size=len(relevance))
    label = np.array(["a", "b"])[rng.integers(2, size=len(relevance))]
    found = measure(relevance, score, np.full(rankings, size), pl.Series(label))
    exact = []
    for rows in np.split(np.arange(len(score)), rankings):
        ours = rows[(relevance[rows] == 1) & (label[rows] == "a")]
        others = rows[(relevance[rows] == 0) & (label[rows] == "b")]
        exact.append(roc_auc_score(np.r_[np.ones(len(ours)), np.zeros(len(others))], score[np.r_[ours, others]]))
    assert found.groups[0].accuracy == pytest.approx(np.mean(exact), abs=0.02)
    assert found.groups[0].pairs < 40 * 30 * 101


def test_same_seed_same_result():
    assert measure(*table(10), seed=3) == measure(*table(10), seed=3)
    assert measure(*table(10), seed=3) != measure(*table(10), seed=4)


def test_ndcg_is_shown_beside_its_group():
    found = measure(*table(11), ndcg_at_5={"a": 0.7})
    assert {(g.protected_group, g.ndcg_at_5) for g in found.groups} == {("a", 0.7), ("b", None)}


def test_wrong_input_is_refused():
    relevance, score, group, label, item = table(12, rankings=5)
    with pytest.raises(DatasetError, match="39 protected groups"):
        measure(relevance, score, group, label[1:], item)
    with pytest.raises(RankerError, match="NaN"):
        measure(relevance, score * np.nan, group, label, item)


def test_correction_never_goes_below_zero():
    assert corrected(0.05, 0.03) == pytest.approx((0.05**2 - 0.03**2) ** 0.5)
    assert corrected(0.03, 0.05) == 0.0
