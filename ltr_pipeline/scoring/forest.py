"""Trees scored by bit vectors, all trees at once: QuickScorer (Lucchese et al., SIGIR 2015) in columns of numpy.

Number the leaves of a tree from left to right. A node whose test ``value <= threshold`` fails rules out the leaves on
its left; the leaf that a row ends in is the leftmost one that no node rules out. Of the nodes that ask for one feature,
sorted by threshold, those that fail are the first few. So what they rule out together, in all trees, is a row of a
table that is made once: a row of features costs one look-up for each feature, instead of a walk down each tree.

The scores are those of LightGBM to the last bit; for a hundred rows and more in less than half its time
(``benchmarks/scoring.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.resting import rest_if_due
from ltr_pipeline.scoring.trees import Tree, Trees

__all__ = ["Forest"]

LARGEST_BYTES: Final = 64 << 20
"""Of all tables: they hold a mask for each threshold and tree."""

CHUNK_MASKS: Final = 1 << 16
"""Rows times trees that are scored at once, so that what is in between stays in the processor's caches."""

ZERO: Final = float(np.float32(1e-35))
"""LightGBM takes values up to this for 0 (its ``kZeroThreshold``)."""

CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
"""Bits of a node's decision; above them is what it takes for missing."""

NOTHING, NAN = 0, 2
"""Where nothing is taken for missing, NaN counts as 0."""

Bits = np.uint32 | np.uint64


class Forest:
    """Trees that can be scored by bit vectors; make one with `of`. Scoring changes nothing: threads may share it."""

    def __init__(self, trees: Sequence[Tree], bits: type[Bits]) -> None:
        self._trees = len(trees)
        self._bits = bits
        nodes, self._leaves = _nodes_and_leaves(trees, bits)
        self._features = np.unique(nodes.feature)
        columns = [_column(nodes, feature, self._trees) for feature in self._features.tolist()]
        self._tables = [table for _, table in columns]
        self._thresholds = _side_by_side([thresholds for thresholds, _ in columns])

    @classmethod
    def of(cls, trees: Trees) -> Forest | None:
        """Forest of a model's trees; None when it is too large, or asks for something else than an order of numbers.

        That is: splits by category, 0 read as missing, linear leaves, more than 64 leaves, several outputs or their
        mean.
        """
        most = max((len(tree.leaves) for tree in trees.trees), default=0)
        if not trees.summed or not 0 < most <= 64 or not all(map(_is_plain, trees.trees)):
            return None
        bits = np.uint32 if most <= 32 else np.uint64
        return cls(trees.trees, bits) if _bytes(trees.trees, bits) <= LARGEST_BYTES else None

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores of the rows of `matrix`, float32 (n, features), NaN where missing; float64 (n,)."""
        rows = max(1, CHUNK_MASKS // self._trees)
        parts = [self._score(matrix[start : start + rows]) for start in range(0, len(matrix), rows)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        places = self._places(matrix.T[self._features].astype(np.float64))
        left = np.full((len(matrix), self._trees), np.iinfo(self._bits).max, self._bits)
        left_by_one = np.empty_like(left)
        for table, place in zip(self._tables, places, strict=True):
            table.take(place, axis=0, out=left_by_one, mode="clip")
            np.bitwise_and(left, left_by_one, out=left)
        scores = self._leaves.take(_lowest_bit(left) + np.arange(self._trees) * np.iinfo(self._bits).bits)
        # One by one, as LightGBM adds them: `sum` would add in pairs, and differ in the last bits.
        total: NDArray[np.float64] = np.add.accumulate(scores, axis=1, out=scores)[:, -1]
        return total

    def _places(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many thresholds of its feature each value is above; where it is missing, a number beyond them all.

        A binary search for all values in step: numpy's own goes value by value, and waits for each comparison.
        """
        width = self._thresholds.shape[1]
        starts = np.arange(len(values))[:, np.newaxis] * width
        places = np.repeat(starts, values.shape[1], axis=1)
        step = width // 2
        while step:
            places += step * ~(values <= self._thresholds.take(places + (step - 1)))
            step //= 2
        places -= starts
        return places


def _lowest_bit(bits: NDArray[Bits]) -> NDArray[np.signedinteger]:
    """Number of the lowest bit that is set: the exponent of the float that has this bit alone."""
    lowest = bits & (~bits + bits.dtype.type(1))
    if bits.dtype == np.uint32:
        return (lowest.astype(np.float32).view(np.int32) >> 23) - 127
    return (lowest.astype(np.float64).view(np.int64) >> 52) - 1023


