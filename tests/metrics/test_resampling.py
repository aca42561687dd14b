"""The cluster bootstrap and jackknife, held against the textbook standard error."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.metrics.resampling import (
    MIN_CLUSTERS,
    Interval,
    cluster_codes,
    cluster_sums,
    mean_intervals,
    resample,
)


def mean_interval(values, clusters):
    """Interval of one column."""
    found = mean_intervals(values[:, None], clusters)
    return found and found[0]


@given(st.lists(st.none() | st.sampled_from("abc"), min_size=1, max_size=20))
def test_codes_are_equal_exactly_where_known_labels_are(labels):
    codes = cluster_codes(labels)
    for i, left in enumerate(labels):
        for j, right in enumerate(labels):
            assert (codes[i] == codes[j]) == (i == j or (left is not None and left == right))
    assert sorted(set(codes.tolist())) == list(range(len(set(codes.tolist()))))


def test_codes_take_a_column_and_plain_numbers():
    assert cluster_codes(pl.Series(["u", None, "u"])).tolist() == [0, 1, 0]
    assert cluster_codes(np.array([9, 4, 9])).tolist() == [1, 0, 1]


def test_every_draw_holds_as_many_clusters_as_there_are():
    totals = resample(np.ones((37, 1)), np.random.default_rng(0), draws=50)
    assert totals.tolist() == [[37.0]] * 50


def test_interval_of_independent_values_is_the_normal_one():
    values = np.random.default_rng(1).normal(size=4000)
    found = mean_interval(values, np.arange(4000))
    half = 1.96 * values.std() / np.sqrt(4000)
    assert found is not None
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_rankings_of_one_user_do_not_count_as_independent():
    users = np.repeat(np.arange(400), 10)
    values = np.random.default_rng(1).normal(size=400)[users]
    alone = mean_interval(values, np.arange(4000))
    together = mean_interval(values, users)
    assert alone is not None
    assert together is not None
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(10), rel=0.1)


def test_many_clusters_are_bundled_without_changing_the_variance():
    values = np.random.default_rng(1).normal(size=50_000)
    draws = resample(values[:, None], np.random.default_rng(3), draws=600)[:, 0]
    assert draws.std() == pytest.approx(values.std() * np.sqrt(50_000), rel=0.15)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("users", [10, 15, 30])
def test_few_users_are_covered_as_often_as_it_says(users, uneven):
    """The percentile bootstrap covers 87 to 92 % here; the bound leaves room for the luck of 300 draws."""
    rng, covered = np.random.default_rng(users), 0
    for _ in range(300):
        lists = rng.geometric(1 / 20, users) if uneven else np.full(users, 20)
        taste = rng.beta(6, 3, users).repeat(lists)
        found = mean_interval(rng.beta(2 * taste, 2 * (1 - taste)), np.arange(users).repeat(lists))
        covered += found.low <= 6 / 9 <= found.high
    assert covered >= 0.91 * 300


def test_too_few_clusters_make_no_interval():
    values = np.random.default_rng(1).random(1000)
    few = np.arange(1000) % (MIN_CLUSTERS - 1)
    assert mean_interval(values, few) is None
    assert isinstance(mean_interval(values, np.arange(1000) % MIN_CLUSTERS), Interval)


def test_cluster_sums_keep_the_total():
    table = np.arange(12.0).reshape(6, 2)
    sums = cluster_sums(table, np.array([5, 1, 5, 1, 5, 1]))
    assert sums.tolist() == [[2 + 6 + 10, 3 + 7 + 11], [0 + 4 + 8, 1 + 5 + 9]]


def test_columns_are_judged_each_by_itself():
    values = np.random.default_rng(1).random((50, 2))
    left, right = mean_intervals(values, np.arange(50))
    assert left == mean_interval(values[:, 0], np.arange(50))
    assert right == mean_interval(values[:, 1], np.arange(50))
