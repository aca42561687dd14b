"""Coin pairs: neighbours of a shown list whose order a fair coin decided, and whether a score knows the coin.

FairPairs (Radlinski and Joachims 2006) cuts a list into pairs, beginning at rank 1 or 2, and swaps each pair by a fair
coin of its own. What was known before the list was shown cannot predict such a coin. So an honest score is higher for
the upper item of a pair exactly as often as for the lower one, whatever users do; no answer is needed to test that.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ltr_pipeline.metrics.resampling import cluster_sums

__all__ = [
    "DOUBT",
    "FLIPS",
    "LEVEL",
    "MIN_CLUSTERS",
    "MIN_PAIRS",
    "CoinCheck",
    "CoinPairs",
    "check",
    "coin_pairs",
    "flip_p_value",
]

LEVEL: Final = 0.001
"""An honest score is taken for one that knows the coin in at most this share of nights."""

DOUBT: Final = 0.01
"""An honest score is not cleared in at most this share of nights."""

FLIPS: Final = 9999
"""Turns of the coins that are drawn for the test."""

MIN_PAIRS: Final = 500
"""Fewer pairs with different scores than this clear nobody: too much could hide in them."""

MIN_CLUSTERS: Final = 30
"""Nor do fewer independent users (effective number)."""

_Z: Final = 1.96
_MAX_CLUSTERS: Final = 1000
_ROUNDING: Final = 1e-5  # of totals in float32


class CoinPairs(NamedTuple):
    """Pairs of neighbours that a fair coin put into their order.

    Attributes
    ----------
    upper, lower
        Rows of the items as they were shown, int64 (pairs,).
    rank
        Where the upper one was shown, 1-based, int64 (pairs,).
    ranking
        Index of their ranking, int64 (pairs,).
    """

    upper: NDArray[np.int64]
    lower: NDArray[np.int64]
    rank: NDArray[np.int64]
    ranking: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.upper)

    def only(self, chosen: NDArray[np.bool_]) -> CoinPairs:
        """Keep the chosen pairs, bool (pairs,)."""
        return CoinPairs(*(column[chosen] for column in self))


class CoinCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether a score knows what the coin decided.

    Attributes
    ----------
    rankings
        Explored rankings: those with a coin pair.
    pairs
        Pairs whose items have different scores.
    upper
        Those of them in which the upper item has the higher score; an honest score expects half.
    clusters
        Effective number of users among them, (Σ pairs)² / Σ pairs²; of rankings, where users are unknown.
    low, high
        95 % interval of the share of `upper`, clustered by user; None without a pair.
    p_value
        Of the test by cluster (`check`).
    possible
        Coin pairs to be expected if every ranking were explored.
    ready
        First day whose test days can be explored throughout, if exploration begins now.
    """

    rankings: int
    pairs: int
    upper: int
    clusters: float
    low: float | None
    high: float | None
    p_value: float
    possible: float
    ready: dt.date | None = None

    @property
    def share(self) -> float | None:
        """Share of pairs whose upper item has the higher score."""
        return self.upper / self.pairs if self.pairs else None

    @property
    def knows(self) -> bool:
        """Whether the score knows the coin: proof, however few pairs there are."""
        return self.p_value < LEVEL

    @property
    def may_know(self) -> bool:
        """Whether it is doubtful that the score does not know the coin."""
        return self.p_value < DOUBT

    @property
    def enough(self) -> bool:
        """Whether there are enough pairs to clear a score of knowing the coin."""
        return self.pairs >= MIN_PAIRS and self.clusters >= MIN_CLUSTERS

    @property
    def suffices(self) -> float | None:
        """Share of rankings to explore so that there are `MIN_PAIRS`, in whole percent; None when all do not suffice.

        >>> none = CoinCheck(rankings=0, pairs=0, upper=0, clusters=0, low=None, high=None, p_value=1, possible=15_200)
        >>> none.suffices
        0.04
        """
        percent = math.ceil(100 * MIN_PAIRS / self.possible) if self.possible else 101
        return percent / 100 if percent <= 100 else None


