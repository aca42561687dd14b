"""Scores a request once more by the model in use and by the one before it, to see which is slower, and by how much."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.serving.weights.models import Loaded

__all__ = ["REST", "is_slow"]

CANDIDATES: Final = 100
"""Most candidates that are scored once more; longer lists are taken to cost in proportion."""

TWICE: Final = 2.0
"""Smaller ratios are the machine's business."""

TRIES: Final = 2
"""Each model scores so often, in turns, and its best time counts."""

REST: Final = 20
"""A comparison is followed by so many times its own time without one: it takes a twentieth of a core at most."""


def is_slow(model: Loaded, former: Loaded, candidates: Sequence[Candidate], *, limit: float, deadline: float) -> bool:
    """Return whether a model takes too long to score a list that the model before it scores in time.

    That is longer than the `limit` and more than twice as long as the former one, and that not because it has more
    trees: also per candidate and tree, unless it is over the `deadline`, so that linear weights would rank.

    Parameters
    ----------
    candidates
        The list.
    limit, deadline
        Seconds for the whole list.
    """
    some = candidates[:CANDIDATES]
    own, other = (each.scorer.read(some).matrix for each in (model, former))
    times = [(_seconds(model, own), _seconds(former, other)) for _ in range(TRIES)]
    scale = len(candidates) / len(some)
    mine = scale * min(first for first, _ in times)
    theirs = scale * min(second for _, second in times)
    if mine <= limit or mine <= TWICE * theirs:
        return False
    slow_trees = mine * former.scorer.trees > TWICE * theirs * model.scorer.trees
    return slow_trees or theirs <= deadline < mine


def _seconds(model: Loaded, matrix: NDArray[np.float32]) -> float:
    start = time.perf_counter()
    model.scorer.score(matrix)
    return time.perf_counter() - start
