"""Agreement of two segmentations, held against scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from ltr_pipeline.segments.comparison import adjusted_rand, contingency, old_to_new

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60)


@given(PAIRS)
def test_adjusted_rand_is_that_of_scikit_learn(pairs):
    old, new = np.array(pairs).T
    assert adjusted_rand(contingency(old, new, 4, 5)) == pytest.approx(adjusted_rand_score(old, new), abs=1e-9)


@given(PAIRS)
def test_no_other_matching_keeps_more_rows(pairs):
    counts = contingency(*np.array(pairs).T, 4, 5)
    found = old_to_new(counts)
    assert len(set(found.values())) == len(found) == 4
    best = max(sum(counts[range(4), list(chosen)]) for chosen in itertools.permutations(range(5), 4))
    assert sum(counts[old, new] for old, new in found.items()) == best
