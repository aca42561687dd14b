"""Words follow the order of the declared score."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ltr_pipeline.segments.labels import engagement_order, places, words
from ltr_pipeline.segments.parameters import WORDING

FEATURES = ("lists", "days")
CENTROIDS = arrays(np.float64, st.tuples(st.integers(2, 6), st.just(2)), elements=st.integers(-3, 3).map(float))


@given(CENTROIDS, st.permutations(range(6)))
def test_the_order_does_not_depend_on_how_clusters_were_numbered(centroids, shuffled):
    weights = {"lists": 1.0, "days": 2.0}
    order = engagement_order(centroids, FEATURES, weights)
    score = centroids @ [1.0, 2.0]
    assert sorted(order) == [*range(len(centroids))]
    assert (np.diff(score[order]) <= 0).all()
    other = centroids[[index for index in shuffled if index < len(centroids)]]
    assert other[engagement_order(other, FEATURES, weights)].tolist() == centroids[order].tolist()


def test_a_negative_weight_turns_the_order():
    centroids = np.array([[0.0, 1.0], [0.0, 5.0]])
    assert engagement_order(centroids, FEATURES, {"days": -1.0}).tolist() == [0, 1]


@given(st.integers(2, 50).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n))))
def test_first_and_last_word_are_always_used_and_none_twice(sizes):
    k, count = sizes
    found = places(k, count)
    assert (found[0], found[-1], len(set(found)), sorted(found)) == (0, count - 1, k, found)


def test_words_go_from_excellent_to_none():
    assert words(3, WORDING) == {
        "pt": ["engajamento excelente", "engajamento médio", "sem engajamento"],
        "en": ["excellent engagement", "medium engagement", "no engagement"],
    }
