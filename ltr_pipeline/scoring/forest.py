"""Trees scored by bit vectors, all trees at once: QuickScorer (Lucchese et al., SIGIR 2015) in columns of numpy.

Number the leaves of a tree from left to right. A node tests ``value <= threshold``; when the test fails, the row cannot
end in a leaf on the node's left. The leaf that a row does end in is the leftmost one that no failing node rules out.

Take the nodes of all trees that ask for one feature and sort them by threshold. For any value of the feature the nodes
that fail are the first few. So the leaves that stay possible, in all trees, are one row of a table that is made once,
and a row of features costs one look-up for each feature instead of a walk down each tree.

The scores are those of LightGBM to the last bit, and for a hundred rows and more they take less than half its time
(``benchmarks/scoring.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.resting import rest_if_due
from ltr_pipeline.scoring.trees import Tree, Trees

__all__ = ["Forest"]

LARGEST_BYTES: Final = 64 << 20
"""Memory that the tables may take: they hold a mask for each threshold and tree."""

CHUNK_MASKS: Final = 1 << 16
"""Rows times trees that are scored at once, so that intermediate results stay in the processor's caches."""

ZERO: Final = float(np.float32(1e-35))
"""LightGBM treats values up to this as 0 (its ``kZeroThreshold``)."""

CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
"""Bits of a node's decision; the bits above them say what the node takes for missing."""

NOTHING, NAN = 0, 2
"""Values that a node takes for missing; where there are none, NaN counts as 0."""

Bits = np.uint32 | np.uint64


class Forest:
    """Trees that can be scored by bit vectors; make one with `of`. Scoring changes nothing: threads may share it."""

    def __init__(self, trees: Sequence[Tree], nodes: _Nodes, columns: Sequence[_Splits], bits: type[Bits]) -> None:
        self._trees = len(trees)
        self._bits = bits
        masks, self._leaves = _masks_and_leaves(trees, bits)
        self._features = np.array([column.feature for column in columns], np.int64)
        self._tables = [_table(column, nodes, masks, self._trees) for column in columns]
        self._thresholds = _side_by_side([column.thresholds for column in columns])

    @classmethod
    def of(cls, trees: Trees) -> Forest | None:
        """Make the forest of a model's trees, or return None when bit vectors cannot score it or take too much memory.

        They cannot score splits by category, 0 read as missing, linear leaves, more than 64 leaves, several outputs
        or the mean of several trees.
        """
        most = max((len(tree.leaves) for tree in trees.trees), default=0)
        if not trees.summed or not 0 < most <= 64 or not all(map(_is_plain, trees.trees)):
            return None
        bits = np.uint32 if most <= 32 else np.uint64
        nodes = _nodes(trees.trees)
        columns = _columns(nodes)
        if _bytes(columns, len(trees.trees), bits) > LARGEST_BYTES:
            return None
        return cls(trees.trees, nodes, columns, bits)

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
        # Added one by one, as LightGBM does: `sum` would add in pairs, and differ in the last bits.
        total: NDArray[np.float64] = np.add.accumulate(scores, axis=1, out=scores)[:, -1]
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


def _is_plain(tree: Tree) -> bool:
    plain = all(not decision & CATEGORICAL and decision >> 2 in (NOTHING, NAN) for decision in tree.decisions)
    return plain and tree.constant_leaves and all(map(math.isfinite, tree.thresholds))


class _Nodes(NamedTuple):
    """Nodes of all trees, tree after tree, as arrays (nodes,).

    Attributes
    ----------
    tree, feature
        Number of the node's tree, and of the feature it asks for.
    threshold
        Value up to which a row goes left.
    fails_missing
        Whether a row without the feature goes right.
    """

    tree: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    fails_missing: NDArray[np.bool_]


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


def _nodes(trees: Sequence[Tree]) -> _Nodes:
    thresholds = np.array([threshold for tree in trees for threshold in tree.thresholds])
    decisions = np.array([decision for tree in trees for decision in tree.decisions], np.int64)
    return _Nodes(
        tree=np.repeat(np.arange(len(trees)), [len(tree.split) for tree in trees]),
        feature=np.array([feature for tree in trees for feature in tree.split], np.int64),
        threshold=_exact(thresholds),
        fails_missing=_fails_missing(thresholds, decisions),
    )


def _columns(nodes: _Nodes) -> list[_Splits]:
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


def _masks_and_leaves(trees: Sequence[Tree], bits: type[Bits]) -> tuple[NDArray[Bits], NDArray[np.float64]]:
    """Return the mask of each node, and the values of the leaves.

    A node's mask, one of (nodes,), has the bits of the leaves that stay possible when the node fails: all but those on
    its left. The leaves, (trees, bits), stand from left to right.
    """
    every, width = np.iinfo(bits).max, np.iinfo(bits).bits
    leaves, masks = np.zeros((len(trees), width)), []
    for row, tree in enumerate(trees):
        spans, order = _left_of(tree)
        leaves[row, order] = tree.leaves
        # `size` ones from bit `start` on are the leaves on the left; every other bit is set in the mask.
        masks += [every ^ ((1 << size) - 1 << start) for start, size in spans]
        rest_if_due()
    return np.array(masks, bits), leaves


def _table(column: _Splits, nodes: _Nodes, masks: NDArray[Bits], trees: int) -> NDArray[Bits]:
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


def _left_of(tree: Tree) -> tuple[list[tuple[int, int]], list[int]]:
    """Return of each node the first leaf on its left and how many there are, and of each leaf its number from the left.

    A child below 0 is a leaf: ``~child`` is its number in the model.
    """
    # Leaves below each node. Children have larger numbers than their parents, so they are counted first.
    sizes = [1] * len(tree.left)
    for node in range(len(sizes) - 1, -1, -1):
        left, right = tree.left[node], tree.right[node]
        sizes[node] = (1 if left < 0 else sizes[left]) + (1 if right < 0 else sizes[right])
    # From the root down: the left child begins where its parent does, the right one behind the left one's leaves.
    starts, spans, order = [0] * len(sizes), [], [0] * len(tree.leaves)
    for node, (left, right) in enumerate(zip(tree.left, tree.right, strict=True)):
        start, size = starts[node], 1 if left < 0 else sizes[left]
        spans.append((start, size))
        if left < 0:
            order[~left] = start
        else:
            starts[left] = start
        if right < 0:
            order[~right] = start + size
        else:
            starts[right] = start + size
    return spans, order


def _exact(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return thresholds that split plain values as LightGBM's split them, which first takes values near 0 for 0."""
    above = np.where((thresholds >= 0) & (thresholds < ZERO), ZERO, thresholds)
    return np.where((above >= -ZERO) & (above < 0), np.nextafter(-ZERO, -np.inf), above)


def _fails_missing(thresholds: NDArray[np.float64], decisions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether a row without the feature goes right."""
    return np.where(decisions >> 2 == NAN, decisions & DEFAULT_LEFT == 0, thresholds < 0)
