"""How sure a number is: clusters drawn anew, or left out one at a time.

What one person does in several sessions is not independent, so whole clusters (users where they are known, else
queries) are drawn with replacement or left out, never rows. Every statistic here is a ratio of sums over clusters, so
that one matrix product gives all draws at once.

The interval of a mean is that of the cluster jackknife with quantiles of Student's t (Cameron, Gelbach and Miller 2008,
Review of Economics and Statistics 90; Hansen 2022 on the jackknife), whose degrees of freedom come from the *effective*
number of clusters (Σn)² / Σn² (Kish 1965): where one user has most of the lists, few clusters carry the mean. The
percentile bootstrap of 10 to 30 uneven users covers less than it says; `benchmarks/coverage.py` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = [
    "DRAWS",
    "MIN_CLUSTERS",
    "Interval",
    "cluster_codes",
    "cluster_sums",
    "interval",
    "mean_intervals",
    "resample",
]

DRAWS: Final = 1000
"""Bootstrap draws of an interval: its ends are then accurate to about a twentieth of its width."""

MIN_CLUSTERS: Final = 10
"""Fewer independent clusters than this make no interval: too little tells how much they differ."""

_FEWEST_FREEDOM: Final = 2.0  # below which no interval is worth anything
_MAX_CLUSTERS: Final = 10_000  # more are merged at random into this many, which leaves the variance as it is
_CELLS: Final = 4_000_000  # weights held at once: 32 MB


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A 95 % interval."""

    low: float
    high: float


def cluster_codes(labels: Iterable[object]) -> NDArray[np.int64]:
    """Give each cluster a number 0, 1, …; a missing label is a cluster of its own.

    Parameters
    ----------
    labels
        User of each ranking, shape (rankings,); None where unknown.

    Examples
    --------
    >>> cluster_codes(["u2", None, "u1", "u2", None]).tolist()
    [1, 2, 0, 1, 3]
    """
    ranks = pl.Series(labels).rank("dense").cast(pl.Int64)
    known = int(ranks.max() or 0)  # type: ignore[arg-type]
    missing = ranks.is_null().to_numpy()
    codes = ranks.fill_null(0).to_numpy() - 1
    return np.where(missing, known + np.cumsum(missing) - 1, codes)


def cluster_sums(table: NDArray[np.float64], clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the rows of each cluster.

    Parameters
    ----------
    table
        float64, shape (n, columns).
    clusters
        Cluster of each row, int, shape (n,); only those that occur are returned.

    Returns
    -------
    float64, shape (clusters, columns).

    Examples
    --------
    >>> cluster_sums(np.array([[1.0], [2.0], [4.0]]), np.array([7, 7, 9])).tolist()
    [[3.0], [4.0]]
    """
    found, codes = np.unique(clusters, return_inverse=True)
    sums = [np.bincount(codes, weights=column, minlength=len(found)) for column in table.T]
    return np.column_stack(sums)


def resample(sums: NDArray[np.float64], rng: np.random.Generator, draws: int = DRAWS) -> NDArray[np.float64]:
    """Total each column over `draws` samples of the clusters, each as many as there are, with replacement.

    Parameters
    ----------
    sums
        Sums of each cluster, float64, shape (clusters, columns). Above 10,000 clusters they are first merged at
        random into 10,000: totals of independent clusters have the same variance in any such bundling.

    Returns
    -------
    float64, shape (draws, columns).
    """
    if len(sums) > _MAX_CLUSTERS:
        sums = cluster_sums(sums, rng.permutation(len(sums)) % _MAX_CLUSTERS)
    size = len(sums)
    step = max(1, _CELLS // size)
    return np.concatenate([_weights(size, min(step, draws - at), rng) @ sums for at in range(0, draws, step)])


def _weights(clusters: int, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each draw holds each cluster, shape (draws, clusters)."""
    cells = rng.integers(0, clusters, size=(draws, clusters), dtype=np.int32)
    cells += np.arange(draws, dtype=np.int32)[:, None] * np.int32(clusters)
    return np.bincount(cells.ravel(), minlength=draws * clusters).reshape(draws, clusters).astype(np.float64)


def interval(draws: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of the draws of one statistic, shape (draws,).

    >>> interval(np.arange(1001.0))
    Interval(low=25.0, high=975.0)
    """
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(low=float(low), high=float(high))


def mean_intervals(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> list[Interval] | None:
    """Return the 95 % interval of the mean of each column; None below `MIN_CLUSTERS` clusters.

    Parameters
    ----------
    values
        float64 without NaN, shape (n, columns); for paired differences, the differences.
    clusters
        Cluster of each row, int, shape (n,).

    Examples
    --------
    >>> values, clusters = np.arange(20.0)[:, None], np.arange(20)
    >>> (found,) = mean_intervals(values, clusters)
    >>> round(found.low, 2), round(found.high, 2)
    (6.73, 12.27)
    """
    sums = cluster_sums(np.column_stack([values, np.ones(len(values))]), clusters)
    count = len(sums)
    if count < MIN_CLUSTERS:
        return None
    total = sums.sum(axis=0)
    without = total - sums
    mean, means = total[:-1] / total[-1], without[:, :-1] / without[:, -1:]
    error = np.sqrt((count - 1) / count * ((means - mean) ** 2).sum(axis=0))
    effective = total[-1] ** 2 / (sums[:, -1] ** 2).sum()
    half = stdtrit(max(effective - 1, _FEWEST_FREEDOM), 0.975) * error
    return [Interval(low=float(low), high=float(high)) for low, high in zip(mean - half, mean + half, strict=True)]
