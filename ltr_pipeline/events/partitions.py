"""The partitions of the landing zone: which there are, and in which order. Light: it reads no manifest.

A partition is what one landing brought, and is named by the moment of its run. So a night's landing and those of the
hours stand side by side, in one order, that of their moments. Releases that landed once a night named a partition by
its date alone; its moment is that of the nightly run.

::

    events/date=2025-07-14/manifest.json                      of such a release: 2025-07-14 02:15
    events/date=2025-07-15/run=20250715_0215/manifest.json
    events/date=2025-07-15/run=20250715_0335/manifest.json

A partition is there once its manifest is. Whoever needs the newest ones only lists the days from the newest on.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Final, NamedTuple

from ltr_pipeline.errors import SourceError
from ltr_pipeline.schedule import minute_name, minute_named, night_of
from ltr_pipeline.storage.base import Storage

__all__ = [
    "EVENTS",
    "FUTURE",
    "MANIFEST",
    "Partition",
    "called",
    "days",
    "folder_of",
    "following",
    "is_backfill",
    "is_past",
    "landed",
    "landed_at",
    "landed_dates",
    "newest",
    "newest_first",
    "reaching",
]

EVENTS: Final = "events"
MANIFEST: Final = "manifest.json"

DAY: Final = dt.timedelta(days=1)
FUTURE: Final = 2 * DAY
"""An event that is later than the end of the run's date by a day is of the future: some clock was wrong."""

_DAY: Final = "date="
_RUN: Final = "run="
_FOLDER: Final = re.compile(rf"{EVENTS}/{_DAY}([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:/{_RUN}([0-9]{{8}}_[0-9]{{4}}))?")


class Partition(NamedTuple):
    """A partition; they sort by moment.

    Attributes
    ----------
    moment
        Of the run that landed it: a whole minute, UTC.
    folder
        Where it lies in the data storage.
    """

    moment: dt.datetime
    folder: str

    @property
    def date(self) -> dt.date:
        """Return the day that it landed on."""
        return self.moment.date()

    @property
    def name(self) -> str:
        """Return what people call it: its run, or its day where it has none.

        >>> Partition.at(dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC)).name
        '20250715_0215'
        >>> Partition.of_night(dt.date(2025, 7, 14)).name
        '2025-07-14'
        """
        return self.folder.rpartition("=")[2]

    @classmethod
    def at(cls, moment: dt.datetime) -> Partition:
        """Return the partition that the run of a moment lands.

        >>> Partition.at(dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC)).folder
        'events/date=2025-07-15/run=20250715_0215'
        """
        utc = moment.astimezone(dt.UTC).replace(second=0, microsecond=0)
        return cls(utc, f"{EVENTS}/{_DAY}{utc.date().isoformat()}/{_RUN}{minute_name(utc)}")

    @classmethod
    def of_night(cls, date: dt.date) -> Partition:
        """Return the partition that a release which landed once a night landed for a date.

        >>> Partition.of_night(dt.date(2025, 7, 14)).folder
        'events/date=2025-07-14'
        """
        return cls(night_of(date), f"{EVENTS}/{_DAY}{date.isoformat()}")

    @classmethod
    def of_folder(cls, folder: str) -> Partition:
        """Return the partition in a folder; ValueError where no partition can be in a folder of that name."""
        found = _FOLDER.fullmatch(folder)
        if not found:
            raise ValueError(f"{folder!r} is no folder of a partition")
        date = dt.date.fromisoformat(found[1])
        partition = cls.at(minute_named(found[2])) if found[2] else cls.of_night(date)
        if partition.date != date:
            raise ValueError(f"{folder!r}: the run is not of that day")
        return partition


def folder_of(moment: dt.datetime) -> str:
    """Return the folder that the run of a moment lands in.

    >>> folder_of(dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC))
    'events/date=2025-07-15/run=20250715_0215'
    """
    return Partition.at(moment).folder


def newest_first(storage: Storage) -> Iterator[Partition]:
    """Yield the partitions that have landed, newest first; a day is listed when it is come to.

    Whatever else lies there is left alone.
    """
    for day in sorted(storage.folders(EVENTS), reverse=True):
        yield from reversed(_of_day(storage, day))


