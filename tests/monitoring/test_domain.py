"""The domain classifier: what it tells apart, what it must not, and when it knows too little to be sure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltr_pipeline.monitoring.domain import FOLDS, LEADING, LEAST_PEOPLE, Sides, by_rank, domain_drift, some_clusters

ROWS = 1000
NAN = np.float32("nan")


def sides(reference: np.ndarray, current: np.ndarray, asker: np.ndarray | None = None) -> Sides:
    """Sides of which each ten rows are of one person, unless it is said who asked."""
    rows, features = len(reference) + len(current), reference.shape[1]
    return Sides(
        reference.astype(np.float32),
        current.astype(np.float32),
        np.arange(rows) // 10 if asker is None else asker,
        [f"f{place}" for place in range(features)],
        np.ones(features),
    )


def normal(rows: int = ROWS, features: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, features))


def together(rows: int = ROWS, seed: int = 2) -> np.ndarray:
    """Each feature is as before, and the first two go together."""
    found = normal(rows, seed=seed)
    found[:, 1] = 0.8 * found[:, 0] + 0.6 * found[:, 1]
    return found


def test_sides_that_are_alike_are_not_told_apart():
    found = domain_drift("trailing", sides(normal(), normal(seed=2)), seed=1)
    assert found.reference == "trailing"
    assert 0.4 < found.auc.low < found.auc.high < 0.55
    assert found.auc.n == 2 * ROWS


def test_what_no_single_feature_shows_is_found_and_named():
    found = domain_drift("trailing", sides(normal(), together()), seed=1)
    assert found.auc.low > 0.6
    assert set(list(found.leading)[:2]) == {"f0", "f1"}
    assert sum(found.leading.values()) == pytest.approx(1)


def test_few_leading_features_are_named():
    found = domain_drift("trailing", sides(normal(features=8), normal(features=8, seed=2)), seed=1)
    assert len(found.leading) == LEADING
    assert list(found.leading.values()) == sorted(found.leading.values(), reverse=True)


def test_the_same_rows_give_the_same():
    of = sides(normal(), together())
    assert domain_drift("trailing", of, seed=1) == domain_drift("trailing", of, seed=1)


def test_nobody_is_known_again():
    """What a person has is the same on both sides' rows, and would tell who it is: folds are of people."""
    asker = np.tile(np.arange(100), 20)
    of_person = normal(100)[asker]
    found = domain_drift("trailing", sides(of_person[:ROWS], of_person[ROWS:], asker), seed=1)
    assert found.auc.value == pytest.approx(0.5, abs=0.03)


def test_a_feature_of_lists_counts_for_less_than_its_rows():
    of = sides(np.repeat(normal(ROWS // 10), 10, axis=0), np.repeat(normal(ROWS // 10, seed=2), 10, axis=0))
    plain = domain_drift("trailing", of._replace(design=np.array([1.0, 1.0, 1.0])), seed=1)
    held = domain_drift("trailing", of._replace(design=np.array([1e3, 1.0, 1.0])), seed=1)
    assert held.leading.get("f0", 0.0) < 0.1 < plain.leading["f0"]


# Too little to be sure


@pytest.mark.parametrize("people", [1, 2, FOLDS, LEAST_PEOPLE - 1])
def test_a_day_of_few_people_has_no_interval(people):
    """With two people on a day who were not there before, the bound was above 0.55 in one of four draws."""
    asker = np.concatenate([np.arange(ROWS) // 10, ROWS + np.arange(ROWS) % people])
    of = np.random.default_rng(people).standard_normal((2 * ROWS, 1))[asker]
    for several in (sides(of[:ROWS], of[ROWS:], asker), sides(of[ROWS:], of[:ROWS], asker[::-1].copy())):
        found = domain_drift("trailing", several, seed=1)
        assert (found.auc.low, found.auc.high) == (None, None)
        assert found.auc.value is None or people > 1


def test_enough_people_have_an_interval():
    asker = np.concatenate([np.arange(ROWS) // 10, ROWS + np.arange(ROWS) % LEAST_PEOPLE])
    assert domain_drift("trailing", sides(normal(), normal(seed=2), asker), seed=1).auc.low is not None


def test_one_person_in_all_rows_gives_no_figure():
    found = domain_drift("trailing", sides(normal(), normal(seed=2), np.zeros(2 * ROWS, dtype=np.int64)), seed=1)
    assert (found.auc.value, found.auc.low, found.auc.high, found.leading) == (None, None, None, {})


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        (np.ones((ROWS, 2)), np.ones((ROWS, 2))),  # nothing to split
        (np.full((ROWS, 2), NAN), np.full((ROWS, 2), NAN)),
        (normal(100), together(100)),  # too few for a leaf
    ],
    ids=["constant", "missing", "few rows"],
)
def test_a_classifier_that_learned_nothing_is_not_sure_of_anything(reference, current):
    found = domain_drift("trailing", sides(reference, current), seed=1)
    assert (found.auc.low, found.auc.high, found.leading) == (None, None, {})


# Ranks


def test_by_rank_a_shift_is_gone_and_what_goes_together_stays():
    moved = normal(seed=2) + np.array([1.0, 0.0, 0.0])
    assert domain_drift("trailing", sides(normal(), moved), seed=1).auc.low > 0.6
    assert domain_drift("trailing", by_rank(sides(normal(), moved), seed=1), seed=1).auc.low < 0.55
    assert domain_drift("trailing", by_rank(sides(normal(), together()), seed=1), seed=1).auc.low > 0.6


@settings(max_examples=50)
@given(st.lists(st.sampled_from([np.nan, -1.0, 0.0, 0.0, 2.5]), min_size=1, max_size=40))
def test_ranks_are_even_whatever_is_equal_or_missing(drawn):
    column = np.array(drawn, dtype=np.float32)[:, None]
    ranked = by_rank(sides(column, column), seed=1).reference[:, 0]
    there = ~np.isnan(column[:, 0])
    assert (np.isnan(ranked) == ~there).all()
    assert np.sort(ranked[there]) == pytest.approx((np.arange(there.sum()) + 0.5) / max(there.sum(), 1), abs=1e-6)
    in_order = column[there, 0][np.argsort(ranked[there])]
    assert (np.diff(in_order) >= 0).all()


@pytest.mark.parametrize(("share", "left_out"), [(1.0, True), (0.36, True), (0.02, False)])
def test_by_rank_a_feature_whose_gaps_alone_would_tell_is_left_out(share, left_out):
    gaps = normal()
    gaps[: int(share * ROWS), 0] = np.nan
    for several in (sides(gaps, normal(seed=2)), sides(normal(seed=2), gaps)):
        ranked = by_rank(several, seed=1)
        assert bool(np.isnan(ranked.reference[:, 0]).all() and np.isnan(ranked.current[:, 0]).all()) == left_out
        assert not np.isnan(ranked.current[:, 1:]).any()


# Rows


def test_whole_clusters_are_drawn():
    cluster = np.arange(1000) // 10
    kept = some_clusters(cluster, 205, seed=1)
    assert len(kept) == 200
    assert set(np.bincount(cluster[kept])[np.unique(cluster[kept])]) == {10}
    assert (np.diff(kept) > 0).all()
    assert some_clusters(cluster, 1000, seed=1).tolist() == list(range(1000))
    assert len(some_clusters(cluster, 3, seed=1)) == 10  # one at least
