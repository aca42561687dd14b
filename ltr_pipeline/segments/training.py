"""Training: K-Means on scaled engagement. Only here is scikit-learn imported, and only when a model is trained."""

from __future__ import annotations

import datetime as dt
import warnings
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.errors import SegmentError
from ltr_pipeline.segments.engagement import ENTITY
from ltr_pipeline.segments.labels import engagement_order, words
from ltr_pipeline.segments.model import SegmentModel, logs
from ltr_pipeline.segments.parameters import LevelParameters, Parameters
from ltr_pipeline.segments.periods import Period

__all__ = ["TRAINED_ROWS", "train"]

TRAINED_ROWS: Final = 100_000
"""Rows that K-Means sees at most, drawn at random: more move no centroid and cost time."""

_STARTS: Final = 10  # of K-Means, of which the best is kept
_SILHOUETTE_ROWS: Final = 2_000  # its distances are quadratic
_DECIMALS: Final = 9  # of centroids and scaler; more would be noise

Floats = NDArray[np.float64]


def train(
    engagement: pl.DataFrame,
    level: LevelParameters,
    parameters: Parameters,
    periods: list[Period],
    *,
    seed: int,
    now: dt.datetime,
) -> SegmentModel:
    """Fit the segments of a level, and name them by their order.

    Features are log(1 + x), because counts are skewed, then scaled by median and quartiles. K-Means (Lloyd 1982, with
    k-means++ starts) puts ``level.k`` centroids among them, and the declared weighted score of these gives each its
    label: names come after the centroids, never before.

    Parameters
    ----------
    engagement
        As `engagement.by_period` gives it.
    periods
        What it was counted in.

    Raises
    ------
    SegmentError
        There is no row, a feature is the same in all rows or is not finite, or the rows differ in fewer than k ways.
    """
    where = f"level {level.level}"
    if engagement.is_empty():
        raise SegmentError(f"{where}: nothing landed from {periods[0].start} to {periods[-1].end} names one")
    rows = logs(engagement, level.features, where)
    _check(rows, level, where)
    center, scale = _scaler(rows)
    scaled = (rows - center) / scale
    rng = np.random.default_rng(seed)
    if len(scaled) > TRAINED_ROWS:
        scaled = scaled[np.sort(rng.choice(len(scaled), TRAINED_ROWS, replace=False))]
    centroids, silhouette = _fit(scaled, level.k, seed)
    order = engagement_order(centroids, level.features, level.weights)
    labels = words(level.k, parameters.wording)
    return SegmentModel(
        level=level.level,
        granularity=parameters.granularity,
        features=level.features,
        weights=dict(level.weights),
        center=_digits(center),
        scale=_digits(scale),
        centroids=tuple(_digits(row) for row in centroids[order]),
        labels={language: tuple(said) for language, said in labels.items()},
        start=periods[0].start,
        end=periods[-1].end,
        rows=len(engagement),
        entities=engagement[ENTITY].n_unique(),
        silhouette=silhouette,
        created_at=now,
    )


def _check(rows: Floats, level: LevelParameters, where: str) -> None:
    constant = [name for name, column in zip(level.features, rows.T, strict=True) if column.min() == column.max()]
    if constant:
        raise SegmentError(
            f"{where}: {', '.join(constant)} is the same in all {len(rows):,} rows and tells nobody apart; take it out "
            "of features and weights in config.segment_levels"
        )
    distinct = len(np.unique(rows, axis=0))
    if distinct < level.k:
        raise SegmentError(
            f"{where}: its {len(rows):,} rows differ in {distinct} ways only, too few for k = {level.k} segments; "
            "lower k in config.segment_levels, or look at more periods"
        )


def _scaler(rows: Floats) -> tuple[Floats, Floats]:
    """Return center and scale of each feature: median, and the distance between the quartiles.

    Where more than half of the rows are alike there is no such distance; the standard deviation stands in.
    """
    low, center, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    return center, np.where(high > low, high - low, rows.std(axis=0))


def _fit(scaled: Floats, k: int, seed: int) -> tuple[Floats, float | None]:
    """Return the centroids, float64 (k, features), and the mean silhouette of a sample; None where that has none."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ModuleNotFoundError as error:
        raise SegmentError(
            f"training segments needs {error.name}: pip install 'ltr-pipeline[segments]'; classifying does without"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct clusters than k is checked for before
        kmeans = KMeans(n_clusters=k, n_init=_STARTS, random_state=seed).fit(scaled)
    few = np.random.default_rng(seed).permutation(len(scaled))[:_SILHOUETTE_ROWS]
    found = len(np.unique(kmeans.labels_[few]))
    silhouette = float(silhouette_score(scaled[few], kmeans.labels_[few])) if 2 <= found < len(few) else None
    return np.asarray(kmeans.cluster_centers_, dtype=np.float64), silhouette


def _digits(values: Floats) -> tuple[float, ...]:
    return tuple(values.round(_DECIMALS).tolist())
