"""Metrics against hand arithmetic, ir_measures and scikit-learn."""

import datetime as dt
import itertools
import math

import ir_measures
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Success, nDCG
from sklearn.metrics import ndcg_score

from ltr_pipeline.metrics import quality, slices
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Estimate, hit, mrr, ndcg
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.resampling import mean_intervals

METRICS = {"ndcg": ndcg, "linear": lambda table: ndcg(table, gain="linear"), "mrr": mrr, "hit": hit}


@st.composite
def rankings(draw, tied=True):
    """One ranking: relevance and score."""
    size = draw(st.integers(1, 5))
    relevance = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    scores = st.integers(0, 3) if tied else st.floats(-1e6, 1e6)
    score = draw(st.lists(scores, min_size=size, max_size=size, unique=not tied))
    return relevance, score


def falling(score, order):
    return all(score[a] >= score[b] for a, b in itertools.pairwise(order))


def random_table(seed, rankings=200, tied=False):
    rng = np.random.default_rng(seed)
    group = rng.integers(1, 15, size=rankings)
    relevance = rng.choice(4, size=group.sum(), p=[0.8, 0.1, 0.06, 0.04])
    score = rng.integers(0, 4, size=group.sum()).astype(float) if tied else rng.permutation(group.sum()) / 7.0
    return relevance, score, group


def test_ndcg_is_the_arithmetic_of_its_definition():
    # relevance by rank 0, 3, 1 : (7 / log2(3) + 1 / log2(4)) / (7 / log2(2) + 1 / log2(3))
    found = ndcg(Rankings([3, 0, 1], [0.5, 0.9, 0.1], [3]))
    assert found.tolist() == pytest.approx([(7 / math.log2(3) + 1 / 2) / (7 + 1 / math.log2(3))], abs=1e-15)
    linear = ndcg(Rankings([3, 0, 1], [0.5, 0.9, 0.1], [3]), gain="linear")
    assert linear.tolist() == pytest.approx([(3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3))], abs=1e-15)


def test_high_grades_in_small_integers_do_not_overflow():
    found = ndcg(Rankings(np.array([12, 30, 0], dtype=np.int8), [3.0, 2.0, 1.0], [3]))
    best = (2.0**30 - 1) + (2.0**12 - 1) / math.log2(3)
    assert found.tolist() == pytest.approx([((2.0**12 - 1) + (2.0**30 - 1) / math.log2(3)) / best], abs=1e-15)


def test_only_the_first_five_ranks_count():
    assert ndcg(Rankings([0, 0, 0, 0, 0, 1], [6, 5, 4, 3, 2, 1], [6])).tolist() == [0.0]
    assert ndcg(Rankings([0, 0, 0, 0, 1, 0], [6, 5, 4, 3, 2, 1], [6])).tolist() == pytest.approx([1 / math.log2(6)])


def test_random_order_of_short_lists_scores_above_the_default_threshold():
    # One relevant item among n: the mean of the first n discounts.
    for size, expected in ((2, 0.82), (3, 0.71), (4, 0.64)):
        found = ndcg(Rankings([1] + [0] * (size - 1), [0.0] * size, [size]))[0]
        assert found == pytest.approx(sum(1 / math.log2(r + 1) for r in range(1, size + 1)) / size, abs=1e-15)
        assert found == pytest.approx(expected, abs=0.006)


def test_agrees_with_ir_measures_where_there_are_no_ties():
    relevance, score, group = random_table(1)
    measures = {nDCG(gains={1: 1, 2: 3, 3: 7}) @ 5: ndcg, RR: mrr, Success @ 3: hit}
    owner = np.repeat(np.arange(len(group)), group)
    names = [f"i{i}" for i in range(len(owner))]
    qrels = [ir_measures.Qrel(f"q{q}", i, int(r)) for q, i, r in zip(owner, names, relevance, strict=True)]
    run = [ir_measures.ScoredDoc(f"q{q}", i, float(s)) for q, i, s in zip(owner, names, score, strict=True)]
    theirs = {(m.measure, m.query_id): m.value for m in ir_measures.iter_calc(list(measures), qrels, run)}
    compared = 0
    for measure, ours in measures.items():
        for query, value in enumerate(ours(Rankings(relevance, score, group))):
            if not np.isnan(value):
                assert value == pytest.approx(theirs[measure, f"q{query}"], abs=1e-12)
                compared += 1
    assert compared > 300


