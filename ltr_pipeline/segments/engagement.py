"""Engagement of users and items: what each of them did in each period, counted from landed events.

Counting has two steps, so that memory stays that of one hash bucket: `by_day` counts the events of a bucket by entity
and day, and `by_period` adds up the days of all buckets. A list is in one bucket whole, so that nothing is counted
twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import polars as pl

from ltr_pipeline.schema import ACTION, ITEM_ID, LABEL, QUERY_ID, RANKING_ID, TIME, USER_ID
from ltr_pipeline.segments.periods import Period

__all__ = ["ENTITY", "FEATURES", "LEVELS", "PERIOD", "Level", "by_day", "by_period"]

Level = Literal["user", "item"]
LEVELS: Final[tuple[str, ...]] = get_args(Level)

ENTITY: Final = "entity"  # the user or the item
PERIOD: Final = "period"  # first day of the period
_DAY: Final = "day"

FEATURES: Final = {
    "lists": "lists shown to the user, or with the item in them",
    "days": "days on which that, or an interaction, happened",
    "impressions": "items shown to the user, or times the item was shown",
    "interactions": "interactions of the user, or with the item",
    "relevance": "sum of the relevance of these interactions, by the mapping",
}
"""Engagement features and what each counts, all in one period."""

_COUNTS: Final = tuple(name for name in FEATURES if name != "days")
_COUNTED: Final[dict[Any, Any]] = {ENTITY: pl.String, _DAY: pl.Date, **dict.fromkeys(_COUNTS, pl.Int64)}
_KEYS: Final[dict[Level, str]] = {"user": USER_ID, "item": ITEM_ID}


def by_day(shown: pl.DataFrame, answers: pl.DataFrame, relevance: Mapping[str, int], level: Level) -> pl.DataFrame:
    """Count the events of one hash bucket by entity and day (UTC).

    A list counts on the day it began. An interaction that names no user is taken for that of the user to whom the
    latest list for its query was shown before it; one that still has no user, and a list without one, count for no
    user. An action that the mapping gives no relevance adds none. An impression that was logged with a label above 0
    is an interaction, too.

    Parameters
    ----------
    shown, answers
        Impressions that were shown and interactions, each event once (`dataset.build.events`).
    relevance
        Relevance of each action.

    Returns
    -------
    Rows (entity and day, once), columns `ENTITY`, ``day`` and int64 counts: the `FEATURES` but ``days``.
    """
    key = _KEYS[level]
    worth = pl.col(ACTION).replace_strict(dict(relevance), default=0, return_dtype=pl.Int64)
    answered = pl.col(LABEL).fill_null(0).cast(pl.Int64)
    began = pl.col(TIME).min().over(QUERY_ID, RANKING_ID).dt.date()
    ranking = pl.struct(QUERY_ID, RANKING_ID)
    impressions = (
        shown.select(pl.col(key).alias(ENTITY), began.alias(_DAY), ranking.alias("list"), answered.alias("answered"))
        .group_by(ENTITY, _DAY)
        .agg(
            pl.col("list").n_unique().alias("lists"),
            pl.len().alias("impressions"),
            (pl.col("answered") > 0).sum().alias("interactions"),
            pl.col("answered").sum().alias("relevance"),
        )
    )
    interactions = (
        _with_user(shown, answers)
        .select(pl.col(key).alias(ENTITY), pl.col(TIME).dt.date().alias(_DAY), worth.alias("relevance"))
        .group_by(ENTITY, _DAY)
        .agg(pl.len().alias("interactions"), pl.col("relevance").sum())
    )
    return _added_up([impressions, interactions])


def by_period(days: Sequence[pl.DataFrame], periods: Sequence[Period]) -> pl.DataFrame:
    """Add up what `by_day` counted in each bucket: one row for each entity and period.

    An entity has a row in each period from its first one on, of zeros where it did nothing: who has fallen silent is
    seen as such, and who came later was not silent before.

    Parameters
    ----------
    days
        One table a bucket, by the same level.
    periods
        In order of time, without gaps between them.

    Returns
    -------
    Columns `ENTITY`, `PERIOD` (date) and int64 `FEATURES`, in order of period and entity.
    """
    calendar = pl.DataFrame({PERIOD: [period.start for period in periods]}, schema={PERIOD: pl.Date})
    counted = _added_up(days).filter(pl.col(_DAY).is_between(periods[0].start, periods[-1].end - dt.timedelta(days=1)))
    inside = counted.sort(_DAY).join_asof(calendar, left_on=_DAY, right_on=PERIOD, strategy="backward")
    found = inside.group_by(ENTITY, PERIOD).agg(pl.len().alias("days"), *(pl.col(name).sum() for name in _COUNTS))
    first = found.group_by(ENTITY).agg(pl.col(PERIOD).min().alias("first"))
    every = first.join(calendar, how="cross").filter(pl.col(PERIOD) >= pl.col("first")).drop("first")
    return (
        every.join(found, on=[ENTITY, PERIOD], how="left")
        .select(ENTITY, PERIOD, *(pl.col(name).fill_null(0).cast(pl.Int64) for name in FEATURES))
        .sort(PERIOD, ENTITY)
    )


def _with_user(shown: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Fill in the user of interactions that name none: whoever was last shown a list for their query."""
    if not answers[USER_ID].null_count():
        return answers
    lists = shown.select(QUERY_ID, TIME, pl.col(USER_ID).alias("shown_to")).drop_nulls("shown_to").sort(TIME)
    joined = answers.sort(TIME).join_asof(lists, on=TIME, by=QUERY_ID, check_sortedness=False)
    return joined.with_columns(pl.coalesce(USER_ID, "shown_to").alias(USER_ID)).drop("shown_to")


def _added_up(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return one row for each entity and day, but for those of no entity; a count that a part lacks is 0."""
    typed = [part.cast({name: dtype for name, dtype in _COUNTED.items() if name in part.columns}) for part in parts]
    rows = pl.concat([pl.DataFrame(schema=_COUNTED), *typed], how="diagonal")
    return rows.drop_nulls(ENTITY).group_by(ENTITY, _DAY).agg(pl.col(name).sum() for name in _COUNTS)
