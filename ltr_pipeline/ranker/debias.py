"""Ways to take position bias out of training: LightGBM's own, or weights by what exploration's coins tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.coins import coin_pairs
from ltr_pipeline.metrics.unbiased import Examination, curve
from ltr_pipeline.ranker.data import TrainingData

__all__ = ["Debias", "examination", "weights"]

Debias: TypeAlias = bool | Literal["coins"]
"""True: LightGBM estimates position bias beside the trees; ``coins``: answers are weighted; False: neither."""

_HEAVIEST: Final = 10.0  # a single answer far down says too little to outweigh more


def examination(train: TrainingData) -> list[Examination]:
    """Estimate how much each rank is looked at from the coin pairs among the training rows; empty with too few."""
    if train.position is None or train.propensity is None:
        return []
    pairs = coin_pairs(train.group, train.position, train.propensity)
    return curve(pairs, train.relevance, np.arange(len(train.group)))


def weights(data: TrainingData, looked_at: Sequence[Examination]) -> NDArray[np.float32] | None:
    """Weigh each answered row by the inverse of how much its position is looked at (Joachims et al. 2017).

    Rows without an answer weigh 1, as does an answer at rank 1. Ranks below the curve's last count as that one.

    Returns
    -------
    float32 (n,); None without a curve or positions.
    """
    if not looked_at or data.position is None:
        return None
    inverse = np.array([min(1 / each.value, _HEAVIEST) for each in looked_at], np.float32)
    at = np.minimum(data.position, len(inverse)) - 1
    return np.where(data.relevance > 0, inverse[at], np.float32(1))
