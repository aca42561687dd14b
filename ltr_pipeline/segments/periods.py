"""The periods that engagement is counted in: whole days, weeks or months, UTC."""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal, NamedTuple, get_args

__all__ = ["GRANULARITIES", "Granularity", "Period", "end_of", "whole_periods"]

Granularity = Literal["day", "week", "month"]
GRANULARITIES: Final[tuple[str, ...]] = get_args(Granularity)

DAY: Final = dt.timedelta(days=1)


class Period(NamedTuple):
    """A day, a week from Monday, or a calendar month: ``[start, end)``, both midnights UTC by date."""

    start: dt.date
    end: dt.date


def whole_periods(granularity: Granularity, count: int, until: dt.date) -> list[Period]:
    """Return the last `count` periods that are over at `until`, exclusive, oldest first.

    A period that is not over yet is left out: half a week looks like half the engagement.

    Examples
    --------
    The 15th of July 2025 was a Tuesday.

    >>> tuesday = dt.date(2025, 7, 15)
    >>> [str(period.start) for period in whole_periods("week", 2, tuesday)]
    ['2025-06-30', '2025-07-07']
    >>> whole_periods("month", 1, tuesday)
    [Period(start=datetime.date(2025, 6, 1), end=datetime.date(2025, 7, 1))]
    """
    end = _start_of(granularity, until)
    found: list[Period] = []
    for _ in range(count):
        start = _start_of(granularity, end - DAY)
        found.append(Period(start, end))
        end = start
    return found[::-1]


def end_of(granularity: str, start: dt.date) -> dt.date:
    """Return the first day after the period that begins on a day.

    >>> end_of("month", dt.date(2025, 12, 1))
    datetime.date(2026, 1, 1)
    """
    if granularity == "month":
        return (start.replace(day=1) + 31 * DAY).replace(day=1)
    return start + (7 if granularity == "week" else 1) * DAY


def _start_of(granularity: Granularity, day: dt.date) -> dt.date:
    """Return the first day of the period that a day is in."""
    match granularity:
        case "day":
            return day
        case "week":
            return day - day.weekday() * DAY
        case "month":
            return day.replace(day=1)
