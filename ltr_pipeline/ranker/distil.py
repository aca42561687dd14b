"""The fallback: a linear ranker distilled from the trained one."""

from __future__ import annotations

from typing import Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.ranker.data import TrainingData

__all__ = ["linear_weights"]

_DISTILLED_ROWS: Final = 20_000
_WEIGHT_DECIMALS: Final = 6


def linear_weights(booster: lgb.Booster, data: TrainingData) -> dict[str, float]:
    """Distil the model into the non-negative linear ranker that comes closest: weights that sum to 1, by feature.

    Non-negative least squares of the scores on the features (missing = 0), both centred in each ranking since only
    differences inside a ranking matter, on about 20,000 evenly spread rows. Six decimals; more would be noise.
    All equal when no feature has a positive effect.
    """
    group, rows = _sample(data.group, _DISTILLED_ROWS)
    features = np.nan_to_num(data.features[rows].astype(np.float64), nan=0.0)
    scores = np.asarray(booster.predict(data.features[rows], raw_score=True))
    table = _centred(np.column_stack([features, scores]), group)
    triangle = np.asarray(np.linalg.qr(table, mode="r"))  # the same problem in few rows
    weights, _ = nnls(triangle[:, :-1], triangle[:, -1])
    if not weights.sum() > 0:
        weights = np.ones(len(weights))
    shares = (weights / weights.sum()).round(_WEIGHT_DECIMALS)
    top = shares.argmax()
    shares[top] = round(1 - np.delete(shares, top).sum(), _WEIGHT_DECIMALS)
    return dict(zip(data.feature_names, shares.tolist(), strict=True))


def _sample(group: NDArray[np.int32], rows: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Choose every n-th ranking; return their row counts and the indices of their rows."""
    step = -(-int(group.sum()) // rows)
    chosen = np.zeros(len(group), dtype=bool)
    chosen[::step] = True
    return group[chosen], np.flatnonzero(np.repeat(chosen, group))


def _centred(table: NDArray[np.float64], group: NDArray[np.int32]) -> NDArray[np.float64]:
    means = np.add.reduceat(table, starts(group), axis=0) / group[:, None]
    return np.asarray(table - np.repeat(means, group, axis=0))
