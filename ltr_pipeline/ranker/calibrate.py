"""From scores, which have no scale of their own, to the probability that an item is relevant."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.reliability import enough, equal_groups
from ltr_pipeline.scoring.calibration import Calibration

__all__ = ["calibrate"]

_KNOTS: Final = 50
_ROWS_A_KNOT: Final = 20  # fewer, and a knot is one row's luck
_DECIMALS: Final = 6  # of a probability; more would be noise


def calibrate(scores: NDArray[np.float64], relevance: NDArray[np.int8], positive: int) -> Calibration | None:
    """Fit the probability of a relevance of at least `positive` to scores of rows that were not learned from.

    Isotonic regression (Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability
    estimates") of the relevant share on the mean score, over at most `_KNOTS` groups of about equal size: so the
    ends, where a group of its own would be a single row, are not 0 and 1. The same rows give the same knots.

    Parameters
    ----------
    scores, relevance
        Of the validation rows, (n,).

    Returns
    -------
    The knots, without an error; None where fewer than `reliability.FEWEST` rows are relevant, or are not.

    Examples
    --------
    >>> scores = np.repeat([-1.0, 0.0, 1.0], 40)
    >>> relevance = np.tile(np.repeat([2, 0], [10, 30]), 3)
    >>> relevance[80:110] = 2
    >>> knots = calibrate(scores, relevance, positive=2)
    >>> knots.x, knots.y
    ([-1.0, 0.0, 1.0], [0.25, 0.25, 0.75])
    """
    relevant = relevance >= positive
    if not enough(relevant):
        return None
    from scipy.optimize import isotonic_regression  # only here: it takes longer to import than to run

    group = equal_groups(scores, min(_KNOTS, len(scores) // _ROWS_A_KNOT))
    rows = np.bincount(group)
    x = np.bincount(group, scores) / rows
    y = isotonic_regression(np.bincount(group, relevant) / rows, weights=rows).x.round(_DECIMALS)
    kept = _corners(x, y)
    return Calibration(positive=positive, x=x[kept].tolist(), y=y[kept].tolist())


def _corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which points the line needs: not those inside a flat stretch, nor one of a mean that rounding made equal."""
    flat = np.concatenate([[False], (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:]), [False]])[: len(y)]
    rises = np.concatenate([[True], np.diff(x) > 0])
    return np.asarray(~flat & rises)
