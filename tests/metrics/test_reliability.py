"""Stated probabilities and what came of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ltr_pipeline.metrics.reliability import equal_groups, measure

values = arrays.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.7, 1.0]))


def test_what_is_stated_right_has_no_error_and_what_is_off_by_a_tenth_has_a_tenth() -> None:
    relevance = np.tile(np.repeat([2, 0], [3, 7]), 20)
    stated = np.full(200, 0.3)
    assert measure(stated, relevance, 2).error == pytest.approx(0)
    assert measure(stated + 0.1, relevance, 2).error == pytest.approx(0.1)
    assert (measure(stated, relevance, 2).rows, measure(stated, relevance, 2).relevant) == (200, 60)


def test_two_errors_do_not_make_up_for_each_other() -> None:
    """Half of the rows are stated 0.2 too low and half 0.2 too high; the mean is right."""
    relevance = np.concatenate([np.tile([1, 0], 50), np.tile([1, 0], 50)])
    assert measure(np.repeat([0.3, 0.7], 100), relevance, 1).error == pytest.approx(0.2)


def test_too_few_relevant_rows_or_others_have_no_error() -> None:
    stated = np.linspace(0, 1, 40)
    assert measure(stated, np.repeat([2, 0], [9, 31]), 2).error is None
    assert measure(stated, np.repeat([2, 0], [31, 9]), 2).error is None
    assert measure(stated, np.repeat([2, 0], [10, 30]), 2).error is not None


@given(values, st.integers(1, 12))
def test_groups_are_in_order_without_a_gap_and_keep_equal_values_together(found: np.ndarray, most: int) -> None:
    group = equal_groups(found, most)
    assert sorted(set(group.tolist())) == list(range(group.max() + 1))
    assert group.max() < most
    order = np.argsort(found, kind="stable")
    assert (np.diff(group[order]) >= 0).all()
    assert len({(value, place) for value, place in zip(found, group, strict=True)}) == len(set(found.tolist()))


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(found: np.ndarray, chance) -> None:
    relevance = (found > 0.2).astype(np.int8)
    rows = list(range(len(found)))
    chance.shuffle(rows)
    one, other = measure(found, relevance, 1), measure(found[rows], relevance[rows], 1)
    assert [each.rows for each in one.bins] == [each.rows for each in other.bins]
    assert [each.observed for each in one.bins] == [each.observed for each in other.bins]
    assert one.error == (None if other.error is None else pytest.approx(other.error))


def test_no_rows_are_no_bins() -> None:
    found = measure(np.empty(0), np.empty(0, np.int8), 2)
    assert (found.rows, found.error, found.bins) == (0, None, [])
