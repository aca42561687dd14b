"""Probabilities read off knots, without a library that services do without."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.scoring.calibration import MAX_ERROR, Calibration, probability

KNOTS = Calibration(positive=2, x=[-1.0, 0.0, 2.0], y=[0.1, 0.1, 0.5])


@pytest.mark.parametrize(
    ("score", "stated"), [(-9, 0.1), (-1, 0.1), (-0.5, 0.1), (0, 0.1), (1, 0.3), (2, 0.5), (1e308, 0.5)]
)
def test_between_knots_it_is_interpolated_and_beyond_them_held(score: float, stated: float) -> None:
    assert probability(KNOTS, np.array([score])).tolist() == [pytest.approx(stated)]


@given(st.lists(st.floats(-10, 10), max_size=30))
def test_a_higher_score_is_never_less_probable(scores: list[float]) -> None:
    found = probability(KNOTS, np.array(sorted(scores)))
    assert found.shape == (len(scores),)
    assert (np.diff(found) >= 0).all()


def test_no_score_is_no_probability() -> None:
    assert np.isnan(probability(KNOTS, np.array([np.nan]))).all()


@pytest.mark.parametrize(("error", "trusted"), [(None, False), (0.0, True), (MAX_ERROR, True), (0.051, False)])
def test_an_error_that_is_not_known_or_too_large_is_not_trusted(error: float | None, trusted: bool) -> None:
    assert Calibration(positive=2, x=[0.0], y=[0.5], error=error).trusted is trusted


def test_a_probability_needs_numpy_alone() -> None:
    script = (
        "import sys\n"
        "from ltr_pipeline.scoring.calibration import Calibration, probability\n"
        "assert 'numpy' not in sys.modules\n"
        "probability(Calibration(positive=2, x=[0.0], y=[0.5]), [1.0])\n"
        "assert not {'scipy', 'sklearn', 'lightgbm', 'polars'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
