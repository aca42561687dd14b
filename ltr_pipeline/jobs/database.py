"""All tables of this package in people's database: created, upgraded, and held against what this release needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ltr_pipeline.batch.tables import TABLES as BATCH
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import Tables, pending, upgrade
from ltr_pipeline.segments.tables import TABLES as SEGMENTS
from ltr_pipeline.settings import Settings

__all__ = ["TABLES", "init"]

TABLES: Final[Sequence[Tables]] = (BATCH, SEGMENTS)
"""The tables of every room; a room with tables of its own adds them here."""


def init(settings: Settings, *, dry_run: bool = False) -> list[str]:
    """Create and upgrade our tables, and return the statements that did, or with `dry_run` would do it.

    Raises
    ------
    DatabaseError
        The database cannot be had, refuses a statement, or has tables of a newer release.
    """
    with Database(settings.database) as database:
        return pending(database, TABLES) if dry_run else upgrade(database, TABLES)
