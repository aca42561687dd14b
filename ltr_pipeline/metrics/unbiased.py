"""Read coin pairs free of position bias: how much a place is looked at, and which of two rankers users prefer.

Users answer what they look at, and they look at the top of a list. A coin pair has no such bias: either item had the
same chance of the upper place. So the answers at the upper and at the lower place of all pairs tell how much less the
lower one is looked at (Joachims, Swaminathan and Schnabel 2017, "Unbiased learning-to-rank with biased feedback";
Agarwal, Zaitsev, Wang, Li, Najork and Joachims 2019, "Estimating position bias without intrusive interventions"), and
with answers weighted by the inverse of that, a pair says which of its items users like better.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ltr_pipeline.metrics.coins import CoinPairs
from ltr_pipeline.metrics.resampling import MIN_CLUSTERS, cluster_sums

__all__ = ["Answers", "Examination", "UnbiasedDelta", "answers", "curve", "difference"]

_FEWEST: Final = 10  # answers at a place, for a ratio
_WIDEST: Final = 3.0  # largest ratio of an interval's ends that the curve shows
_LONGEST: Final = 20  # the curve's last rank
_Z: Final = 1.96


class Examination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much a rank is looked at, relative to rank 1, with its 95 % interval."""

    rank: int
    value: float
    low: float
    high: float


class UnbiasedDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Challenger minus other: the share of coin pairs in which the better-answered item has the higher score.

    Attributes
    ----------
    value, low, high
        The difference and its 95 % interval, clustered by user.
    low_99
        Lower end of the 99 % interval.
    n
        Pairs that were answered differently.
    share, other
        The challenger's and the other's share.
    swapped, other_swapped
        The same among the pairs whose *lower* item got the better answer, which a ranker that only repeats the shown
        order gets wrong; None without any.
    """

    value: float
    low: float
    high: float
    low_99: float
    n: int
    share: float
    other: float
    swapped: float | None = None
    other_swapped: float | None = None

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


class Answers(NamedTuple):
    """Answers of users to coin pairs.

    Attributes
    ----------
    upper, lower
        Whether the item at the upper and at the lower place was answered (relevance above 0), bool (pairs,).
    better
        1 where the upper item got the better answer, −1 where the lower one did, else 0, int (pairs,).
    """

    upper: NDArray[np.bool_]
    lower: NDArray[np.bool_]
    better: NDArray[np.int64]


def answers(pairs: CoinPairs, relevance: NDArray[np.integer]) -> Answers:
    """Look up the answers to coin pairs by the relevance of each row, (n,)."""
    upper, lower = relevance[pairs.upper].astype(np.int64), relevance[pairs.lower].astype(np.int64)
    return Answers(upper > 0, lower > 0, np.sign(upper - lower))


def curve(pairs: CoinPairs, relevance: NDArray[np.integer], clusters: NDArray[np.int64]) -> list[Examination]:
    """Estimate how much each rank is looked at, relative to rank 1.

    Over the pairs at ranks r and r + 1, either item had the same chance of either place, so answers at the lower over
    answers at the upper place are the ratio of how much the two are looked at. The curve is the product of the ratios
    down to a rank; it ends at rank 20, or before a rank of which hardly anything is known. Intervals by the delta
    method on its logarithm, clustered by user.

    Parameters
    ----------
    relevance
        Of each row, (n,).
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).

    Returns
    -------
    One for each rank from 1 on; empty where not even rank 2 can be told.
    """
    found, user = answers(pairs, relevance), clusters[pairs.ranking]
    value, influence = 0.0, np.zeros(len(pairs))
    points = [Examination(rank=1, value=1.0, low=1.0, high=1.0)]
    for rank in range(1, _LONGEST):
        here = pairs.rank == rank
        upper, lower = here & found.upper, here & found.lower
        if min(upper.sum(), lower.sum()) < _FEWEST:
            break
        value += math.log(lower.sum() / upper.sum())
        influence += lower / lower.sum() - upper / upper.sum()
        half = _Z * _error(influence, user)
        low, middle, high = (math.exp(end) for end in (value - half, value, value + half))
        if high > _WIDEST * low:
            break
        points.append(Examination(rank=rank + 1, value=middle, low=low, high=high))
    return points if len(points) > 1 else []


def difference(
    pairs: CoinPairs,
    relevance: NDArray[np.integer],
    score: NDArray[np.float64],
    other: NDArray[np.float64],
    clusters: NDArray[np.int64],
) -> UnbiasedDelta | None:
    """Compare two rankers by the coin pairs whose items were answered differently.

    A ranker is right about a pair when its score of the better-answered item is higher (half right when tied). If both
    places were looked at alike, a fair coin would let half of the better answers fall on the upper one; more do. So a
    better answer at the lower place weighs the inverse of how much less often one falls there, rank by rank. Then a
    ranker that only repeats the places of a pair is right about exactly half; for one that knows no coin, each pair
    counts for the item that users like better, and for neither where they like both alike.

    The interval is linearised, with the weights' own uncertainty, clustered by user, and uses Student's t with the
    effective number of clusters less one.

    Parameters
    ----------
    relevance, score, other
        Relevance, and scores by both rankers, of each row, (n,).
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).

    Returns
    -------
    None with too few clusters for an interval.
    """
    found = answers(pairs, relevance)
    pairs, better = pairs.only(found.better != 0), found.better[found.better != 0]
    user = clusters[pairs.ranking]
    swapped = better < 0
    if len(np.unique(user)) < MIN_CLUSTERS or swapped.all():
        return None
    counts = [np.bincount(pairs.rank[side], minlength=pairs.rank.max() + 1)[pairs.rank] for side in (~swapped, swapped)]
    weight = np.where(swapped, counts[0] / np.maximum(counts[1], 1), 1.0)
    right, theirs = (_right(pairs, better, each) for each in (score, other))
    share, others = (float(weight @ each / weight.sum()) for each in (right, theirs))
    value = share - others
    influence = weight * (right - theirs - value)
    # The weights are estimates, too: each pair moves those of its rank's swapped pairs, and so what these amount to.
    amount = np.bincount(pairs.rank, weights=influence * swapped)[pairs.rank]
    influence += amount * np.where(swapped, -1.0, 1.0) / np.where(swapped, counts[1], counts[0])
    error, freedom = _error(influence / weight.sum(), user), _freedom(weight, user)
    half, half_99 = (float(stats.t.ppf(level, freedom)) * error for level in (0.975, 0.995))
    return UnbiasedDelta(
        value=value,
        low=value - half,
        high=value + half,
        low_99=value - half_99,
        n=len(pairs),
        share=share,
        other=others,
        swapped=float(right[swapped].mean()) if swapped.any() else None,
        other_swapped=float(theirs[swapped].mean()) if swapped.any() else None,
    )


def _right(pairs: CoinPairs, better: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 + better * np.sign(score[pairs.upper] - score[pairs.lower])) / 2


def _freedom(weight: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Return the effective number of clusters less one."""
    sizes = cluster_sums(weight[:, None], clusters)
    return max(float(sizes.sum() ** 2 / np.square(sizes).sum()) - 1, 1.0)


def _error(influence: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Return the standard error of a sum of influences, clustered (Liang and Zeger 1986)."""
    sums = cluster_sums(influence[:, None], clusters)
    return math.sqrt(np.square(sums).sum() * len(sums) / max(len(sums) - 1, 1))
