"""The flat table of ranked items that every metric reads: checked once, its ranks and ties computed once."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltr_pipeline.errors import DatasetError, RankerError

__all__ = ["FirstRelevant", "Rankings", "Ties", "discount_sums", "starts"]


class Ties(NamedTuple):
    """Rows in falling score within their ranking, and the ranks (1-based) of the block of equal scores each is in."""

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


class FirstRelevant(NamedTuple):
    """First block of ties with a relevant item of each ranking: its first rank, size and relevant items, (rankings,).

    A ranking without a relevant item has 1, 0 and 0.
    """

    rank: NDArray[np.int64]
    size: NDArray[np.int64]
    relevant: NDArray[np.int64]


class Rankings:
    """Rankings one after the other in a flat table of `n` items.

    Parameters
    ----------
    relevance
        Graded judgment, whole numbers ≥ 0, shape (n,).
    score
        Model output, float without NaN, shape (n,).
    group
        Row count of each ranking, int, shape (rankings,).

    Attributes
    ----------
    ranking
        Ranking of each row, int64 (n,).
    eligible
        Whether a ranking counts, bool (rankings,): two of its candidates differ in relevance.

    Raises
    ------
    DatasetError
        The shapes do not fit together, or a relevance is negative.
    RankerError
        A score is NaN.
    """

    def __init__(self, relevance: ArrayLike, score: ArrayLike, group: ArrayLike) -> None:
        self.relevance = np.asarray(relevance)
        self.score = np.asarray(score, dtype=np.float64)
        self.group = np.asarray(group, dtype=np.int64)
        self._check(int(self.group.sum()))
        self.ranking = np.repeat(np.arange(len(self.group)), self.group)
        self.eligible = self._differ()

    def _check(self, rows: int) -> None:
        if self.relevance.shape != (rows,) or self.score.shape != (rows,) or (self.group < 0).any():
            shapes = f"relevance has shape {self.relevance.shape} and score {self.score.shape}"
            raise DatasetError(f"group counts {rows} rows, but {shapes}; give one value for each row")
        if rows and self.relevance.min() < 0:
            raise DatasetError(f"relevance {self.relevance.min()} is below 0; grades start at 0")
        if nan := int(np.isnan(self.score).sum()):
            raise RankerError(f"{nan} of {rows} scores are NaN, so there is no order; check the model's features")

    def _differ(self) -> NDArray[np.bool_]:
        lowest, highest = np.full(len(self.group), np.inf), np.full(len(self.group), -np.inf)
        np.minimum.at(lowest, self.ranking, self.relevance)
        np.maximum.at(highest, self.ranking, self.relevance)
        return np.asarray(lowest < highest)

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each ranking, int64 (rankings,)."""
        return starts(self.group)

    def count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count the chosen rows, bool (n,), of each ranking, int64 (rankings,)."""
        return np.bincount(self.ranking[chosen], minlength=len(self.group))

    def total(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum a weight (n,) over the rows of each ranking, float64 (rankings,)."""
        return np.bincount(self.ranking, weights=weight, minlength=len(self.group)).astype(np.float64, copy=False)

    @cached_property
    def ties(self) -> Ties:
        """The order by score and its blocks of ties."""
        order = np.lexsort((-self.score, self.ranking))
        score = self.score[order]
        rank = np.arange(1, len(order) + 1) - self.starts[self.ranking]
        opens = np.ones(len(order), dtype=bool)
        opens[1:] = (rank[1:] == 1) | (score[1:] != score[:-1])
        at = np.flatnonzero(opens)
        size = np.diff(at, append=len(order))
        first = np.repeat(rank[at], size)
        return Ties(order, first, first + np.repeat(size, size) - 1)

    @cached_property
    def first_relevant(self) -> FirstRelevant:
        """The block of ties that holds the first relevant item of each ranking."""
        order, first, _ = self.ties
        relevant = self.relevance[order] > 0
        begin = np.full(len(self), np.iinfo(np.int64).max)
        np.minimum.at(begin, self.ranking[relevant], first[relevant])
        inside = first == begin[self.ranking]
        count = self.count(inside & relevant)
        return FirstRelevant(np.where(count > 0, begin, 1), self.count(inside), count)

    def restricted(self, rows: NDArray[np.bool_]) -> Rankings:
        """Keep the chosen rows, bool (n,), in as many rankings as before.

        >>> Rankings([0, 1, 2], [1, 2, 3], [2, 1]).restricted(np.array([True, False, True])).group.tolist()
        [1, 1]
        """
        return Rankings(self.relevance[rows], self.score[rows], self.count(rows))

    def only(self, chosen: NDArray[np.bool_]) -> Rankings:
        """Keep the chosen rankings, bool (rankings,).

        >>> Rankings([0, 1, 2], [1, 2, 3], [2, 1]).only(np.array([False, True])).score.tolist()
        [3.0]
        """
        rows = chosen[self.ranking]
        return Rankings(self.relevance[rows], self.score[rows], self.group[chosen])

    def discount(self, k: int) -> NDArray[np.float64]:
        """Return the position discount of each row, float64 (n,): 1 / log2(rank + 1), 0 beyond `k`, averaged over ties.

        >>> Rankings([0, 1, 0], [9, 5, 5], [3]).discount(2).round(4).tolist()
        [1.0, 0.3155, 0.3155]
        """
        order, first, last = self.ties
        sums = discount_sums(k)
        discount = np.empty(len(order))
        discount[order] = (sums[np.minimum(last, k)] - sums[np.minimum(first - 1, k)]) / (last - first + 1)
        return discount


def starts(group: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the first row of each ranking from the row counts, int64 (rankings,).

    >>> starts(np.array([3, 1, 2])).tolist()
    [0, 3, 4]
    """
    return np.cumsum(group, dtype=np.int64) - group


def discount_sums(k: int) -> NDArray[np.float64]:
    """Add up the first 0, 1, …, k position discounts 1 / log2(rank + 1), float64 (k + 1,)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
