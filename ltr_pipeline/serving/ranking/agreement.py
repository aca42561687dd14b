"""Agreement of two models on one request."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.scorer import descending

__all__ = ["TOP", "Agreement", "agreement"]

TOP: Final = 5


class Agreement(NamedTuple):
    """Two models' scores of the same candidates, compared.

    Attributes
    ----------
    overlap
        Share of the first's best 5 that are among the second's best 5, in [0, 1]; with fewer candidates, all count.
    correlation
        Spearman's rank correlation (Spearman 1904), ties with their mean rank, in [-1, 1]; None where one of them
        scores all alike.
    shift
        Mean of the second's scores minus that of the first's, in standard deviations of the first's (Glass 1976): a
        consumer with thresholds on scores notices it, an order does not. None where the first scores all alike.
    """

    overlap: float
    correlation: float | None
    shift: float | None


def agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> Agreement:
    """Compare the scores of the same candidates, both float64 (n,) with n at least 1.

    >>> agreement(np.array([3.0, 2.0, 1.0]), np.array([4.0, 5.0, 3.0]))._replace(shift=None)
    Agreement(overlap=1.0, correlation=0.5, shift=None)
    """
    top = min(TOP, len(first))
    common = set(descending(first)[:top]) & set(descending(second)[:top])
    spread = float(first.std())
    return Agreement(
        overlap=len(common) / top,
        correlation=_spearman(first, second),
        shift=float(second.mean() - first.mean()) / spread if spread > 0 else None,
    )


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Return the Pearson correlation of the ranks; None when one side has all ranks equal."""
    a, b = (ranks - ranks.mean() for ranks in (_mean_ranks(first), _mean_ranks(second)))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / norm, 12) if norm > 0 else None


def _mean_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of the scores, 1-based; equal scores share the mean of their ranks."""
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks
