"""Trees scored by bit vectors, all trees at once: QuickScorer (Lucchese et al., SIGIR 2015).

Number the leaves of a tree from left to right. A node tests ``value <= threshold``; when the test fails, the row cannot
end in a leaf on the node's left. The leaf that a row does end in is the leftmost one that no failing node rules out.

Take the nodes of all trees that ask for one feature and sort them by threshold. For any value of the feature the nodes
that fail are the first few. So no tree is walked down: feature by feature, the failing nodes rule leaves out.

`kernel` does this in C for many rows at once; `tables` does it in numpy, where nobody compiled the kernel. The scores
of both are those of LightGBM to the last bit; ``benchmarks/scoring.py`` says how long they take.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.kernel import Compiled, Kernel
from ltr_pipeline.scoring.nodes import CATEGORICAL, NAN, NOTHING
from ltr_pipeline.scoring.tables import Tables
from ltr_pipeline.scoring.trees import Tree, Trees

__all__ = ["Forest"]


class Forest:
    """Trees that can be scored by bit vectors; make one with `of`. Scoring changes nothing: threads may share it."""

    def __init__(self, trees: int, way: Compiled | Tables) -> None:
        self._trees = trees
        self._way = way

    @classmethod
    def of(cls, trees: Trees, kernel: Kernel | None) -> Forest | None:
        """Make the forest of a model's trees, or return None when bit vectors cannot score it.

        They cannot score splits by category, 0 read as missing, linear leaves, more than 64 leaves, several outputs
        or the mean of several trees; and without a `kernel` nothing whose tables would take too much memory.
        """
        most = max((len(tree.leaves) for tree in trees.trees), default=0)
        if not trees.summed or not 0 < most <= 64 or not all(map(_is_plain, trees.trees)):
            return None
        bits = np.uint32 if most <= 32 else np.uint64
        way = Compiled(trees.trees, bits, kernel) if kernel else Tables.of(trees.trees, bits)
        return cls(len(trees.trees), way) if way else None

    def pays(self, rows: int) -> bool:
        """Return whether so many rows are scored faster than by LightGBM."""
        return rows * self._trees >= self._way.FEWEST

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the raw scores of the rows of `matrix`, float32 (n, features), NaN where missing; float64 (n,)."""
        return self._way.score(matrix)


def _is_plain(tree: Tree) -> bool:
    plain = all(not decision & CATEGORICAL and decision >> 2 in (NOTHING, NAN) for decision in tree.decisions)
    return plain and tree.constant_leaves and all(map(math.isfinite, tree.thresholds))
