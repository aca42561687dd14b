"""How good an order is: nDCG@5 and its companions, with their uncertainty.

Every metric reads `Rankings`, and gives float64 (rankings,) with NaN where the ranking is not *eligible*: it needs two
candidates of different relevance, as any order of equal ones is the best. Tied scores are averaged over every order of
the tied items (the expected value), so that the order of rows, which is often the order they were shown in, cannot leak
into a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.rankings import Rankings, discount_sums
from ltr_pipeline.metrics.resampling import Interval, mean_intervals

__all__ = ["Delta", "Estimate", "Metrics", "estimate", "hit", "measure", "mrr", "ndcg", "paired"]

Gain = Literal["exponential", "linear"]


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mean over eligible rankings with its 95 % interval.

    Attributes
    ----------
    value
        The mean; None when no ranking is eligible.
    low, high
        Ends of it, at most 0 and 1; None with too few clusters to make one.
    n, excluded
        Eligible rankings, and those left out because they are not.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    excluded: int = 0


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Metrics that are reported of one order of the test rankings."""

    ndcg_at_5: Estimate
    linear_ndcg_at_5: Estimate
    mrr: Estimate
    hit_at_3: Estimate


class Delta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mean difference between two orders of the same `n` eligible rankings, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def ndcg(rankings: Rankings, k: int = 5, gain: Gain = "exponential") -> NDArray[np.float64]:
    """Return the normalised discounted cumulative gain of each ranking, in [0, 1].

    DCG@k = Σ gain(relevance) / log2(rank + 1) over ranks 1…k, divided by the DCG@k of the best order (Järvelin and
    Kekäläinen 2002). The gain is 2^relevance − 1, or the relevance itself when linear. Ties are averaged (McSherry and
    Najork 2008); with all scores tied this is the exact expectation under random order.

    Examples
    --------
    A relevant item at rank 2 earns 1 / log2(3); three tied items earn the mean of the first three discounts; an
    all-zero ranking is not eligible.

    >>> ndcg(Rankings([0, 1, 0, 1, 0, 0, 0], [3, 2, 1, 5, 5, 5, 1], [3, 3, 1])).round(4).tolist()
    [0.6309, 0.7103, nan]
    """
    grades = rankings.relevance.astype(np.float64)
    gains = np.exp2(grades) - 1.0 if gain == "exponential" else grades
    found = rankings.total(gains * rankings.discount(k))
    per_ranking = np.full(len(rankings), np.nan)
    np.divide(found, _ideal(rankings, gains, k), out=per_ranking, where=rankings.eligible)
    return per_ranking


