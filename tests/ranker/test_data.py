from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.ranker.data import Rows, held_out, preferences, rankings


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
