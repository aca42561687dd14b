"""How a day differs: distances that a reader can check, and tests that know which rows belong together."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from ltr_pipeline.metrics.drift import BINS, Rows, binned, compare, ks_distance, psi, quantile_edges

NAN = np.float32("nan")
TODAY = dt.date(2025, 7, 29).toordinal()
TRAILING = list(range(TODAY - 28, TODAY))
WEEKDAY = [TODAY - 28, TODAY - 21, TODAY - 14, TODAY - 7]
BOTH = {"trailing": TRAILING, "weekday": WEEKDAY}

values = st.lists(st.integers(-3, 3) | st.floats(-1e6, 1e6, width=32) | st.just(np.nan), min_size=1, max_size=60)


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


# Bins


def test_a_bin_is_a_tenth_of_the_reference():
    reference = np.arange(1, 1001, dtype=np.float32)
    edges = quantile_edges(reference)
    assert edges.tolist() == [100, 200, 300, 400, 500, 600, 700, 800, 900]
    assert np.bincount(binned(reference, edges)).tolist() == [100] * 10


def test_few_values_have_a_bin_each_and_so_has_what_is_beyond_them():
    edges = quantile_edges(floats(1, 0, 1, 1, 1, NAN))
    assert binned(floats(-1, 0, 1, 2, NAN), edges).tolist() == [0, 1, 2, 3, 4]
    constant = quantile_edges(floats(7, 7, 7))
    assert binned(floats(6.99, 7, 7.01, NAN), constant).tolist() == [0, 1, 2, 3]


def test_a_value_that_most_rows_share_has_a_bin_of_its_own():
    rare = np.linspace(-2, -1, 50, dtype=np.float32)  # 5 % below
    edges = quantile_edges(np.concatenate([rare, np.zeros(900, np.float32), -rare]))
    bins = binned(floats(-1.5, 0, 1.5), edges)
    assert len(set(bins.tolist())) == 3


def test_without_any_value_there_are_two_bins():
    assert binned(floats(1, NAN), quantile_edges(floats(NAN, NAN))).tolist() == [0, 1]


@given(values, values)
def test_bins_follow_the_order_of_values_and_every_value_has_one(reference, current):
    edges = quantile_edges(floats(*reference))
    assert len(edges) <= BINS + 1
    assert (np.diff(edges) > 0).all()
    now = np.sort(floats(*current))
    bins = binned(now, edges)
    assert (np.diff(bins) >= 0).all()  # missing values are sorted last, and are the last bin
    assert ((bins == len(edges) + 1) == np.isnan(now)).all()


# Distances


def test_psi_of_halves_that_become_a_quarter_and_three():
    # (.75 - .5) ln(.75 / .5) + (.25 - .5) ln(.25 / .5) = 0.25 * 0.4055 + 0.25 * 0.6931
    large = psi(np.array([500_000, 500_000]), np.array([750_000, 250_000]))
    assert large == pytest.approx(0.25 * np.log(1.5) + 0.25 * np.log(2), abs=1e-4)


def test_the_null_mean_of_psi_is_that_of_science():
    """(B - 1)(1/n + 1/m) of independent rows: 9 * 2/500 = 0.036, as measured for 500 rows on either side."""
    rng = np.random.default_rng(3)
    draws = rng.multinomial(500, np.full(10, 0.1), size=(2000, 2))
    raw = [psi(one, other, null_mean=0.0) for one, other in draws]
    assert np.mean(raw) == pytest.approx(0.036, rel=0.05)
    assert np.mean([psi(one, other) for one, other in draws]) == pytest.approx(0, abs=0.002)


def test_bins_that_nobody_is_in_change_nothing():
    assert psi(np.array([5, 0, 5]), np.array([3, 0, 7])) == psi(np.array([5, 5]), np.array([3, 7]))


def test_nothing_has_no_distance():
    assert np.isnan(psi(np.array([0, 0]), np.array([1, 1])))
    assert np.isnan(ks_distance(floats(), floats(1)))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.lists(st.integers(-5, 5), min_size=1, max_size=40))
def test_the_ks_distance_is_that_of_scipy_with_ties_too(one, other):
    expected = ks_2samp(one, other, method="exact").statistic
    assert ks_distance(np.sort(floats(*one)), np.sort(floats(*other))) == pytest.approx(expected, abs=1e-6)


# Chance


def days(lists: int = 40, size: int = 10, *, users: int | None = None, seed: int = 1):
    """Rows of 29 days: the day, the list (numbered anew every day) and the user of each."""
    rng = np.random.default_rng(seed)
    day = np.repeat([*TRAILING, TODAY], lists * size)
    shown = np.tile(np.repeat(np.arange(lists), size), 29)
    return Rows(day=day, cluster=rng.integers(users, size=29 * lists).repeat(size) if users else shown), rng


def by_kind(found):
    return {one.kind: one for one in found.differences}


def test_clusters_of_two_days_are_two():
    rows = Rows(day=np.array([3, 3, 3, 5]), cluster=np.array([8, 8, -1, 8]))
    assert rows.days.tolist() == [3, 5]
    assert rows.clusters.tolist() == [2, 1]
    assert rows.code.tolist() == [1, 1, 0, 2]


def test_what_is_missing_higher_or_wider_is_told_apart():
    rows, rng = days()
    plain = rng.standard_normal(len(rows.day)).astype(np.float32)
    today = rows.day == TODAY
    gone, higher, wider = plain.copy(), plain.copy(), plain.copy()
    gone[today & (rng.random(len(plain)) < 0.2)] = np.nan
    higher[today] += 1
    wider[today] *= 3
    for changed, kind in ((gone, "missing"), (higher, "location"), (wider, "spread")):
        found = compare(changed, rows, TODAY, BOTH)
        first = found.differences[0]
        assert (first.kind, first.rises) == (kind, True)
        assert first.p < 1e-6
        assert all(psi > 0.05 for psi in found.psi.values())
    same = compare(plain, rows, TODAY, BOTH)
    assert same.differences[0].p > 0.01
    assert all(abs(psi) < 0.05 for psi in same.psi.values())


def test_the_design_effect_of_a_value_a_list_is_the_length_of_lists():
    rows, rng = days(size=10)
    of_list = rng.standard_normal(29 * 40).astype(np.float32).repeat(10)
    of_row = rng.standard_normal(len(rows.day)).astype(np.float32)
    assert compare(of_list, rows, TODAY, BOTH).design == pytest.approx(10, rel=0.1)
    assert compare(of_row, rows, TODAY, BOTH).design == pytest.approx(1, rel=0.1)


def test_rows_of_a_list_are_not_taken_for_independent_ones():
    """One value a list, and too short a history to know how days differ."""
    told = {"lists": 0, "rows": 0}
    for seed in range(40):
        rows, rng = days(seed=seed)
        of_list = rng.standard_normal(29 * 40).astype(np.float32).repeat(10)
        alone = Rows(day=rows.day, cluster=np.arange(len(rows.day)))
        for name, clusters in (("lists", rows), ("rows", alone)):
            found = compare(of_list, clusters, TODAY, {"trailing": TRAILING[-6:]})
            told[name] += by_kind(found)["location"].p < 0.05
    assert told["lists"] <= 6
    assert told["rows"] >= 15


def test_days_that_differ_by_themselves_are_no_news():
    """Each day moves the mean by a quarter of a standard deviation, this one no more than others do."""
    told = 0
    for seed in range(40):
        rows, rng = days(seed=seed)
        weather = rng.standard_normal(29).astype(np.float32).repeat(400) / 4
        found = compare(rng.standard_normal(len(weather)).astype(np.float32) + weather, rows, TODAY, BOTH)
        told += by_kind(found)["location"].p < 0.01
    assert told <= 3


def test_a_weekday_that_is_always_different_is_no_news():
    rows, rng = days()
    plain = rng.standard_normal(len(rows.day)).astype(np.float32)
    plain[rows.day % 7 == TODAY % 7] += 1
    assert by_kind(compare(plain, rows, TODAY, {"trailing": TRAILING}))["location"].p < 1e-4
    assert by_kind(compare(plain, rows, TODAY, BOTH))["location"].p > 0.01


def test_an_odd_day_in_the_reference_does_not_hide_a_change():
    rows, rng = days()
    plain = rng.standard_normal(len(rows.day)).astype(np.float32)
    plain[rows.day == TODAY - 10] += 3  # an outage
    plain[rows.day == TODAY] += 0.5
    assert by_kind(compare(plain, rows, TODAY, BOTH))["location"].p < 1e-3


def test_two_days_in_a_row_say_more_than_one():
    surer = 0
    for seed in range(20):
        rows, rng = days(seed=seed)
        plain = rng.standard_normal(len(rows.day)).astype(np.float32)
        p = [
            by_kind(compare(plain + 0.2 * (rows.day >= day), rows, TODAY, BOTH))["location"].p
            for day in (TODAY, TODAY - 1)
        ]
        surer += p[1] < p[0]
    assert surer >= 15


def test_yesterday_alone_is_yesterdays_news():
    rows, rng = days()
    plain = rng.standard_normal(len(rows.day)).astype(np.float32)
    today = rows.day == TODAY
    plain[today] -= plain[today].mean() - plain[~today].mean()  # no more than others
    plain[rows.day == TODAY - 1] += 1
    assert by_kind(compare(plain, rows, TODAY, BOTH))["location"].p > 0.05


def test_references_that_disagree_tell_nothing():
    rows, rng = days()
    plain = rng.standard_normal(len(rows.day)).astype(np.float32)
    plain[rows.day % 7 == TODAY % 7] += 2  # this weekday is higher,
    plain[rows.day == TODAY] -= 1  # and lower than it was, today
    assert by_kind(compare(plain, rows, TODAY, BOTH))["location"].p == 1.0


def test_a_constant_or_a_missing_column_differs_from_nothing():
    rows, _ = days(lists=2, size=3)
    for column in (np.full(len(rows.day), 7, np.float32), np.full(len(rows.day), NAN)):
        found = compare(column, rows, TODAY, BOTH)
        assert [one.p for one in found.differences] == [1.0] * 3
        assert all(abs(one) < 1e-9 for one in found.psi.values())


def test_a_constant_that_becomes_another_is_told():
    rows, _ = days()
    column = np.where(rows.day == TODAY, 8, 7).astype(np.float32)
    found = compare(column, rows, TODAY, BOTH)
    assert found.ks == {"trailing": 1.0, "weekday": 1.0}
    assert by_kind(found)["location"].p < 1e-6


def test_with_one_reference_of_one_day_only_what_is_far_is_told():
    rows, rng = days()
    plain = rng.standard_normal(len(rows.day)).astype(np.float32)
    yesterday = {"trailing": [TODAY - 1]}
    assert compare(plain, rows, TODAY, yesterday).differences[0].p > 0.01
    plain[rows.day == TODAY] += 2
    assert by_kind(compare(plain, rows, TODAY, yesterday))["location"].p < 1e-4


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from([np.nan, 0, 1, 2.5])), min_size=1))
def test_any_rows_can_be_compared(drawn):
    day, cluster, column = map(np.array, zip(*[*drawn, (0, 0, 1.0), (9, 0, 1.0)], strict=True))
    rows = Rows(day=day.astype(np.int64), cluster=cluster.astype(np.int64))
    former = {"trailing": [one for one in rows.days.tolist() if one != 9], "weekday": [0]}
    found = compare(column.astype(np.float32), rows, 9, former)
    assert all(0 <= one.p <= 1 for one in found.differences)
    assert found.counts.sum() == (day == 9).sum()
    assert found.reference_counts.sum() == (day != 9).sum()
    assert found.design >= 1
