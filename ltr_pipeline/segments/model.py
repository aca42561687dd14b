"""A trained segmentation: plain numbers that any program can read, and the distances that assign by it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.errors import SegmentError
from ltr_pipeline.segments.engagement import FEATURES
from ltr_pipeline.segments.labels import words
from ltr_pipeline.segments.parameters import LevelParameters, Parameters
from ltr_pipeline.segments.periods import Granularity

__all__ = ["OLD_AFTER", "SegmentModel", "decoded", "encoded", "notices"]

OLD_AFTER: Final = dt.timedelta(days=90)
"""Age from which on a model is said to be old."""

_CHUNK: Final = 2**14  # rows whose distances are held at once

Floats = NDArray[np.float64]


class SegmentModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scaler and centroids of one level, and what they were made of.

    A feature x is scaled to (log(1 + x) − center) / scale: the median and the distance between the quartiles of the
    training rows, which a few very active entities do not move.

    Attributes
    ----------
    level, features, weights
        As in `LevelParameters`.
    granularity
        Length of the periods it was trained on; it says nothing about others.
    center, scale
        Of each feature, in log units.
    centroids
        Scaled, k rows, the most engaged first: the index of a row is its ``centroid_id``.
    labels
        Words of each centroid, by language.
    start, end
        The days it was trained on, ``[start, end)``.
    rows, entities
        What they held.
    silhouette
        Mean silhouette of (at most 2,000 of) its rows, from −1 to 1 (Rousseeuw 1987).
    created_at
        UTC.
    """

    level: str
    granularity: Granularity
    features: tuple[str, ...]
    weights: dict[str, float]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]
    labels: dict[str, tuple[str, ...]]
    start: dt.date
    end: dt.date
    rows: int
    entities: int
    silhouette: float | None
    created_at: dt.datetime

    def __post_init__(self) -> None:
        if problems := "; ".join(self._problems()):
            raise SegmentError(f"the model of level {self.level} is not whole: {problems}; train it again")

    def _problems(self) -> Iterator[str]:
        width = len(self.features)
        if unknown := sorted(set(self.features) - set(FEATURES)):
            yield f"it needs {', '.join(unknown)}, which nothing counts"
        if not width or len(self.center) != width or len(self.scale) != width:
            yield f"it has {width} features, {len(self.center)} centers and {len(self.scale)} scales"
        elif any(len(row) != width for row in self.centroids):
            yield f"not every centroid has {width} features"
        elif not all(np.isfinite([*self.center, *self.scale, *(value for row in self.centroids for value in row)])):
            yield "not every number is finite"
        if not all(scale > 0 for scale in self.scale):
            yield "not every scale is above 0"
        if not self.centroids or any(len(words) != self.k for words in self.labels.values()):
            yield f"it has {self.k} centroids, and not as many labels"

    @property
    def k(self) -> int:
        """Number of segments."""
        return len(self.centroids)

    def scaled(self, table: pl.DataFrame) -> Floats:
        """Return the scaled features of the rows of a table that has `features`; float64 (rows, features).

        Raises
        ------
        SegmentError
            A feature is missing, negative or not finite somewhere.
        """
        found: Floats = (logs(table, self.features, self.level) - np.array(self.center)) / np.array(self.scale)
        return found

    def assign(self, table: pl.DataFrame) -> NDArray[np.int64]:
        """Return the centroid nearest to each row, int64 (rows,); of equally near ones the most engaged.

        Raises
        ------
        SegmentError
            As `scaled`.
        """
        return nearest(self.scaled(table), np.array(self.centroids))

    def typical(self) -> list[dict[str, float]]:
        """Return what an entity at each centroid does in a period, by feature: the scaling undone."""
        undone = np.expm1(np.array(self.centroids) * np.array(self.scale) + np.array(self.center))
        return [dict(zip(self.features, row, strict=True)) for row in undone.clip(min=0).round(2).tolist()]


def logs(table: pl.DataFrame, features: tuple[str, ...], level: str) -> Floats:
    """Return log(1 + x) of the features of a table, float64 (rows, features)."""
    rows = table.select(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in features).to_numpy()
    wrong = ~(np.isfinite(rows) & (rows >= 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise SegmentError(
            f"level {level}: {features[column]} of {wrong.any(axis=1).sum():,} rows is missing or no count, the first "
            f"{rows[row, column]}; take the feature out of config.segment_levels, or mend what it is counted from"
        )
    found: Floats = np.log1p(rows)
    return found


def nearest(rows: Floats, centroids: Floats) -> NDArray[np.int64]:
    """Return the index of the centroid nearest to each row by Euclidean distance, the first of equally near ones.

    |x − c|² is summed feature by feature, in chunks: the shorter |x|² − 2xc + |c|² loses digits where rows lie far out.
    """
    found = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = np.zeros((len(rows[part]), len(centroids)))
        for column in range(rows.shape[1]):
            distance += (rows[part, column, None] - centroids[None, :, column]) ** 2
        found[part] = distance.argmin(axis=1)
    return found


def notices(model: SegmentModel, level: LevelParameters, parameters: Parameters, now: dt.datetime) -> list[str]:
    """Say what speaks for training again: parameters that changed since, and age; nothing where the model is current.

    It compares what the model was trained by with what is configured, and not when either was written, because whoever
    edits a table in SQL seldom notes the time.
    """
    trained = {
        "granularity": model.granularity,
        "k": model.k,
        "features": sorted(model.features),
        "weights": _told(model.weights),
        "labels": _said(model.labels),
    }
    wanted = {
        "granularity": parameters.granularity,
        "k": level.k,
        "features": sorted(level.features),
        "weights": _told(level.weights),
        "labels": _said(words(level.k, parameters.wording)),
    }
    changed = [f"{name} {trained[name]} → {wanted[name]}" for name in trained if trained[name] != wanted[name]]
    age = now - model.created_at
    return [
        *(
            [f"the parameters of level {model.level} are newer than its model: {', '.join(changed)}; {_TRAIN}"]
            if changed
            else []
        ),
        *([f"the model of level {model.level} is {age.days} days old; {_TRAIN}"] if age > OLD_AFTER else []),
    ]


_TRAIN: Final = "`ltr segments train` makes a new one"


def _told(weights: dict[str, float]) -> dict[str, float]:
    return {name: weight for name, weight in sorted(weights.items()) if weight}


def _said(labels: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {language: list(said) for language, said in sorted(labels.items())}


def encoded(model: SegmentModel) -> str:
    """Return a model as JSON text."""
    return msgspec.json.encode(model).decode()


def digest(model: SegmentModel) -> str:
    """Return the SHA-256 of a model, whatever the database made of the order in its JSON."""
    return hashlib.sha256(msgspec.json.encode(model, order="deterministic")).hexdigest()


def decoded(text: str, where: str) -> SegmentModel:
    """Read a model.

    Raises
    ------
    SegmentError
        The text is no model, or not a whole one.
    """
    try:
        return msgspec.json.decode(text, type=SegmentModel)
    except msgspec.DecodeError as error:
        raise SegmentError(f"{where} is no model of segments: {error}; train it again") from error
