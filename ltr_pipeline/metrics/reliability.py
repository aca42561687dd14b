"""Whether probabilities can be taken at their word: what was stated beside what came of it."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Bin", "Reliability", "enough", "equal_groups", "measure"]

BINS: Final = 10
FEWEST: Final = 10  # relevant rows, and others, below which a share of them tells nothing


class Bin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows that were stated about the same probability.

    Attributes
    ----------
    stated, observed
        Mean of what was stated, and the share that was relevant.
    """

    stated: float
    observed: float
    rows: int


class Reliability(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far stated probabilities are from what came of them.

    Attributes
    ----------
    positive
        Least relevance that counts.
    rows, relevant
        Impressions that were looked at, and those of them with that relevance.
    error
        Expected calibration error, in probability; None with too few rows of either kind.
    bins
        The rows in about equal numbers, by rising probability.
    """

    positive: int
    rows: int
    relevant: int
    error: float | None
    bins: list[Bin]


def measure(probability: NDArray[np.float64], relevance: NDArray[np.int8], positive: int) -> Reliability:
    """Measure the probabilities, (n,), of a relevance of at least `positive`.

    The expected calibration error is the mean over bins, weighted by their rows, of the distance between the mean
    probability and the share that is relevant (Naeini et al. 2015, "Obtaining well calibrated probabilities using
    Bayesian binning"). Bins have about as many rows each (Nguyen and O'Connor 2015), as most probabilities are small:
    with bins of equal width nearly all rows would be in the first.

    Examples
    --------
    Twenty rows each of 0.25 and 0.75; of the former five are relevant as they should be, of the latter ten, not
    fifteen.

    >>> relevance = np.repeat([1, 0, 1, 0], [5, 15, 10, 10])
    >>> found = measure(np.repeat([0.25, 0.75], 20), relevance, positive=1)
    >>> found.error, [(one.stated, one.observed) for one in found.bins]
    (0.125, [(0.25, 0.25), (0.75, 0.5)])
    """
    relevant = relevance >= positive
    group = equal_groups(probability, BINS)
    rows = np.bincount(group)
    stated = np.bincount(group, probability) / rows
    observed = np.bincount(group, relevant) / rows
    return Reliability(
        positive=positive,
        rows=len(relevant),
        relevant=int(relevant.sum()),
        error=float(rows @ np.abs(stated - observed) / rows.sum()) if enough(relevant) else None,
        bins=[
            Bin(stated=float(told), observed=float(seen), rows=int(count))
            for told, seen, count in zip(stated, observed, rows, strict=True)
        ],
    )


def enough(relevant: NDArray[np.bool_]) -> bool:
    """Return whether there are enough relevant rows and others to tell a probability by."""
    found = int(relevant.sum())
    return min(found, len(relevant) - found) >= FEWEST


def equal_groups(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the group of each value, int64 (n,): at most `most` of about equal size, in order of the values, from 0.

    Equal values are never apart, so that the order of rows does not matter.

    >>> equal_groups(np.array([3.0, 1.0, 2.0, 2.0, 2.0, 9.0]), 3).tolist()
    [2, 0, 1, 1, 1, 2]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    group = (most * middle / max(len(values), 1)).astype(np.int64)
    return np.asarray(np.unique(group, return_inverse=True)[1][place], dtype=np.int64)
