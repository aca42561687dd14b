"""All tables of this package in people's database: created, upgraded, and held against what this release needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from ltr_pipeline.batch.job import RankJob, load_jobs
from ltr_pipeline.batch.rank import look as look_at_candidates
from ltr_pipeline.batch.tables import TABLES as BATCH
from ltr_pipeline.batch.target import Target
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import Tables, pending, upgrade
from ltr_pipeline.errors import LtrError
from ltr_pipeline.monitoring.tables import TABLES as MONITORING
from ltr_pipeline.segments.tables import TABLES as SEGMENTS
from ltr_pipeline.settings import Settings

__all__ = ["TABLES", "examine", "init", "make_indexes", "partial_indexes"]

TABLES: Final[Sequence[Tables]] = (BATCH, SEGMENTS, MONITORING)
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


def examine(settings: Settings) -> Iterator[tuple[Literal["ok", "warning", "problem"], str]]:
    """Say whether the database can be used: our tables, and whether each scoring job fits its table.

    Nothing is made: a file of SQLite that is not there yet stays so.
    """
    file = settings.database.file
    if file and not file.exists():
        yield "ok", f"{settings.database} is not there yet: the first command that needs it makes it"
        return
    with Database(settings.database) as database:
        behind = pending(database, TABLES)
        if not behind:
            yield "ok", f"{settings.database}: our tables are there and up to date"
        elif database.is_postgresql:
            yield (
                "warning",
                f"{settings.database} lacks tables of ours or has older ones: `ltr database init` makes them",
            )
        else:
            yield "ok", f"{settings.database}: the next command that needs our tables makes them"
        for name, job in load_jobs(settings.scoring_path).items():
            try:
                with database.begin(write=False) as connection:
                    if isinstance(job, RankJob):
                        look_at_candidates(database, connection, name, job)
                    else:
                        Target(database, connection, name, job, version="")
            except LtrError as error:
                yield "warning", str(error)
            else:
                yield (
                    "ok",
                    f"job {name} fits {'its candidates' if isinstance(job, RankJob) else f'the table {job.table}'}",
                )


def partial_indexes(settings: Settings) -> list[str]:
    """Return the statements for indexes by which a fetch is as quick when few of many rows have no score.

    One for each job that scores a table of PostgreSQL which has no such index yet.
    """
    with Database(settings.database) as database:
        if not database.is_postgresql:
            return []
        found = []
        for name, job in load_jobs(settings.scoring_path).items():
            if isinstance(job, RankJob):
                continue
            try:
                with database.begin(write=False) as connection:
                    found += Target(database, connection, name, job, version="").missing_index(connection)
            except LtrError:  # such as a table that is not there: `ltr score` and `ltr doctor` say so
                continue
        return found


def make_indexes(settings: Settings, statements: Sequence[str]) -> None:
    """Execute statements of `partial_indexes`; the tables can be written to meanwhile."""
    with Database(settings.database) as database:
        for statement in statements:
            database.execute_alone(statement)
