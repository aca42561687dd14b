"""The fallback: linear rankers distilled from the trained one."""

from __future__ import annotations

from typing import Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.ranker.data import TrainingData
from ltr_pipeline.scoring.linear import Linear

__all__ = ["distilled"]

_DISTILLED_ROWS: Final = 20_000
_DECIMALS: Final = 6  # more would be noise

Floats = NDArray[np.float64]


def distilled(booster: lgb.Booster, data: TrainingData) -> tuple[Linear, dict[str, float]]:
    """Distil the model into the two linear rankers that come closest to its scores.

    Both are least-squares fits of the scores on the features, centred in each ranking since only differences inside a
    ranking matter, on about 20,000 evenly spread rows.

    Returns
    -------
    linear
        Signed weights of standardised features, to which a missing one adds nothing.
    shares
        Weights that are not negative and sum to 1, by feature, to which a missing one is 0; all equal when no feature
        has a positive effect.
    """
    group, rows = _sample(data.group, _DISTILLED_ROWS)
    features = data.features[rows].astype(np.float64)
    scores = np.asarray(booster.predict(data.features[rows], raw_score=True))
    return _standardised(features, scores, group, data), _shares(features, scores, group, data)


def _standardised(features: Floats, scores: Floats, group: NDArray[np.int32], data: TrainingData) -> Linear:
    known = ~np.isnan(features)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, features, 0.0)
    means = filled.sum(axis=0) / count
    off = np.where(known, filled - means, 0.0)
    scales = np.sqrt((off * off).sum(axis=0) / count)
    scales[scales == 0] = 1.0  # all alike: it has no effect whatever its weight
    triangle = _triangle(np.column_stack([off / scales, scores]), group)
    weights = np.asarray(np.linalg.lstsq(triangle[:, :-1], triangle[:, -1])[0], dtype=np.float64)
    return Linear(weights=_named(weights, data), means=_named(means, data), scales=_named(scales, data))


def _named(values: Floats, data: TrainingData) -> dict[str, float]:
    digits = [float(f"{value:.{_DECIMALS}g}") for value in values]
    return dict(zip(data.feature_names, digits, strict=True))


def _shares(features: Floats, scores: Floats, group: NDArray[np.int32], data: TrainingData) -> dict[str, float]:
    triangle = _triangle(np.column_stack([np.nan_to_num(features, nan=0.0), scores]), group)
    weights, _ = nnls(triangle[:, :-1], triangle[:, -1])
    if not weights.sum() > 0:
        weights = np.ones(len(weights))
    shares = (weights / weights.sum()).round(_DECIMALS)
    top = shares.argmax()
    shares[top] = round(1 - np.delete(shares, top).sum(), _DECIMALS)
    return dict(zip(data.feature_names, shares.tolist(), strict=True))


def _triangle(table: Floats, group: NDArray[np.int32]) -> Floats:
    """Return the same least-squares problem in few rows, centred in each ranking."""
    means = np.add.reduceat(table, starts(group), axis=0) / group[:, None]
    return np.asarray(np.linalg.qr(table - np.repeat(means, group, axis=0), mode="r"))


def _sample(group: NDArray[np.int32], rows: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Choose every n-th ranking; return their row counts and the indices of their rows."""
    step = -(-int(group.sum()) // rows)
    chosen = np.zeros(len(group), dtype=bool)
    chosen[::step] = True
    return group[chosen], np.flatnonzero(np.repeat(chosen, group))
