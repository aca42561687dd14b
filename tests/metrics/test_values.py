"""Codes of values: in their order, and one value a code where it is common."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.metrics.values import MISSING, Scale

FLOATS = st.floats(-1e6, 1e6, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=200), st.lists(FLOATS, min_size=2, max_size=20))
def test_codes_are_in_the_order_of_the_values(sample: list[float], values: list[float]) -> None:
    scale, ordered = Scale(np.float32(sample)), np.sort(np.float32(values))
    codes = scale.codes(ordered)
    assert (np.diff(codes) >= 0).all()
    assert codes.min() > 0
    assert codes.max() < scale.size


def test_a_common_value_shares_its_code_with_no_other() -> None:
    values = np.float32([0] * 95 + [1e-3, 0.5, 1, 2, 3])
    scale = Scale(values)
    zero = scale.codes(np.float32([0]))[0]
    assert scale.exact[zero] == 0
    assert zero not in scale.codes(values[95:])


def test_missing_comes_first_and_a_feature_without_a_value_has_one_code_for_each() -> None:
    nothing = Scale(np.full(5, np.nan, np.float32))
    assert nothing.codes(np.float32([np.nan, 0, 7])).tolist() == [MISSING, 1, 1]
    assert nothing.size == 2
