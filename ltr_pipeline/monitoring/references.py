"""The days that a day is compared with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Final, Literal, NamedTuple

__all__ = ["TRAILING_DAYS", "Former", "days_before", "references"]

TRAILING_DAYS: Final = 28

Name = Literal["trailing", "weekday", "event"]


class Former(NamedTuple):
    """A reference: its name, its days as ordinals, ascending, and how sentences speak of them."""

    name: Name
    days: list[int]
    words: str


def days_before(date: dt.date, left_out: Collection[dt.date] = ()) -> list[dt.date]:
    """Return the `TRAILING_DAYS` before a day, without those that are left out, ascending."""
    days = (date - dt.timedelta(days=back) for back in range(TRAILING_DAYS, 0, -1))
    return [day for day in days if day not in left_out]


def references(
    date: dt.date, shown: Iterable[int], left_out: Collection[dt.date] = (), former: Collection[dt.date] = ()
) -> list[Former]:
    """Return the references of a day that have any day on which something was shown.

    Parameters
    ----------
    shown
        Days with lists, as ordinals.
    left_out
        Days that no reference holds: other declared events.
    former
        Days of the same declared event in former years, which take the place of the weekday.

    Examples
    --------
    >>> [(one.name, len(one.days), one.words) for one in references(dt.date(2025, 7, 29), range(739400, 739461))]
    [('trailing', 28, 'the 28 days before'), ('weekday', 4, 'the 4 Tuesdays before')]
    """
    known, today = set(shown), date.toordinal()
    trailing = [day for day in map(dt.date.toordinal, days_before(date, left_out)) if day in known]
    weekday = [day for day in trailing if (today - day) % 7 == 0]
    event = sorted({day.toordinal() for day in former} & known - {today})
    found = [
        Former("trailing", trailing, _counted(len(trailing), "day") + " before"),
        Former("event", event, f"{_counted(len(event), 'day')} of it in former years")
        if event
        else Former("weekday", weekday, _counted(len(weekday), f"{date:%A}") + " before"),
    ]
    return [one for one in found if one.days]


def _counted(count: int, noun: str) -> str:
    return f"the {noun}" if count == 1 else f"the {count} {noun}s"
