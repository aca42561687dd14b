"""When runs are due: the nightly one at 02:15 UTC, what follows it, the hourly one; and what a moment is called.

Light: DAG files import it.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

__all__ = [
    "EVERY_NIGHT",
    "HOURLY",
    "MONITORING",
    "NIGHTLY",
    "SCORING",
    "SEGMENTS",
    "minute_name",
    "minute_named",
    "newest_night",
    "night_of",
]

DUE: Final = dt.time(2, 15, tzinfo=dt.UTC)

NIGHTLY: Final = f"{DUE.minute} {DUE.hour} * * *"
"""Cron expression of the nightly run, in UTC."""

HOURLY: Final = "35 * * * *"
"""Cron expression of the hourly refresh: 20 minutes after the night began, which is mostly over by then."""

EVERY_NIGHT: Final = "every night"
"""Why a night trains, where each does."""

SCORING: Final = "15 5 * * *"
"""Cron expression of the daily scoring of rows, in UTC: the night is over by then."""

SEGMENTS: Final = "15 6 * * *"
"""Cron expression of the classification of segments, in UTC: after the night has landed its events."""

MONITORING: Final = "15 7 * * *"
"""Cron expression of the watch over data, models and outcomes, in UTC: after everything that a day computes."""


def night_of(date: dt.date) -> dt.datetime:
    """Return the moment of the nightly run of a day.

    >>> night_of(dt.date(2025, 7, 15)).isoformat()
    '2025-07-15T02:15:00+00:00'
    """
    return dt.datetime.combine(date, DUE)


def newest_night(now: dt.datetime) -> dt.date:
    """Return the day of the newest nightly run that was due by `now`.

    >>> newest_night(dt.datetime(2025, 7, 15, 2, 14, tzinfo=dt.UTC))
    datetime.date(2025, 7, 14)
    """
    today = now.astimezone(dt.UTC).date()
    return today if now >= night_of(today) else today - dt.timedelta(days=1)


def minute_name(moment: dt.datetime) -> str:
    """Return the name of a moment's minute in UTC, by which runs, versions and landed partitions are called.

    >>> minute_name(dt.datetime(2025, 7, 15, 2, 15, 59, tzinfo=dt.UTC))
    '20250715_0215'
    """
    utc = moment.astimezone(dt.UTC)
    return f"{utc.year:04}{utc:%m%d_%H%M}"


def minute_named(name: str) -> dt.datetime:
    """Return the moment that has a name; ValueError where that is no name of a minute.

    >>> minute_named("20250715_0215").isoformat()
    '2025-07-15T02:15:00+00:00'
    """
    wrong = f"{name!r} is no minute; one looks like 20250715_0215"
    try:
        moment = dt.datetime.strptime(name, "%Y%m%d_%H%M").replace(tzinfo=dt.UTC)
    except ValueError as error:
        raise ValueError(wrong) from error
    if minute_name(moment) != name:  # strptime takes 2025715_0215, too
        raise ValueError(wrong)
    return moment