def landed(storage: Storage, since: dt.date = dt.date.min) -> list[Partition]:
    """Return the partitions that have landed on a day and after it, oldest first; without a day, all."""
    return list(takewhile(lambda one: one.date >= since, newest_first(storage)))[::-1]


def newest(storage: Storage, before: dt.datetime | None = None) -> Partition | None:
    """Return the partition that landed last, or last before a moment; None without one."""
    return next((one for one in newest_first(storage) if before is None or one.moment < before), None)


def reaching(storage: Storage, day: dt.date) -> list[Partition]:
    """Return the partitions that may hold an event of a day or after it, oldest first, and before them the one before.

    Events of the future do not count: they are in no window.
    """
    earliest = max(day, dt.date.min + FUTURE) - FUTURE + DAY
    found = []
    for one in newest_first(storage):
        found.append(one)
        if one.date < earliest:
            break
    return found[::-1]


def landed_at(storage: Storage, moment: dt.datetime) -> Partition | None:
    """Return the partition of the run of a moment; None where it has not landed."""
    own = Partition.at(moment)
    former = Partition.of_night(own.date)
    found = (one for one in (former, own) if one.moment == own.moment)
    return next((one for one in found if storage.exists(f"{one.folder}/{MANIFEST}")), None)


def landed_dates(storage: Storage, most: int | None = None) -> list[dt.date]:
    """Return the days that something has landed on, each once, ascending; with `most`, so many of the newest."""
    listed = (day for day in sorted(storage.folders(EVENTS), reverse=True) if _of_day(storage, day))
    return sorted(dt.date.fromisoformat(day.removeprefix(_DAY)) for day in islice(listed, most))


def following(storage: Storage, moment: dt.datetime) -> Partition | None:
    """Return the first partition that landed at a moment or after it; None without one."""
    least = Partition.at(moment).moment
    return min((one for one in landed(storage, least.date()) if one.moment >= least), default=None)


def is_past(storage: Storage, moment: dt.datetime) -> bool:
    """Tell whether the run of a moment is a day late at least: what has landed since is of other nights, too."""
    found = newest(storage)
    return found is not None and found.moment >= Partition.at(moment).moment + DAY


def is_backfill(storage: Storage, moment: dt.datetime) -> bool:
    """Tell whether a later partition has landed, so that the run of a moment reads no source and moves no cursor."""
    found = newest(storage)
    return found is not None and found.moment > Partition.at(moment).moment


def called(storage: Storage, name: str) -> list[Partition]:
    """Return the landed partitions that people call so: all of a day as 2025-07-15, or that of a run as 20250715_0215.

    Raises
    ------
    SourceError
        None has landed, or that is the name of neither.
    """
    try:
        found = _of_day(storage, f"{_DAY}{dt.date.fromisoformat(name).isoformat()}")
    except ValueError:
        try:
            partition = landed_at(storage, minute_named(name))
        except ValueError as error:
            raise SourceError(f"{name!r} is no day and no run; write it as 2025-07-15, or 20250715_0215") from error
        found = [partition] if partition else []
    if not found:
        raise SourceError(f"no events have landed for {name}; days that have: {days(storage)}")
    return found


def days(storage: Storage) -> str:
    """Say which days have landed, for messages."""
    found = landed_dates(storage)
    return f"{found[0]} to {found[-1]} ({len(found)})" if found else "none"


def _of_day(storage: Storage, day: str) -> list[Partition]:
    """Return the partitions in the folder of a day, oldest first; none where the folder is not one of a day."""
    if not _FOLDER.fullmatch(f"{EVENTS}/{day}"):
        return []
    folders = [key.removesuffix(f"/{MANIFEST}") for key in storage.keys(f"{EVENTS}/{day}") if key.endswith(MANIFEST)]
    return sorted(filter(None, map(_partition, folders)))


def _partition(folder: str) -> Partition | None:
    try:
        return Partition.of_folder(folder)
    except ValueError:  # somebody's copy, or no day, such as 2025-13-45
        return None
