"""The area under the curve, held against scikit-learn, and its interval, against what a cluster is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ltr_pipeline.metrics.auc import area_under_curve


def area(scores, positive, cluster=None, fold=None):
    rows = np.arange(len(scores))
    return area_under_curve(
        np.asarray(scores, dtype=np.float64),
        np.asarray(positive, dtype=bool),
        rows if cluster is None else cluster,
        np.zeros(len(rows), dtype=np.int64) if fold is None else fold,
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_the_area_is_that_of_scikit_learn_with_ties_too(drawn):
    scores, positive = zip(*drawn, strict=True)
    found = area(scores, positive)
    if len(set(positive)) == 2:
        assert found.value == pytest.approx(roc_auc_score(positive, scores))
    else:
        assert np.isnan(found.value)
        assert found.interval is None


def test_scores_of_two_folds_are_not_compared():
    # In each fold the positive row is above the other; across folds it is not.
    found = area([0.1, 0.2, 0.8, 0.9], [False, True, False, True], fold=np.array([0, 0, 1, 1]))
    assert found.value == 1.0


def test_a_fold_of_one_kind_does_not_count():
    found = area([0.1, 0.2, 0.9], [False, True, True], fold=np.array([0, 0, 1]))
    assert found.value == 1.0


def test_few_clusters_make_no_interval():
    assert area([0.1, 0.2], [False, True]).interval is None


def test_repeating_every_row_ten_times_makes_nothing_surer():
    rng = np.random.default_rng(1)
    scores, positive = rng.standard_normal(300), rng.random(300) < 0.3
    alone = area(scores, positive).interval
    together = area(scores.repeat(10), positive.repeat(10), cluster=np.arange(300).repeat(10)).interval
    apart = area(scores.repeat(10), positive.repeat(10)).interval
    assert alone is not None
    assert together is not None
    assert apart is not None
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.01)
    assert (alone.high - alone.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(10), rel=0.02)


def test_the_interval_holds_half_as_often_as_it_says_or_more():
    """Clusters of ten rows with one value each: 95 % of the intervals hold 0.5; the bound leaves room for luck."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        found = area(
            rng.standard_normal(80).repeat(10), (np.arange(80) < 25).repeat(10), cluster=np.arange(80).repeat(10)
        )
        assert found.interval is not None
        held += found.interval.low <= 0.5 <= found.interval.high
    assert held >= 180