def _ideal(rankings: Rankings, gains: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return DCG@k of the best order, grade by grade from the highest: no sorting needed."""
    sums, ideal = discount_sums(k), np.zeros(len(rankings))
    above = np.zeros(len(rankings), dtype=np.int64)
    for grade in np.unique(gains[gains > 0])[::-1]:
        # Items of this grade take the ranks after those of higher grades, up to rank k.
        upto = above + rankings.count(gains == grade)
        ideal += grade * (sums[np.minimum(upto, k)] - sums[np.minimum(above, k)])
        above = upto
    return ideal


def mrr(rankings: Rankings) -> NDArray[np.float64]:
    """Return the reciprocal rank of the first relevant item of each ranking, in (0, 1]; expected value under ties.

    Examples
    --------
    Rank 2 gives 1/2; one relevant among two tied items gives (1 + 1/2) / 2.

    >>> mrr(Rankings([0, 1, 0, 1], [2, 1, 7, 7], [2, 2])).tolist()
    [0.5, 0.75]
    """
    rank, size, relevant = rankings.first_relevant
    # The first relevant item sits 0 to `last_step` places into its block. Rankings with most steps come first, so
    # that those still under way at any step are the first n.
    longest = np.argsort(relevant - size)
    rank, size, relevant = rank[longest], size[longest], relevant[longest]
    last_step = size - relevant
    value, alive = np.zeros(len(rank)), (relevant > 0).astype(np.float64)
    for step in range(int(last_step.max(initial=-1)) + 1):
        n = np.searchsorted(-last_step, -step, side="right")
        # `alive` is the chance that no place before was relevant; this one is with relevant / places left.
        found = alive[:n] * relevant[:n] / np.maximum(size[:n] - step, 1)
        value[:n] += found / (rank[:n] + step)
        alive[:n] -= found
    # Back to the order of the rankings.
    per_ranking = np.empty_like(value)
    per_ranking[longest] = value
    return np.where(rankings.eligible, per_ranking, np.nan)


def hit(rankings: Rankings, k: int = 3) -> NDArray[np.float64]:
    """Return 1 where a relevant item is among the first `k` of its ranking, else 0; under ties the probability of it.

    Examples
    --------
    One relevant item in a tie of four is among the first three in 3 of 4 orders.

    >>> hit(Rankings([0, 0, 0, 1], [1, 1, 1, 1], [4])).tolist()
    [0.75]
    """
    rank, size, relevant = rankings.first_relevant
    missed = np.ones(len(rank))
    for step in range(k):
        chance = np.clip(relevant / np.maximum(size - step, 1), 0.0, 1.0)
        missed *= np.where(rank + step <= k, 1.0 - chance, 1.0)
    return np.where(rankings.eligible, 1.0 - missed, np.nan)


def estimate(per_ranking: NDArray[np.float64], clusters: NDArray[np.int64]) -> Estimate:
    """Average a per-ranking metric over the eligible rankings, with its interval by clusters.

    Parameters
    ----------
    per_ranking
        float64 (rankings,), NaN where not eligible.
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    """
    return _estimates(per_ranking[:, None], clusters)[0]


def _estimates(metrics: NDArray[np.float64], clusters: NDArray[np.int64]) -> list[Estimate]:
    """Return estimates of several metrics, one a column, that are NaN for the same rankings."""
    eligible = ~np.isnan(metrics[:, 0])
    n, excluded = int(eligible.sum()), int((~eligible).sum())
    if n == 0:
        return [Estimate(value=None, low=None, high=None, n=0, excluded=excluded)] * metrics.shape[1]
    values = metrics[eligible]
    bounds: Sequence[Interval | None] = mean_intervals(values, clusters[eligible]) or [None] * metrics.shape[1]
    return [
        Estimate(
            value=float(column.mean()),
            low=max(found.low, 0.0) if found else None,
            high=min(found.high, 1.0) if found else None,
            n=n,
            excluded=excluded,
        )
        for column, found in zip(values.T, bounds, strict=True)
    ]


def paired(challenger: NDArray[np.float64], other: NDArray[np.float64], clusters: NDArray[np.int64]) -> Delta | None:
    """Average challenger minus other over the rankings eligible in both; None with too few clusters for an interval."""
    difference = challenger - other
    eligible = ~np.isnan(difference)
    if not eligible.any():
        return None
    bounds = mean_intervals(difference[eligible, None], clusters[eligible])
    if bounds is None:
        return None
    value = float(difference[eligible].mean())
    return Delta(value=value, low=bounds[0].low, high=bounds[0].high, n=int(eligible.sum()))


def measure(rankings: Rankings, clusters: NDArray[np.int64], among: NDArray[np.bool_] | None = None) -> Metrics:
    """Measure one order of the test rankings by every metric; with all scores tied, the exact expectation at random.

    Parameters
    ----------
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    among
        Which rankings count, bool (rankings,); by default all.
    """
    columns = np.column_stack([ndcg(rankings), ndcg(rankings, gain="linear"), mrr(rankings), hit(rankings)])
    if among is not None:
        columns, clusters = columns[among], clusters[among]
    found = _estimates(columns, clusters)
    return Metrics(ndcg_at_5=found[0], linear_ndcg_at_5=found[1], mrr=found[2], hit_at_3=found[3])
