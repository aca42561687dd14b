"""Bit vectors in columns of numpy: of each feature a table, with the leaves that its values leave possible.

The nodes that fail for a value are the first few of its feature's, so what they rule out together is worked out once,
for each number of them. A row of features then costs one look-up for each feature instead of a walk down each tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.nodes import Bits, Nodes, masks_and_leaves, nodes_of
from ltr_pipeline.scoring.resting import rest_if_due
from ltr_pipeline.scoring.trees import Tree

__all__ = ["Tables"]

LARGEST_BYTES: Final = 64 << 20
"""Memory that the tables may take: they hold a mask for each threshold and tree."""

CHUNK_MASKS: Final = 1 << 16
"""Rows times trees that are scored at once, so that intermediate results stay in the processor's caches."""


class Tables:
    """Trees that numpy scores; make one with `of`. Scoring changes nothing: threads may share it."""

    FEWEST: Final = 1500
    """Rows times trees from which on this is faster than LightGBM."""

    def __init__(self, trees: Sequence[Tree], nodes: Nodes, columns: Sequence[_Splits], bits: type[Bits]) -> None:
        self._trees = len(trees)
        self._bits = bits
        masks, self._leaves = masks_and_leaves(trees, bits)
        self._features = np.array([column.feature for column in columns], np.int64)
        self._tables = [_table(column, nodes, masks, self._trees) for column in columns]
        self._thresholds = _side_by_side([column.thresholds for column in columns])

    @classmethod
    def of(cls, trees: Sequence[Tree], bits: type[Bits]) -> Tables | None:
        """Make the tables, or return None when they would take too much memory."""
        nodes = nodes_of(trees)
        columns = _columns(nodes)
        if _bytes(columns, len(trees), bits) > LARGEST_BYTES:
            return None
        return cls(trees, nodes, columns, bits)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the raw scores of the rows of `matrix`, float32 (n, features), NaN where missing; float64 (n,)."""
        rows = max(1, CHUNK_MASKS // self._trees)
        parts = [self._score(matrix[start : start + rows]) for start in range(0, len(matrix), rows)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        # Of each feature: how many of its thresholds each row is above, which is the row of the feature's table.
        places = self._places(matrix.T[self._features].astype(np.float64))
        # At first every leaf is possible; each feature then rules some out, in all trees at once.
        possible = np.full((len(matrix), self._trees), np.iinfo(self._bits).max, self._bits)
        possible_by_one = np.empty_like(possible)
        for table, place in zip(self._tables, places, strict=True):
            table.take(place, axis=0, out=possible_by_one, mode="clip")
            np.bitwise_and(possible, possible_by_one, out=possible)
        # The row ends in the leftmost leaf that is still possible: the lowest bit that is set.
        scores = self._leaves.take(_lowest_bit(possible) + np.arange(self._trees) * np.iinfo(self._bits).bits)
        # Added one by one to 0, as LightGBM does: `sum` would add in pairs, and differ in the last bits.
        total: NDArray[np.float64] = np.add.accumulate(scores, axis=1, out=scores)[:, -1] + 0.0
        return total

    def _places(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count the thresholds of its feature that each value is above; a missing value gets a number beyond them all.

        This is a binary search for all values in step: numpy's own goes value by value, and waits for each comparison.
        """
        width = self._thresholds.shape[1]
        # All features' thresholds stand in one flat array; each search begins where its feature's row begins.
        starts = np.arange(len(values))[:, np.newaxis] * width
        places = np.repeat(starts, values.shape[1], axis=1)
        step = width // 2
        while step:
            # Go `step` on where the value is above what stands there. NaN is above everything: `<=` is never true.
            places += step * ~(values <= self._thresholds.take(places + (step - 1)))
            step //= 2
        places -= starts
        return places


def _lowest_bit(bits: NDArray[Bits]) -> NDArray[np.signedinteger]:
    """Return the number of the lowest bit that is set, read from the exponent of the float that has this bit alone."""
    lowest = bits & (~bits + bits.dtype.type(1))
    if bits.dtype == np.uint32:
        return (lowest.astype(np.float32).view(np.int32) >> 23) - 127
    return (lowest.astype(np.float64).view(np.int64) >> 52) - 1023


class _Splits(NamedTuple):
    """The nodes that ask for one feature.

    Attributes
    ----------
    nodes
        Their numbers, int64 (nodes of the feature,).
    thresholds
        Their distinct thresholds, rising, float64 (n,).
    place
        Of each node, the number of its threshold among them.
    """

    feature: int
    nodes: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    place: NDArray[np.int64]


def _columns(nodes: Nodes) -> list[_Splits]:
    """Group the nodes by the feature they ask for, with its distinct thresholds."""
    columns = []
    for feature in np.unique(nodes.feature).tolist():
        rest_if_due()
        mine = np.flatnonzero(nodes.feature == feature)
        thresholds, place = np.unique(nodes.threshold[mine], return_inverse=True)
        columns.append(_Splits(feature, mine, thresholds, place))
    return columns


def _bytes(columns: Sequence[_Splits], trees: int, bits: type[Bits]) -> int:
    """Return the size of the tables, with the thresholds beside each other."""
    masks = sum(len(column.thresholds) + 2 for column in columns) * trees
    width = _width([column.thresholds for column in columns])
    return masks * np.dtype(bits).itemsize + len(columns) * width * 8


def _width(columns: Sequence[NDArray[np.float64]]) -> int:
    """Return how long a row of the thresholds beside each other is: see `_side_by_side`."""
    return 1 << (max(map(len, columns), default=0) + 1).bit_length()


def _table(column: _Splits, nodes: Nodes, masks: NDArray[Bits], trees: int) -> NDArray[Bits]:
    """Return the table of a feature with n thresholds, (n + 2, trees).

    Row p has the leaves that are possible for a value above p of the thresholds, and the last row has those that are
    possible without the feature.
    """
    rest_if_due()
    # At first every leaf is possible: all bits are set.
    table = np.full((len(column.thresholds) + 2, trees), np.iinfo(masks.dtype).max, masks.dtype)
    # A value above threshold p fails the nodes with it, so row p + 1 loses what they rule out, each in its own tree.
    np.bitwise_and.at(table, (column.place + 1, nodes.tree[column.nodes]), masks[column.nodes])
    # It is above all smaller thresholds, too, so each row also loses what the rows before it have lost.
    np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
    # A missing value fails the nodes that send it right, whatever their thresholds are.
    failing = column.nodes[nodes.fails_missing[column.nodes]]
    np.bitwise_and.at(table[-1], nodes.tree[failing], masks[failing])
    return table


def _side_by_side(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return all features' thresholds, (features, width), each row filled up with infinity; only NaN is beyond that.

    The width is a power of two, so that a binary search halves it evenly. It is at least two more than the longest
    column has, so that a missing value is beyond the row of the table where all nodes fail.
    """
    rows = np.full((len(columns), _width(columns)), np.inf)
    for row, thresholds in zip(rows, columns, strict=True):
        row[: len(thresholds)] = thresholds
    return rows