def coin_pairs(
    group: NDArray[np.integer], position: NDArray[np.integer], propensity: NDArray[np.floating]
) -> CoinPairs:
    """Find the coin pairs from what the service logged: each item's position, and its propensity given the cut.

    The propensity is 1/2 for both items of a pair and 1 for one without a partner, which only the first and the last
    can be. So the cut began at rank 1 if the item there has 1/2, and at rank 2 if it has 1; where that item is not
    among the rows (it was unavailable), an item further down with propensity 1 tells, by its rank being odd or even.
    Rankings whose cut is unknown or contradicts itself, with other propensities, without some, or with two items at
    one position, have no pair; nor has an item whose partner is not among the rows.

    Parameters
    ----------
    group
        Row count of each ranking, int (rankings,).
    position, propensity
        Of each row, (n,), in any order within a ranking; NaN where no propensity was logged.

    Examples
    --------
    Cut at rank 1, and at rank 2:

    >>> found = coin_pairs(np.array([4, 4]), np.array([1, 2, 3, 4] * 2), np.array([0.5, 0.5, 0.5, 0.5, 1, 0.5, 0.5, 1]))
    >>> found.upper.tolist(), found.lower.tolist(), found.rank.tolist()
    ([0, 2, 5], [1, 3, 6], [1, 3, 2])
    """
    ranking = np.repeat(np.arange(len(group)), group)
    order = np.lexsort((position, ranking))
    ranking, place, chance = ranking[order], position[order].astype(np.int64), propensity[order]
    same = ranking[1:] == ranking[:-1]
    half, alone = chance == 0.5, chance == 1.0
    last = np.append(~same, True)
    tells = alone | (place == 1)
    from_first = tells & np.where(alone, (place > 1) & (place % 2 == 1), half)

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(ranking[chosen], minlength=len(group))

    told, first = count(tells), count(from_first)
    repeated = np.append(same & (place[1:] == place[:-1]), False)
    wrong = ~(half | alone) | repeated | (alone & (place > 1) & ~last)
    known = (count(wrong) == 0) & (told > 0) & ((first == 0) | (first == told))
    neighbours = same & half[1:] & half[:-1] & (place[1:] == place[:-1] + 1)
    begins = (place[:-1] % 2 == 1) == (first > 0)[ranking[:-1]]
    at = np.flatnonzero(neighbours & begins & known[ranking[:-1]])
    return CoinPairs(order[at], order[at + 1], place[at], ranking[at])


def check(
    pairs: CoinPairs,
    score: NDArray[np.float64],
    group: NDArray[np.integer],
    clusters: NDArray[np.int64],
    *,
    seed: int,
    ready: dt.date | None = None,
) -> CoinCheck:
    """Test whether a score knows the coin.

    Each pair with different scores votes for its upper item or for its lower one, with a weight that no coin can
    change: the rank of the size of the difference among all pairs (Wilcoxon 1945), over the root of the place. A
    feature that knows the position gives itself away where differences are large and at the top of the list.
    `flip_p_value` says how unlikely the votes are if coins decided.

    Parameters
    ----------
    score
        Of each row, (n,).
    group
        Row count of each ranking, int (rankings,).
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    seed
        Of the turns of the coins.
    """
    differ = score[pairs.upper] != score[pairs.lower]
    judged, count = pairs.only(differ), int(differ.sum())
    lead_of_upper = score[judged.upper] - score[judged.lower]
    sign, weight = np.sign(lead_of_upper), rankdata(np.abs(lead_of_upper)) / np.sqrt(judged.rank)
    table = np.column_stack([sign, np.ones(count), sign * weight])
    lead, size, votes = cluster_sums(table, clusters[judged.ranking]).T
    share = (1 + lead.sum() / count) / 2 if count else 0.0
    half = _Z * math.sqrt(np.square(lead).sum()) / (2 * count) if count else 0.0
    return CoinCheck(
        rankings=len(np.unique(pairs.ranking)),
        pairs=count,
        upper=int((sign > 0).sum()),
        clusters=float(count**2 / np.square(size).sum()) if count else 0.0,
        low=max(0.0, float(share) - half) if count else None,
        high=min(1.0, float(share) + half) if count else None,
        p_value=flip_p_value(votes, seed),
        possible=float((np.maximum(group, 1) - 1).sum() / 2),
        ready=ready,
    )


def flip_p_value(sums: NDArray[np.float64], seed: int) -> float:
    """Return the two-sided p-value of the total of independent `sums`, each as likely as its negative.

    That is the randomisation test whose unit is the cluster (Fisher 1935; Canay, Romano and Shaikh 2017): all coins of
    a user are turned over together, so that lists which are logged twice, or shown again from a cache, count as one
    piece of evidence. Of the turns `FLIPS` are drawn, and the one that was seen counts among them, which keeps the
    level at any number of clusters (Phipson and Smyth 2010).

    Parameters
    ----------
    sums
        float64 (clusters,). Above 1,000 they are first merged at random into 1,000, whose signs are as symmetric.

    Examples
    --------
    >>> flip_p_value(np.array([5.0]), seed=1), flip_p_value(np.full(30, 1.0), seed=1)
    (1.0, 0.0001)
    """
    rng = np.random.default_rng(seed)
    if len(sums) > _MAX_CLUSTERS:
        sums = cluster_sums(sums[:, None], rng.permutation(len(sums)) % _MAX_CLUSTERS)[:, 0]
    bits = np.unpackbits(rng.integers(256, size=(FLIPS, -(-len(sums) // 8)), dtype=np.uint8), axis=1, count=len(sums))
    totals = np.abs(2 * (bits.astype(np.float32) @ sums.astype(np.float32)) - np.float32(sums.sum()))
    return float((1 + (totals >= abs(sums.sum()) * (1 - _ROUNDING)).sum()) / (1 + FLIPS))
