"""The domain classifier: how well a model tells the rows of a day from those of a reference, by all features at once.

It sees what no single feature shows, such as two features that go together now and did not before. Each person's rows
are in one fold, so that it cannot know anybody again. A feature that is the same in all rows of a list gains by chance
as much as its lists are long; a split by it counts for less, by the square of the design effect, so that such features
do not drown the others.
"""

from __future__ import annotations

from typing import Any, Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.auc import area_under_curve
from ltr_pipeline.monitoring.records import DomainDrift, Figure

__all__ = ["MOST_CURRENT", "MOST_REFERENCE", "domain_drift", "some_clusters"]

MOST_REFERENCE: Final = 10_000
MOST_CURRENT: Final = 5_000
"""Rows above which whole clusters are drawn: more would take longer and tell hardly more."""

FOLDS: Final = 5
ROUNDS: Final = 25
LEADING: Final = 5
"""How many of the features that tell both apart are named."""

_PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.3,
    "num_leaves": 8,
    "min_data_in_leaf": 200,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
    "verbose": -1,
}


def domain_drift(
    name: str,
    reference: NDArray[np.float32],
    current: NDArray[np.float32],
    asker: NDArray[np.int64],
    features: list[str],
    *,
    design: NDArray[np.float64],
    seed: int,
) -> DomainDrift:
    """Train the classifier on all folds but one, for each of them, and measure it on that.

    Parameters
    ----------
    name
        Of the reference.
    reference, current
        float32 (n, features) and (m, features), NaN = missing.
    asker
        Who each row was shown to, or else its list, int64 (n + m,): the same number for the same person in both.
    features
        Names of the columns.
    design
        Design effect of each column, at least 1, float64 (features,).
    seed
        Of the folds.
    """
    matrix, known = np.concatenate([reference, current]), np.arange(len(reference) + len(current)) >= len(reference)
    people, place = np.unique(asker, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(len(people)) % FOLDS)[place]
    parameters = _PARAMETERS | {"feature_contri": (1 / np.maximum(design, 1.0) ** 2).tolist()}
    every = lgb.Dataset(matrix, label=known.astype(np.float32), params=parameters, free_raw_data=False)
    every.construct()
    scores, gain = np.zeros(len(matrix)), np.zeros(len(features))
    for one in range(FOLDS):
        learned = np.flatnonzero(fold != one)
        if known[learned].any() and not known[learned].all():
            booster = lgb.train(parameters, every.subset(learned.tolist()), num_boost_round=ROUNDS)
            scores[fold == one] = np.asarray(booster.predict(matrix[fold == one], num_threads=1))
            gain += booster.feature_importance("gain")
    area = area_under_curve(scores, known, place, fold)
    return DomainDrift(
        reference=name,
        auc=Figure(
            value=None if np.isnan(area.value) else area.value,
            low=area.interval.low if area.interval else None,
            high=area.interval.high if area.interval else None,
            n=len(matrix),
        ),
        leading=_leading(features, gain),
    )


def _leading(features: list[str], gain: NDArray[np.float64]) -> dict[str, float]:
    total = gain.sum()
    order = np.argsort(-gain, kind="stable")[:LEADING]
    return {features[place]: float(gain[place] / total) for place in order if gain[place] > 0}


def some_clusters(cluster: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of whole clusters, drawn at random until there are `most` or nearly, in their order.

    All of them where they are no more than that; at least one cluster.

    >>> some_clusters(np.array([7, 7, 3, 3]), 2, seed=1).tolist() in ([0, 1], [2, 3])
    True
    """
    if len(cluster) <= most:
        return np.arange(len(cluster))
    _, place = np.unique(cluster, return_inverse=True)
    sizes = np.bincount(place)
    order = np.random.default_rng(seed).permutation(len(sizes))
    kept = order[: max(int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")), 1)]
    return np.flatnonzero(np.isin(place, kept))
