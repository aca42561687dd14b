"""Knots from scores to probabilities: rising, few, the same again, and right."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.metrics.reliability import measure
from ltr_pipeline.ranker.calibrate import calibrate
from ltr_pipeline.scoring.calibration import probability
from support.programs import CHECKOUT


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and relevance 3 with the probability that the logistic function of the score has, less a bit."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(-1, 1.2, rows)
    return scores, 3 * (rng.random(rows) < 1 / (1 + np.exp(1.5 - scores))).astype(np.int8)


@given(st.integers(60, 4000), st.integers(0, 1000), st.integers(1, 40))
def test_knots_rise_are_few_and_are_probabilities(rows: int, seed: int, distinct: int) -> None:
    scores, relevance = drawn(rows, seed)
    found = calibrate(np.round(scores * distinct) / distinct, relevance, 2)
    if found is None:
        assert min((relevance >= 2).sum(), (relevance < 2).sum()) < 10
        return
    assert 1 <= len(found.x) == len(found.y) <= 50
    assert (np.diff(found.x) > 0).all()
    assert (np.diff(found.y) >= 0).all()
    assert 0 <= found.y[0] <= found.y[-1] <= 1
    assert (found.positive, found.error) == (2, None)


def test_probabilities_of_other_rows_are_right() -> None:
    knots = calibrate(*drawn(10_000, seed=1), 2)
    scores, relevance = drawn(50_000, seed=2)
    assert measure(probability(knots, scores), relevance, 2).error < 0.01
    shifted = measure(probability(knots, scores + 1), relevance, 2).error
    assert shifted > 0.05  # so that the one above can fail


def test_the_order_of_rows_changes_nothing_but_rounding() -> None:
    scores, relevance = drawn(3000, seed=3)
    one, other = calibrate(scores, relevance, 2), calibrate(scores[::-1], relevance[::-1], 2)
    assert one.x == pytest.approx(other.x)
    assert one.y == pytest.approx(other.y)
    assert calibrate(scores, relevance, 2) == one


@pytest.mark.long
def test_probabilities_are_right_on_the_test_days_of_a_simulated_night() -> None:
    program = CHECKOUT / "benchmarks" / "calibration.py"
    asked = ["--seeds", "1", "--nights", "1", "--most", "0.02"]
    done = subprocess.run([sys.executable, program, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_a_relevance_of_at_least_the_positive_counts() -> None:
    scores = np.repeat([0.0, 1.0], 100)
    relevance = np.concatenate([np.tile([0, 1], 50), np.tile([1, 2], 50)])
    assert calibrate(scores, relevance, 1).y == [0.5, 1.0]
    assert calibrate(scores, relevance, 2).y == [0.0, 0.5]
    assert calibrate(scores, relevance, 3) is None


def test_a_score_that_misleads_is_flat() -> None:
    relevance = np.concatenate([np.tile([2, 0], 50), np.tile([0, 0, 0, 2], 25)])
    found = calibrate(np.repeat([0.0, 1.0], 100), relevance, 2)
    assert (found.x, found.y) == ([0.0, 1.0], [0.375, 0.375])  # (50 + 25) of 200


def test_one_score_for_all_is_one_knot() -> None:
    assert calibrate(np.zeros(40), np.tile([2, 0], 20), 2).y == [0.5]


@pytest.mark.parametrize("relevant", [0, 9, 31, 40])
def test_too_little_to_tell_is_no_calibration(relevant: int) -> None:
    assert calibrate(np.linspace(0, 1, 40), np.repeat([2, 0], [relevant, 40 - relevant]), 2) is None


def test_no_rows_are_no_calibration() -> None:
    assert calibrate(np.empty(0), np.empty(0, np.int8), 2) is None
