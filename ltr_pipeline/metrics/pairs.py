"""Pairs of items of which one is better, and how often a ranking puts that one first, by protected group.

Everything that relabelling leaves as it is, is computed once: who is paired with whom and which pairs are right. The
accuracy under a hundred labellings is then a few products of sparse matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.resampling import cluster_codes

__all__ = ["Accuracy", "Pairs", "Units", "agreement", "by_items", "codes", "pure", "ratio"]

_NEARLY_ALL: Final = 0.95  # of a user's labels: a dirty record among them changes nothing
_MAX_PARTNERS: Final = 200  # items each relevant one is compared with: all, or this many spread over a longer list


@dataclass(frozen=True)
class Units:
    """Where labels live: items, users or rankings.

    Attributes
    ----------
    label
        Group number of each unit, which a permutation shuffles, int32 (units,).
    of_row
        Unit of each row, int (n,), -1 = unknown.
    """

    label: NDArray[np.int32]
    of_row: NDArray[np.int64]

    @classmethod
    def of_items(cls, groups: ProtectedGroups) -> Units:
        """Let each item have its label; without items, each row."""
        code = codes(groups)
        owner = np.arange(len(code)) if groups.item is None else cluster_codes(groups.item)
        return cls._owned(owner, code)

    @classmethod
    def of_rankings(cls, rankings: Rankings, groups: ProtectedGroups, clusters: NDArray[np.int64]) -> Units:
        """Let each user have a label where nearly all keep to one, else each ranking.

        Parameters
        ----------
        groups
            Of rankings whose items are all of one group; others are unknown.
        clusters
            User of each ranking, int (rankings,).
        """
        code, users = codes(groups), clusters[rankings.ranking]
        owner = users if agreement(code, users) >= _NEARLY_ALL else rankings.ranking
        return cls._owned(owner, code)

    @classmethod
    def _owned(cls, owner: NDArray[np.int64], code: NDArray[np.int64]) -> Units:
        """Make a unit of each owner; one with rows of several groups is a unit in each of them."""
        known, count = code >= 0, int(code.max(initial=0)) + 1
        units, of_known = np.unique(owner[known] * count + code[known], return_inverse=True)
        of_row = np.full(len(code), -1)
        of_row[known] = of_known
        return cls((units % count).astype(np.int32), of_row)


def codes(groups: ProtectedGroups) -> NDArray[np.int64]:
    """Return the number of each row's group among the names, int64 (n,), -1 = unknown."""
    code = groups.of_row.cast(pl.Enum(groups.names)).to_physical().cast(pl.Int64).fill_null(-1)
    found: NDArray[np.int64] = code.to_numpy()
    return found


def pure(rankings: Rankings, groups: ProtectedGroups) -> NDArray[np.bool_]:
    """Tell of each ranking whether its known items are all of one group, bool (rankings,).

    >>> groups = ProtectedGroups(pl.Series(["a", "a", "a", "b", None, "b"]))
    >>> pure(Rankings([0] * 6, [0] * 6, [2, 2, 2]), groups).tolist()
    [True, False, True]
    """
    code, size = codes(groups), len(rankings)
    known, of = code >= 0, rankings.ranking
    lowest, highest = np.full(size, len(groups.names)), np.full(size, -1)
    np.minimum.at(lowest, of[known], code[known])
    np.maximum.at(highest, of[known], code[known])
    alike: NDArray[np.bool_] = lowest >= highest
    return alike


def by_items(rankings: Rankings, groups: ProtectedGroups) -> bool:
    """Tell whether labels belong to items that recur rather than to whole rankings: who keeps to one more often."""
    if groups.item is None:
        return False
    code, item = codes(groups), cluster_codes(groups.item)
    shown = np.bincount(item)[item] > 1
    return agreement(np.where(shown, code, -1), item) > agreement(code, rankings.ranking)


def agreement(code: NDArray[np.int64], owner: NDArray[np.int64]) -> float:
    """Return the share of known codes that are their owner's commonest one; 0 without any.

    >>> agreement(np.array([0, 0, 1, 1, -1]), np.array([7, 7, 7, 8, 8]))
    0.75
    """
    known = code >= 0
    table = pl.DataFrame({"owner": owner[known], "code": code[known]})
    commonest = table.group_by("owner", "code").len().group_by("owner").agg(pl.col("len").max())
    return float(commonest["len"].sum() / max(1, len(table)))


class Accuracy(NamedTuple):
    """A(q, g) of rankings with a pair, float64 (rankings, groups, labellings), 0 without one, and how many it has."""

    value: NDArray[np.float64]
    pairs: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """Average to A(g), float64 (groups, labellings), NaN where no ranking has a pair."""
        return ratio(self.value.sum(axis=0), (self.pairs > 0).sum(axis=0))


