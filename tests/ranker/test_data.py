from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.dataset.load import UNKNOWN_POSITION
from ltr_pipeline.ranker.data import Rows, folds, held_out, joined, preferences, rankings


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=40))
def test_a_query_is_never_on_both_sides(queries):
    out = held_out([*queries, *queries[::-1]])
    assert out.dtype == bool
    sides = {}
    for query, side in zip([*queries, *queries[::-1]], out.tolist(), strict=True):
        assert sides.setdefault(query, side) == side
        assert held_out([query]).tolist() == [side]


def test_a_query_stays_on_its_side_for_ever():
    known = {"case-2": True, "case-12": True, "case-1": False, "": True, "Anwältin": False}
    assert dict(zip(known, held_out(list(known)).tolist(), strict=True)) == known


@pytest.mark.parametrize("form", ["case-{}", "{}", "q{:08d}", "{}@example.com"])
def test_about_a_fifth_is_held_out(form):
    assert held_out([form.format(number) for number in range(20_000)]).mean() == pytest.approx(0.2, abs=0.01)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.booleans()), max_size=8), st.booleans()
)
def test_chosen_rankings_keep_their_rows(lists, known):
    relevance = np.array([grade for grades, _ in lists for grade in grades], np.int8)
    numbers = np.arange(len(relevance), dtype=np.int32)
    group = np.array([len(grades) for grades, _ in lists], np.int32)
    data = Rows(numbers[:, None].astype(np.float32), ("A",), relevance, group, numbers if known else None)
    chosen = np.array([flag for _, flag in lists], bool)
    assert rankings(data, chosen).weight is None
    data = replace(data, weight=np.arange(len(lists), dtype=np.float32))
    part, rest = rankings(data, chosen), rankings(data, ~chosen)
    assert part.weight.tolist() == [number for number, (_, flag) in enumerate(lists) if flag]
    assert part.group.tolist() == [len(grades) for grades, flag in lists if flag]
    assert part.relevance.tolist() == [grade for grades, flag in lists if flag for grade in grades]
    assert sorted([*part.features[:, 0].tolist(), *rest.features[:, 0].tolist()]) == numbers.tolist()
    assert (part.position.tolist() if known else part.position) == (part.features[:, 0].tolist() if known else None)
    assert preferences(part) + preferences(rest) == preferences(data) == sum(len(set(g)) > 1 for g, _ in lists)


def test_folds_are_those_of_the_query_and_the_first_of_five_is_held_out():
    queries = [f"case-{number}" for number in range(2000)]
    found = folds(queries, 5)
    assert (found == 0).tolist() == held_out(queries).tolist()
    assert np.bincount(found, minlength=5) == pytest.approx(np.full(5, 400), abs=80)


def test_two_sets_of_rankings_are_joined_with_what_only_one_knows_filled_in():
    one = Rows(np.array([[1], [2]], np.float32), ("A",), np.array([1, 0], np.int8), np.array([2], np.int32))
    two = replace(
        one,
        features=one.features + 2,
        position=np.array([1, 2], np.int32),
        propensity=np.array([0.5, 0.5], np.float32),
        weight=np.array([3], np.float32),
    )
    both = joined(one, two)
    assert (both.features.ravel().tolist(), both.group.tolist()) == ([1, 2, 3, 4], [2, 2])
    assert (both.position.tolist(), both.weight.tolist()) == ([UNKNOWN_POSITION] * 2 + [1, 2], [1, 3])
    assert np.isnan(both.propensity).tolist() == [True, True, False, False]
    plain = joined(one, one)
    assert (plain.position, plain.propensity, plain.weight) == (None, None, None)