def _is_plain(tree: Tree) -> bool:
    plain = all(not decision & CATEGORICAL and decision >> 2 in (NOTHING, NAN) for decision in tree.decisions)
    return plain and tree.constant_leaves and all(map(math.isfinite, tree.thresholds))


def _bytes(trees: Sequence[Tree], bits: type[Bits]) -> int:
    """What the tables take, with the thresholds beside each other."""
    thresholds = {node for tree in trees for node in zip(tree.split, tree.thresholds, strict=True)}
    columns = Counter(feature for feature, _ in thresholds)
    masks = (len(thresholds) + 2 * len(columns)) * len(trees)
    return masks * np.dtype(bits).itemsize + len(columns) * _width(max(columns.values(), default=0)) * 8


def _width(longest: int) -> int:
    """Of the thresholds beside each other: see `_side_by_side`."""
    return 1 << (longest + 1).bit_length()


class _Nodes(NamedTuple):
    """Nodes of all trees, each an array (nodes,).

    Attributes
    ----------
    right_of
        Bits of all leaves but those on the node's left.
    """

    tree: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    fails_missing: NDArray[np.bool_]
    right_of: NDArray[Bits]


def _nodes_and_leaves(trees: Sequence[Tree], bits: type[Bits]) -> tuple[_Nodes, NDArray[np.float64]]:
    """All nodes, and the values of the leaves, (trees, bits), each tree's from left to right."""
    every, width = np.iinfo(bits).max, np.iinfo(bits).bits
    leaves, right_of = np.zeros((len(trees), width)), []
    for row, tree in enumerate(trees):
        spans, order = _left_of(tree)
        leaves[row, order] = tree.leaves
        right_of += [every ^ ((1 << size) - 1 << start) for start, size in spans]
        rest_if_due()
    thresholds = np.array([threshold for tree in trees for threshold in tree.thresholds])
    nodes = _Nodes(
        tree=np.repeat(np.arange(len(trees)), [len(tree.split) for tree in trees]),
        feature=np.array([feature for tree in trees for feature in tree.split], np.int64),
        threshold=_exact(thresholds),
        fails_missing=_fails_missing(thresholds, np.array([one for tree in trees for one in tree.decisions], np.int64)),
        right_of=np.array(right_of, bits),
    )
    return nodes, leaves


def _column(nodes: _Nodes, feature: int, trees: int) -> tuple[NDArray[np.float64], NDArray[Bits]]:
    """Thresholds of a feature, rising, (n,), and its table.

    The table, (n + 2, trees), has the bits of the leaves that are left when nodes with the first so many thresholds
    fail, and in its last row when the feature is missing.
    """
    rest_if_due()
    mine = np.flatnonzero(nodes.feature == feature)
    thresholds, place = np.unique(nodes.threshold[mine], return_inverse=True)
    bits = nodes.right_of.dtype
    left = np.full((len(thresholds) + 2, trees), np.iinfo(bits).max, bits)
    np.bitwise_and.at(left, (place + 1, nodes.tree[mine]), nodes.right_of[mine])
    np.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
    failing = mine[nodes.fails_missing[mine]]
    np.bitwise_and.at(left[-1], nodes.tree[failing], nodes.right_of[failing])
    return thresholds, left


def _side_by_side(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Thresholds, (features, width), filled up with infinity, of which nothing but NaN is beyond.

    The width is a power of two, so that a binary search halves it evenly, and two larger than the longest column, so
    that a missing value is beyond the row of the table where all nodes fail.
    """
    rows = np.full((len(columns), _width(max(map(len, columns), default=0))), np.inf)
    for row, thresholds in zip(rows, columns, strict=True):
        row[: len(thresholds)] = thresholds
    return rows


def _left_of(tree: Tree) -> tuple[list[tuple[int, int]], list[int]]:
    """Of each node the first leaf on its left and how many there are; of each leaf its number from the left."""
    sizes = [1] * len(tree.left)
    for node in range(len(sizes) - 1, -1, -1):  # children before their parents
        left, right = tree.left[node], tree.right[node]
        sizes[node] = (1 if left < 0 else sizes[left]) + (1 if right < 0 else sizes[right])
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
    """Thresholds that part values as they are, where LightGBM parts them with those near 0 taken for 0."""
    above = np.where((thresholds >= 0) & (thresholds < ZERO), ZERO, thresholds)
    return np.where((above >= -ZERO) & (above < 0), np.nextafter(-ZERO, -np.inf), above)


def _fails_missing(thresholds: NDArray[np.float64], decisions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a row without the feature goes right."""
    return np.where(decisions >> 2 == NAN, decisions & DEFAULT_LEFT == 0, thresholds < 0)
