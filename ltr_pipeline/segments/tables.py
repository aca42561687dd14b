"""Tables of segments: in ``config`` people write, in SQL if they like, in ``analytics`` training and classifying do.

In SQLite, which has no schemas, they begin the names: ``config_segment_levels``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    insert,
)
from sqlalchemy.dialects.postgresql import JSONB

from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import Statement, Tables
from ltr_pipeline.database.types import Utc
from ltr_pipeline.segments.parameters import LANGUAGE, WORDING, default_levels

__all__ = ["CUBE", "LABELS", "LEVELS", "MODELS", "PARAMETERS", "TABLES", "WORDS"]

_METADATA = MetaData()
_JSON = Text().with_variant(JSONB(), "postgresql")

PARAMETERS: Final = Table(
    "segment_parameters",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("granularity", String, nullable=False),
    Column("periods", Integer, nullable=False),
    Column("until", Date),
    Column("language", String, nullable=False),
    CheckConstraint("id = 1", name="segment_parameters_one_row"),
    schema="config",
)
"""One row: which periods are looked at, and the language of the cube's labels."""

LEVELS: Final = Table(
    "segment_levels",
    _METADATA,
    Column("level", String, primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("k", Integer, nullable=False),
    Column("features", Text, nullable=False),
    Column("weights", Text, nullable=False),
    schema="config",
)
"""A level each: whether it is active, its number of segments, its features and their weights, the last two as JSON."""

WORDS: Final = Table(
    "segment_labels",
    _METADATA,
    Column("language", String, nullable=False),
    Column("place", Integer, nullable=False),
    Column("label", String, nullable=False),
    PrimaryKeyConstraint("language", "place"),
    schema="config",
)
"""Words for segments; place 1 is the most engaged."""

MODELS: Final = Table(
    "segment_models",
    _METADATA,
    Column("level", String, nullable=False),
    Column("version", Integer, nullable=False, autoincrement=False),
    Column("in_use", Boolean, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("model", _JSON, nullable=False),
    Column("former_version", Integer),
    Column("ari", Float),
    Column("kept_label", Float),
    Column("old_to_new", Text, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("level", "version"),
    schema="analytics",
)
"""Every model, which one of its level is in use, and how it compares with the one before."""

LABELS: Final = Table(
    "mapeamento_labels_engajamento",
    _METADATA,
    Column("level", String, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("language", String, nullable=False),
    Column("centroid_id", Integer, nullable=False),
    Column("label", String, nullable=False),
    PrimaryKeyConstraint("level", "model_version", "language", "centroid_id"),
    schema="analytics",
)
"""The label of each centroid of each model: what classifying joins."""

CUBE: Final = Table(
    "cubo_engajamento",
    _METADATA,
    Column("level", String, nullable=False),
    Column("entity", String, nullable=False),
    Column("granularity", String, nullable=False),
    Column("period", Date, nullable=False),
    Column("centroid_id", Integer, nullable=False),
    Column("label", String, nullable=False),
    Column("features", _JSON, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("classified_at", Utc, nullable=False),
    PrimaryKeyConstraint("level", "entity", "granularity", "period"),
    Index("cubo_engajamento_period", "level", "period", "label"),
    schema="analytics",
)
"""The segment of each entity in each period, which begins on the day ``period``."""


def _first_rows(database: Database) -> Iterator[Statement]:
    parameters = {"id": 1, "granularity": "week", "periods": 4, "until": None, "language": LANGUAGE}
    yield insert(database.table(PARAMETERS)).values(parameters)
    for level in default_levels():
        features, weights = json.dumps(level.features), json.dumps(level.weights)
        row = {"level": level.level, "active": True, "k": level.k, "features": features, "weights": weights}
        yield insert(database.table(LEVELS)).values(row)
    for language, words in WORDING.items():
        for place, label in enumerate(words, 1):
            yield insert(database.table(WORDS)).values(language=language, place=place, label=label)


TABLES: Final = Tables(name="segments", metadata=_METADATA, rows=_first_rows)
