"""The flat table: what it refuses, and its ranks under ties."""

import numpy as np
import pytest

from ltr_pipeline.errors import DatasetError, RankerError
from ltr_pipeline.metrics.rankings import Rankings


def test_a_nan_score_is_refused_with_its_count():
    with pytest.raises(RankerError, match="1 of 3 scores are NaN"):
        Rankings([0, 1, 0], [0.1, np.nan, 0.3], [3])


@pytest.mark.parametrize(
    ("relevance", "score", "group"),
    [([0, 1], [1.0], [2]), ([0, 1], [1.0, 2.0], [3]), ([0, 1], [1.0, 2.0], [3, -1]), ([0, -1], [1.0, 2.0], [2])],
)
def test_a_table_that_does_not_fit_is_refused(relevance, score, group):
    with pytest.raises(DatasetError, match=r"rows|below 0"):
        Rankings(relevance, score, group)


def test_eligible_needs_two_candidates_and_one_relevant():
    table = Rankings([0, 1, 0, 0, 3], [1, 2, 3, 4, 5], [2, 2, 1, 0])
    assert table.eligible.tolist() == [True, False, False, False]


def test_blocks_of_ties_end_at_the_ranking():
    order, first, last = Rankings([0] * 5, [2, 7, 7, 7, 7], [3, 2]).ties
    assert set(order[:2]) == {1, 2}
    assert order[2] == 0
    assert first.tolist() == [1, 1, 3, 1, 1]
    assert last.tolist() == [2, 2, 3, 2, 2]


def test_infinite_scores_have_an_order():
    assert Rankings([0, 1, 0], [-np.inf, 0.0, np.inf], [3]).ties.order.tolist() == [2, 1, 0]
