"""Outcomes of training, classifying and showing segments, as records and in sentences."""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec
import polars as pl

from ltr_pipeline.segments.comparison import Comparison
from ltr_pipeline.segments.engagement import PERIOD
from ltr_pipeline.segments.model import digest
from ltr_pipeline.segments.store import CubeRow, Stored

__all__ = [
    "REPLACE",
    "Classified",
    "ClassifiedLevel",
    "Shown",
    "ShownLevel",
    "TrainedLevel",
    "agrees",
    "classified",
    "shown",
    "trained",
]


REPLACE: Final = "; if that is what you want, `ltr segments train --replace`"
"""How the sentence ends about a model that is not in use, for those who train by hand."""


class TrainedLevel(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of training a level.

    Attributes
    ----------
    version
        Of the new model.
    in_use
        Whether it classifies from now on.
    comparison
        With the model in use before; None where it is the first.
    said
        That in a sentence.
    sha256
        Of the new model, as it is stored.
    """

    level: str
    version: int
    in_use: bool
    entities: int
    rows: int
    silhouette: float | None
    labels: tuple[str, ...]
    comparison: Comparison | None
    said: str
    seconds: float
    sha256: str = ""


class ClassifiedLevel(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of classifying a level.

    Attributes
    ----------
    periods, newest
        How many there are in the cube, and the first day of the newest.
    rows
        Of the cube.
    segments
        Entities with each label in the newest period.
    """

    level: str
    granularity: str
    model_version: int
    periods: int
    newest: dt.date
    rows: int
    segments: dict[str, int]


class Classified(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of classifying.

    Attributes
    ----------
    notices
        What speaks for training again.
    left_out
        Rows of entities whose ids hold NUL, which PostgreSQL cannot keep.
    """

    levels: list[ClassifiedLevel]
    notices: list[str]
    rows: int
    left_out: int
    seconds: float


class ShownLevel(msgspec.Struct, frozen=True, kw_only=True):
    """A level of the cube, its model, and what a typical entity of each segment does in a period."""

    level: str
    version: int | None
    trained_at: dt.datetime | None
    silhouette: float | None
    typical: list[dict[str, float]]
    rows: list[CubeRow]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The cube, level by level, and what speaks for training again."""

    levels: list[ShownLevel]
    notices: list[str]


def agrees(comparison: Comparison | None) -> bool:
    """Tell whether a new model may take the place of the former one, or is the first."""
    return comparison is None or not comparison.reason


def trained(
    stored: Stored, comparison: Comparison | None, *, language: str, seconds: float, replace: bool
) -> TrainedLevel:
    """Tell what came of training a level; `stored` is as the database has it."""
    model = stored.model
    return TrainedLevel(
        level=model.level,
        version=stored.version,
        in_use=replace or agrees(comparison),
        entities=model.entities,
        rows=model.rows,
        silhouette=model.silhouette,
        labels=model.labels[language],
        comparison=comparison,
        said=_said(stored, comparison, replace=replace),
        seconds=seconds,
        sha256=digest(model),
    )


def classified(stored: Stored, table: pl.DataFrame) -> ClassifiedLevel:
    """Tell what came of classifying a level, from its part of the cube."""
    periods = table[PERIOD].unique().sort()
    newest = table.filter(pl.col(PERIOD) == periods[-1])
    counted = newest.group_by("label").agg(pl.len(), pl.col("centroid_id").min()).sort("centroid_id")
    return ClassifiedLevel(
        level=stored.model.level,
        granularity=stored.model.granularity,
        model_version=stored.version,
        periods=len(periods),
        newest=periods[-1],
        rows=table.height,
        segments=dict(zip(counted["label"], counted["len"], strict=True)),
    )


def shown(level: str, stored: Stored | None, rows: list[CubeRow]) -> ShownLevel:
    """Tell a level of the cube, and what is typical for each segment."""
    model = stored.model if stored else None
    return ShownLevel(
        level=level,
        version=stored.version if stored else None,
        trained_at=model.created_at if model else None,
        silhouette=model.silhouette if model else None,
        typical=model.typical() if model else [],
        rows=rows,
    )


def _said(stored: Stored, comparison: Comparison | None, *, replace: bool) -> str:
    new = f"model {stored.version} of level {stored.model.level}"
    if comparison is None:
        return f"{new} is the first, and in use"
    former = f"model {comparison.former}"
    kept = "" if comparison.kept_label is None else f"; {100 * comparison.kept_label:.0f} % keep their label"
    if not comparison.reason:
        return f"{new} is in use: its agreement with {former} (ARI) is {comparison.ari:.3f}{kept}"
    if replace:
        return f"{new} is in use as asked, though {comparison.reason}{kept}"
    return (
        f"{former} of level {stored.model.level} stays in use, and model {stored.version} is kept beside it: "
        f"{comparison.reason}{kept}{REPLACE}"
    )
