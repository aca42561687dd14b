"""The nodes and leaves of all trees as arrays, for what scores them by bit vectors (`forest`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.resting import rest_if_due
from ltr_pipeline.scoring.trees import Tree

__all__ = ["CATEGORICAL", "NAN", "NOTHING", "Bits", "Nodes", "masks_and_leaves", "nodes_of"]

ZERO: Final = float(np.float32(1e-35))
"""LightGBM treats values up to this as 0 (its ``kZeroThreshold``)."""

CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
"""Bits of a node's decision; the bits above them say what the node takes for missing."""

NOTHING, NAN = 0, 2
"""Values that a node takes for missing; where there are none, NaN counts as 0."""

Bits = np.uint32 | np.uint64


class Nodes(NamedTuple):
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


def nodes_of(trees: Sequence[Tree]) -> Nodes:
    """Put the nodes of all trees side by side."""
    thresholds = np.array([threshold for tree in trees for threshold in tree.thresholds])
    decisions = np.array([decision for tree in trees for decision in tree.decisions], np.int64)
    return Nodes(
        tree=np.repeat(np.arange(len(trees)), [len(tree.split) for tree in trees]),
        feature=np.array([feature for tree in trees for feature in tree.split], np.int64),
        threshold=_exact(thresholds),
        fails_missing=_fails_missing(thresholds, decisions),
    )


def masks_and_leaves(trees: Sequence[Tree], bits: type[Bits]) -> tuple[NDArray[Bits], NDArray[np.float64]]:
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