def ratio(total: NDArray[np.float64], count: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide where there is something to divide by; NaN elsewhere."""
    found = np.full(total.shape, np.nan)
    np.divide(total, count, out=found, where=count > 0)
    return found


@dataclass(frozen=True)
class Pairs:
    """Pairs of different relevance in one ranking, sorted by ranking and better row.

    Attributes
    ----------
    better
        Unit of each better row.
    of_pair
        Better row of each pair.
    other
        Unit of the other row of each pair.
    right, count
        Sparse matrices that add up pairs by better row: with 1 for the right order, 1/2 for a tie and 0 for the wrong
        one, and with 1 for each.
    rankings
        Sparse matrix that adds up better rows by ranking.
    ranking
        Number of each such ranking.
    members, first
        Units of the known rows of those rankings, and where each ranking begins among them.
    """

    better: NDArray[np.int64]
    of_pair: NDArray[np.int64]
    other: NDArray[np.int64]
    right: csr_array
    count: csr_array
    rankings: csr_array
    ranking: NDArray[np.int64]
    members: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, rankings: Rankings, units: Units, rng: np.random.Generator) -> Pairs:
        """Pair each relevant row with the less relevant ones of its list, in a long list with 200 spread over it."""
        better, other = _compared(rankings, units, rng)
        # Pairs of one better row stand together, and so do the better rows of one ranking: note where each begins.
        first = np.flatnonzero(np.diff(better, prepend=-1))
        ranking = rankings.ranking[better[first]]
        begin = np.flatnonzero(np.diff(ranking, prepend=-1))
        right = (1.0 + np.sign(rankings.score[better] - rankings.score[other])) / 2.0
        member = np.flatnonzero((units.of_row >= 0) & np.isin(rankings.ranking, ranking))
        return cls(
            better=units.of_row[better[first]],
            of_pair=np.repeat(np.arange(len(first)), np.diff(first, append=len(better))),
            other=units.of_row[other],
            right=_adder(first, right),
            count=_adder(first, np.ones(len(better))),
            rankings=_adder(begin, np.ones(len(first))),
            ranking=ranking[begin],
            members=units.of_row[member],
            first=np.flatnonzero(np.diff(rankings.ranking[member], prepend=-1)),
        )

    def accuracy(self, label: NDArray[np.int32], groups: int, *, pure: bool = False) -> Accuracy:
        """Compute A(q, g) under each labelling of the units, int32 (units, labellings).

        A pair counts where its two rows are of different groups; with `pure`, where all rows of its list are of one.
        """
        own = label[self.better]
        apart = self._alike(label)[self._of_better][self.of_pair] if pure else label[self.other] != own[self.of_pair]
        counted = apart.astype(np.float32)
        # First add up the pairs of each better row, then the better rows of each ranking, group by group.
        right, count = self.right @ counted, self.count @ counted
        shape = (len(self.ranking), groups, label.shape[1])
        rights, counts = np.zeros(shape), np.zeros(shape)
        for index in range(groups):
            ours = own == index
            rights[:, index] = self.rankings @ (right * ours)
            counts[:, index] = self.rankings @ (count * ours)
        return Accuracy(rights / np.maximum(counts, 1.0), counts)

    @property
    def _of_better(self) -> NDArray[np.int64]:
        """Place of each better row's ranking among `ranking`."""
        return np.repeat(np.arange(len(self.ranking)), np.diff(self.rankings.indptr))

    def _alike(self, label: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tell whether all known rows of a ranking have one label, bool (rankings, labellings)."""
        of_row = label[self.members]
        alike: NDArray[np.bool_] = np.minimum.reduceat(of_row, self.first) == np.maximum.reduceat(of_row, self.first)
        return alike


def _compared(
    rankings: Rankings, units: Units, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the better and the other row of each pair."""
    # Each relevant row of a known group is repeated as often as it has partners.
    rows = np.flatnonzero((rankings.relevance > 0) & (units.of_row >= 0))
    size = rankings.group[rankings.ranking[rows]]
    partners = np.minimum(size, _MAX_PARTNERS)
    better = np.repeat(rows, partners)
    # Its partners stand at even distances from a random start; in a short list every place is taken once, whatever
    # the start.
    step = np.arange(len(better)) - np.repeat(np.cumsum(partners) - partners, partners)
    shift = rng.integers(0, np.maximum(size, 1))
    place = (step * np.repeat(size, partners) + np.repeat(shift, partners)) // np.repeat(partners, partners)
    other = rankings.starts[rankings.ranking[better]] + place
    # Only pairs with a known group on both sides and a less relevant partner say anything.
    differ = (rankings.relevance[better] > rankings.relevance[other]) & (units.of_row[other] >= 0)
    return better[differ], other[differ]


def _adder(first: NDArray[np.int64], weight: NDArray[np.float64]) -> csr_array:
    """Return a sparse float32 matrix that adds up weighted rows from each `first` to the next."""
    indptr = np.append(first, len(weight))
    return csr_array((weight.astype(np.float32), np.arange(len(weight)), indptr), shape=(len(first), len(weight)))
