"""Trees scored by bit vectors, all trees at once: QuickScorer (Lucchese et al., SIGIR 2015) in columns of numpy.

Number the leaves of a tree from left to right. A node whose test ``value <= threshold`` fails rules out the leaves on
its left; the leaf that a row ends in is the leftmost one that no node rules out. Of the nodes that ask for one feature,
sorted by threshold, those that fail are the first few. So what they rule out together, in all trees, is a row of a
table that is made once: a row of features costs one look-up for each feature, instead of a walk down each tree.

The scores are those of LightGBM to the last bit, in about half the time (``benchmarks/scoring.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.trees import Tree, Trees

__all__ = ["Forest"]

BLOCK_TREES: Final = 256
"""Trees that share a table: its size grows with their number squared."""

CHUNK_ROWS: Final = 256
"""Rows scored at once, so that what is in between stays in the processor's caches."""

ZERO: Final = float(np.float32(1e-35))
"""LightGBM takes values up to this for 0 (its ``kZeroThreshold``)."""

CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
"""Bits of a node's decision; above them is what it takes for missing."""

NOTHING, NAN = 0, 2
"""Where nothing is taken for missing, NaN counts as 0."""


class _Column(NamedTuple):
    """What the nodes of a block that ask for one feature rule out.

    Attributes
    ----------
    feature
        Its number.
    thresholds
        float64 (nodes + 1,), ascending, infinity at the end: NaN is sorted behind it.
    left
        unsigned (nodes + 2, trees): bits of the leaves that are left when the first so many nodes fail, and in the last
        row when the feature is missing.
    """

    feature: int
    thresholds: NDArray[np.float64]
    left: NDArray[np.unsignedinteger]


class _Block(NamedTuple):
    """Some trees.

    Attributes
    ----------
    columns
        Of each feature that a node asks for.
    leaves
        float64 (trees * bits,): their values, each tree's from left to right.
    starts
        Where each tree's begin.
    """

    columns: list[_Column]
    leaves: NDArray[np.float64]
    starts: NDArray[np.int64]


class Forest:
    """Trees that can be scored by bit vectors; make one with `of`. Scoring changes nothing: threads may share it."""

    def __init__(self, blocks: Sequence[_Block], bits: type[np.uint32] | type[np.uint64]) -> None:
        self._blocks = blocks
        self._bits = bits

    @classmethod
    def of(cls, trees: Trees) -> Forest | None:
        """Forest of a model's trees; None when one asks for something else than an order of numbers.

        That is: splits by category, 0 read as missing, linear leaves, more than 64 leaves, or several outputs, or their
        mean.
        """
        most = max((len(tree.leaves) for tree in trees.trees), default=0)
        if not trees.summed or not 0 < most <= 64 or not all(map(_is_plain, trees.trees)):
            return None
        bits = np.uint32 if most <= 32 else np.uint64
        starts = range(0, len(trees.trees), BLOCK_TREES)
        return cls([_block(trees.trees[start : start + BLOCK_TREES], bits) for start in starts], bits)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores of the rows of `matrix`, float32 (n, features), NaN where missing; float64 (n,)."""
        parts = [self._chunk(matrix[start : start + CHUNK_ROWS]) for start in range(0, len(matrix), CHUNK_ROWS)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _chunk(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        values = np.ascontiguousarray(matrix.T, dtype=np.float64)
        reached = [block.leaves.take(self._leaves(block, values)) for block in self._blocks]
        scores = np.concatenate(reached, axis=1) if len(reached) > 1 else reached[0]
        # One by one, as LightGBM adds them: `sum` would add in pairs, and differ in the last bits.
        total: NDArray[np.float64] = np.add.accumulate(scores, axis=1, out=scores)[:, -1]
        return total

    def _leaves(self, block: _Block, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Place of the leaf in which each row ends in each tree, (rows, trees)."""
        left = np.full((values.shape[1], len(block.starts)), np.iinfo(self._bits).max, self._bits)
        column_left = np.empty_like(left)
        for feature, thresholds, table in block.columns:
            table.take(thresholds.searchsorted(values[feature]), axis=0, out=column_left, mode="clip")
            np.bitwise_and(left, column_left, out=left)
        return _lowest_bit(left) + block.starts


