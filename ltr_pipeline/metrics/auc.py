"""The area under the curve of a classifier, and how sure it is where rows come in clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from ltr_pipeline.metrics.resampling import MIN_CLUSTERS, Interval

__all__ = ["Area", "area_under_curve"]


class Area(NamedTuple):
    """An area under the curve; no interval below `resampling.MIN_CLUSTERS` clusters."""

    value: float
    interval: Interval | None


def area_under_curve(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], cluster: NDArray[np.int64], fold: NDArray[np.int64]
) -> Area:
    """Return the probability that a positive row scores above another one, with its 95 % interval.

    Ties count half. The variance is that of clusters of rows, of either kind (Obuchowski 1997, Biometrics 53); of
    independent rows it is DeLong's.

    Parameters
    ----------
    scores
        float64 (n,).
    positive
        bool (n,).
    cluster
        Rows of one number are not independent, int (n,).
    fold
        Rows of one number were scored by one classifier, and only they are compared, int (n,); a fold with rows of only
        one kind does not count.

    Returns
    -------
    NaN without an interval where no fold counts.

    Examples
    --------
    >>> scores, positive = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    >>> area_under_curve(scores, positive, np.arange(4), np.zeros(4, dtype=int)).value
    0.75
    """
    values, influence = [], np.zeros(len(scores))
    for one in np.unique(fold):
        inside = fold == one
        if positive[inside].any() and not positive[inside].all():
            value, influence[inside] = _in_fold(scores[inside], positive[inside])
            values.append(value)
    if not values:
        return Area(float("nan"), None)
    value = float(np.mean(values))
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], weights=influence / len(values))
    if len(sums) < MIN_CLUSTERS:
        return Area(value, None)
    half = float(stdtrit(len(sums) - 1, 0.975) * np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()))
    return Area(value, Interval(low=max(value - half, 0.0), high=min(value + half, 1.0)))


def _in_fold(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
    """Return the area, and what each row adds to it beyond its share: the placements of DeLong, centred."""
    ranks = rankdata(scores)
    many, others = int(positive.sum()), int((~positive).sum())
    above = np.empty(len(scores))
    above[positive] = (ranks[positive] - rankdata(scores[positive])) / others
    above[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / many
    value = float(above[positive].mean())
    return value, (above - value) / np.where(positive, many, others)