@pytest.mark.parametrize("tied", [False, True])
def test_agrees_with_scikit_learn_on_the_gains_ties_included(tied):
    relevance, score, group = random_table(2, tied=tied)
    found = ndcg(Rankings(relevance, score, group))
    parts = zip(*(np.split(column, np.cumsum(group)[:-1]) for column in (relevance, score)), found, strict=True)
    checked = 0
    for part, scores, value in parts:
        if not np.isnan(value):
            assert value == pytest.approx(ndcg_score([2.0**part - 1], [scores], k=5), abs=1e-12)
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("metric", METRICS)
@given(ranking=rankings())
def test_ties_are_the_mean_over_all_orders_of_the_tied(metric, ranking):
    relevance, score = ranking
    found = METRICS[metric](Rankings(relevance, score, [len(score)]))[0]
    orders = [order for order in itertools.permutations(range(len(score))) if falling(score, order)]
    tables = [Rankings([relevance[i] for i in order], range(len(order), 0, -1), [len(order)]) for order in orders]
    each = [METRICS[metric](table)[0] for table in tables]
    assert found == pytest.approx(np.mean(each), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
@given(ranking=rankings(), seed=st.integers(0, 99))
def test_row_order_does_not_matter(metric, ranking, seed):
    relevance, score = map(np.array, ranking)
    order = np.random.default_rng(seed).permutation(len(score))
    before = METRICS[metric](Rankings(relevance, score, [len(score)]))
    after = METRICS[metric](Rankings(relevance[order], score[order], [len(score)]))
    assert after == pytest.approx(before, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
@given(ranking=rankings(tied=False))
def test_bounded_and_best_for_the_perfect_order(metric, ranking):
    relevance, score = ranking
    value, best = (METRICS[metric](Rankings(relevance, s, [len(score)]))[0] for s in (score, relevance))
    if max(relevance) == min(relevance):  # any order is the best
        assert np.isnan(value)
    else:
        assert 0.0 <= value <= best + 1e-12
        assert best == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@given(ranking=rankings(tied=False), data=st.data())
def test_raising_the_score_of_a_best_item_never_hurts(metric, ranking, data):
    relevance, score = ranking
    best = data.draw(st.sampled_from([i for i, r in enumerate(relevance) if r == max(relevance)]))
    raised = [*score[:best], score[best] + data.draw(st.floats(0, 1e6)), *score[best + 1 :]]
    before, after = (METRICS[metric](Rankings(relevance, s, [len(score)]))[0] for s in (score, raised))
    assert np.isnan(before) or after >= before - 1e-12


def test_estimate_counts_what_it_leaves_out():
    found = quality.estimate(np.array([0.5, np.nan, 1.0]), np.arange(3))
    assert found == Estimate(value=0.75, low=None, high=None, n=2, excluded=1)
    assert quality.estimate(np.array([np.nan]), np.arange(1)) == Estimate(
        value=None, low=None, high=None, n=0, excluded=1
    )


def test_paired_difference_is_much_narrower_than_two_intervals():
    rng = np.random.default_rng(0)
    base = rng.random(400)
    other = base + rng.normal(0.0, 0.05, size=400)
    found = quality.paired(base, other, np.arange(400))
    (alone,) = mean_intervals(base[:, None], np.arange(400)) or ()
    assert found is not None
    assert found.value == pytest.approx((base - other).mean())
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.3 * (alone.high - alone.low)


def test_paired_leaves_out_what_either_cannot_rank_and_few_clusters():
    one = np.array([1.0, np.nan, 0.5] * 10)
    two = np.array([0.5, 1.0, np.nan] * 10)
    found = quality.paired(one, two, np.arange(30))
    assert found is not None
    assert (found.value, found.n) == (0.5, 10)
    assert quality.paired(one, two, np.zeros(30, dtype=int)) is None
    assert quality.paired(one * np.nan, two, np.arange(30)) is None


def test_measure_has_every_metric_of_one_order():
    relevance, score, group = random_table(3)
    table = Rankings(relevance, score, group)
    found = quality.measure(table, np.arange(len(group)))
    assert found.ndcg_at_5.value == pytest.approx(np.nanmean(ndcg(table)))
    assert found.linear_ndcg_at_5.value == pytest.approx(np.nanmean(ndcg(table, gain="linear")))
    assert found.mrr.value == pytest.approx(np.nanmean(mrr(table)))
    assert found.hit_at_3.value == pytest.approx(np.nanmean(hit(table)))
    assert found.mrr.n + found.mrr.excluded == len(group)
    assert found.mrr.low < found.mrr.value < found.mrr.high


def test_slices_by_group_part_of_day_and_new_items():
    # Two rankings of three: at 07:00 with a new item, at 20:00 without.
    time = pl.Series(["2025-07-01T07:00:00Z", "2025-07-01T20:00:00Z"]).str.to_datetime(time_zone="UTC")
    table = Rankings([0, 1, 0, 2, 0, 0], [3.0, 2.0, 1.0, 3.0, 2.0, 1.0], [3, 3])
    groups = ProtectedGroups(pl.Series(["a", "a", "b", "a", None, "b"]), expected=["c"])
    new_item = np.array([False, True, False, False, False, False])
    parts = slices.by_group(groups) | slices.by_day_part(table, time) | slices.by_novelty(table, new_item)
    found = slices.measure(table, parts, np.arange(2))
    values = {(s.dimension, s.value): (s.ndcg_at_5.value, s.impressions, s.note) for s in found}
    second = pytest.approx(1 / math.log2(3))
    assert values == {
        # only the items of "a": rank 2 of two in the first ranking; a single one in the second is not eligible
        ("protected_group", "a"): (second, 3, ""),
        ("protected_group", "b"): (None, 2, "none of its rankings is eligible"),
        ("protected_group", "c"): (None, 0, "no test ranking is in this slice"),
        ("protected_group", "unknown"): (None, 1, "none of its rankings is eligible"),
        ("day_part", "00-06"): (None, 0, "no test ranking is in this slice"),
        ("day_part", "06-12"): (second, 3, ""),
        ("day_part", "12-18"): (None, 0, "no test ranking is in this slice"),
        ("day_part", "18-24"): (1.0, 3, ""),
        ("items", "known"): (1.0, 3, ""),
        ("items", "new"): (second, 3, ""),
    }


def test_slices_by_segment_of_the_user_and_those_without_one():
    table = Rankings([0, 1, 1, 0, 1, 0, 1, 0], [2.0, 1.0] * 4, [2, 2, 2, 2])
    users = pl.Series(["ann", "ben", "stranger", None])
    known = slices.UserSegments(
        period=dt.date(2025, 7, 7), labels=["high", "low", "none"], of_user={"ann": "low", "ben": "high"}
    )
    found = slices.measure(table, slices.by_user_segment(table, users, known), np.arange(4))
    assert [(s.dimension, s.value, s.ndcg_at_5.value, s.impressions) for s in found] == [
        ("user_segment", "high", 1.0, 2),
        ("user_segment", "low", pytest.approx(1 / math.log2(3)), 2),
        ("user_segment", "none", None, 0),
        ("user_segment", "unknown", 1.0, 4),
    ]
    everyone = slices.by_user_segment(table, pl.Series(["ann", "ben", "ann", "ben"]), known)
    assert [value for _, value in everyone] == ["high", "low", "none"]