def _lowest_bit(bits: NDArray[np.unsignedinteger]) -> NDArray[np.signedinteger]:
    """Number of the lowest bit that is set: the exponent of the float that has this bit alone."""
    lowest = bits & (~bits + bits.dtype.type(1))
    if bits.dtype == np.uint32:
        return (lowest.astype(np.float32).view(np.int32) >> 23) - 127
    return (lowest.astype(np.float64).view(np.int64) >> 52) - 1023


def _is_plain(tree: Tree) -> bool:
    plain = all(not decision & CATEGORICAL and decision >> 2 in (NOTHING, NAN) for decision in tree.decisions)
    return plain and tree.constant_leaves and all(map(math.isfinite, tree.thresholds))


def _block(trees: Sequence[Tree], bits: type[np.uint32] | type[np.uint64]) -> _Block:
    width = np.iinfo(bits).bits
    leaves = np.zeros((len(trees), width))
    right_of: list[int] = []
    for row, tree in enumerate(trees):
        spans, order = _from_left_to_right(tree)
        leaves[row, order] = tree.leaves
        right_of += [~(((1 << size) - 1) << start) & ((1 << width) - 1) for start, size in spans]
    nodes = _Nodes(
        tree=np.repeat(np.arange(len(trees)), [len(tree.split) for tree in trees]),
        feature=np.array([feature for tree in trees for feature in tree.split], np.int64),
        threshold=np.array([_exact(threshold) for tree in trees for threshold in tree.thresholds]),
        fails_missing=np.array(
            [_fails_missing(*node) for tree in trees for node in zip(tree.thresholds, tree.decisions, strict=True)],
            bool,
        ),
        right_of=np.array(right_of, bits),
    )
    columns = [_column(feature, nodes, len(trees)) for feature in np.unique(nodes.feature).tolist()]
    return _Block(columns, leaves.ravel(), np.arange(len(trees)) * width)


class _Nodes(NamedTuple):
    """All nodes of a block, each an array (nodes,).

    Attributes
    ----------
    right_of
        Bits of all leaves but those on the node's left.
    """

    tree: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    fails_missing: NDArray[np.bool_]
    right_of: NDArray[np.unsignedinteger]


def _column(feature: int, nodes: _Nodes, trees: int) -> _Column:
    mine = np.flatnonzero(nodes.feature == feature)
    mine = mine[np.argsort(nodes.threshold[mine])]
    bits = nodes.right_of
    left = np.full((len(mine) + 2, trees), np.iinfo(bits.dtype).max, bits.dtype)
    left[np.arange(1, len(mine) + 1), nodes.tree[mine]] = bits[mine]
    np.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
    failing = mine[nodes.fails_missing[mine]]
    np.bitwise_and.at(left[-1], nodes.tree[failing], bits[failing])
    return _Column(feature, np.append(nodes.threshold[mine], np.inf), left)


def _from_left_to_right(tree: Tree) -> tuple[list[tuple[int, int]], list[int]]:
    """Of each node the first leaf on its left and how many there are; of each leaf its number from the left."""
    sizes = [1] * len(tree.left)
    for node in range(len(sizes) - 1, -1, -1):  # children before their parents
        sizes[node] = _size(tree.left[node], sizes) + _size(tree.right[node], sizes)
    starts, spans, order = [0] * len(sizes), [], [0] * len(tree.leaves)
    for node, (left, right) in enumerate(zip(tree.left, tree.right, strict=True)):
        size = _size(left, sizes)
        spans.append((starts[node], size))
        for child, start in ((left, starts[node]), (right, starts[node] + size)):
            if child < 0:
                order[~child] = start
            else:
                starts[child] = start
    return spans, order


def _size(child: int, sizes: Sequence[int]) -> int:
    return 1 if child < 0 else sizes[child]


def _exact(threshold: float) -> float:
    """Threshold that parts values as they are, where LightGBM parts them with those near 0 taken for 0."""
    if 0 <= threshold < ZERO:
        return ZERO
    return math.nextafter(-ZERO, -math.inf) if -ZERO <= threshold < 0 else threshold


def _fails_missing(threshold: float, decision: int) -> bool:
    """Whether a row without the feature goes right."""
    return not decision & DEFAULT_LEFT if decision >> 2 == NAN else not threshold >= 0
