"""Probabilities that a job has written on a day, to be held against what came of the rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, Final

import polars as pl
from sqlalchemy import Connection, inspect, select

from ltr_pipeline.batch.columns import find
from ltr_pipeline.batch.job import Job, RankJob, ScoreJob
from ltr_pipeline.batch.runs import as_text
from ltr_pipeline.batch.tables import RECOMMENDATIONS, RUNS
from ltr_pipeline.batch.target import moment
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError
from ltr_pipeline.schema import ITEM_ID, QUERY_ID, TIME, USER_ID

__all__ = ["PROBABILITY", "STATED", "VERSION", "stated"]

VERSION: Final = "version"
PROBABILITY: Final = "probability"

STATED: Final[dict[str, Any]] = {
    VERSION: pl.String,
    QUERY_ID: pl.String,
    ITEM_ID: pl.String,
    USER_ID: pl.String,
    TIME: pl.Datetime("us", "UTC"),
    PROBABILITY: pl.Float64,
}
"""Columns of `stated`: which version, of whom (null where the row is of any), when, and the probability."""

_ROWS: Final = 10_000  # fetched at a time


def stated(database: Database, name: str, job: Job, day: dt.date) -> pl.DataFrame:
    """Return the rows that a job gave a probability on a day (UTC) and no other score since, as `STATED`.

    Parameters
    ----------
    name
        Of the job.

    Raises
    ------
    ScoringError
        The job does not fit its table, or does not say by which version, when and for whom a row was scored.
    DatabaseError
        The database refuses, or stays away.
    """
    begin = dt.datetime.combine(day, dt.time(), dt.UTC)
    with database.begin(write=False) as connection:
        if not inspect(connection).has_table(RUNS.name):  # nothing was ever scored
            return pl.DataFrame(schema=STATED)
        rows = (
            _recommended(connection, name, begin)
            if isinstance(job, RankJob)
            else _scored(database, connection, name, job, begin)
        )
        return pl.DataFrame(list(rows), STATED, orient="row")


def _recommended(connection: Connection, name: str, begin: dt.datetime) -> Iterator[tuple[Any, ...]]:
    made = RECOMMENDATIONS.c
    query = (
        select(made.model_version, made.query_id, made.item_id, made.recommended_at, made.score)
        .join(RUNS, RUNS.c.run_id == made.run_id)
        .where(made.job == name, RUNS.c.scale == PROBABILITY)
        .where(made.recommended_at >= begin, made.recommended_at < begin + dt.timedelta(days=1))
    )
    for version, query_id, item_id, at, score in connection.execution_options(yield_per=_ROWS).execute(query):
        yield version, query_id, item_id, None, at, score / 100


def _scored(
    database: Database, connection: Connection, name: str, job: ScoreJob, begin: dt.datetime
) -> Iterator[tuple[Any, ...]]:
    if not (job.version and job.scored_at):
        raise ScoringError(
            f"job {name}: which version scored a row, and when, is known only where the job names columns for it "
            '(version = "…", scored_at = "…")'
        )
    entity = next((id_name for id_name, column in job.ids.items() if column == job.key), None)
    if entity is None:
        raise ScoringError(
            f"job {name}: whose answers belong to a row is known only where the job says which id its key is, such as "
            f'ids = {{ user_id = "{job.key}" }}'
        )
    found = find(database, connection, name, job.table, [job.key, job.score, job.version, job.scored_at], views=True)
    ends = (begin, begin + dt.timedelta(days=1))
    first, last = (moment(database, found.types[job.scored_at], one) for one in ends)
    at, version, score = found[job.scored_at], found[job.version], found[job.score]
    query = select(version, found[job.key], at, score).where(
        at >= first, at < last, score.is_not(None), version.in_(_versions(connection, name))
    )
    for by, key, when, value in connection.execution_options(yield_per=_ROWS).execute(query):
        ids = {entity: as_text(key)}
        yield by, *(ids.get(one) for one in (QUERY_ID, ITEM_ID, USER_ID)), _utc(when), float(value) / 100


def _versions(connection: Connection, name: str) -> list[str]:
    """Return the versions by which a job has written probabilities; each has one scale alone."""
    runs = RUNS.c
    found: Iterable[str] = connection.scalars(
        select(runs.version).where(runs.job == name, runs.scale == PROBABILITY).distinct()
    )
    return list(found)


def _utc(when: dt.datetime | str) -> dt.datetime:
    """Return a moment as it was written: without a time zone it is UTC."""
    moment = dt.datetime.fromisoformat(when) if isinstance(when, str) else when
    return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
