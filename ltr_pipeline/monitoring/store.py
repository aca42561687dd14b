"""The history: one object a record, on the storage of the landing zone, read by many and written by whoever computes.

A record is never changed. To compute it again, as a retried task does, writes another object beside it, and the newest
of a subject is the one that counts; so readers may keep what they have read, and nobody ever reads half a record.

::

    monitoring/<kind>/<date>/<subject>/<moment>.json     moment: when it was computed, YYYYMMDDTHHMMSSffffffZ
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec
import structlog

from ltr_pipeline.errors import NotFoundError, StorageError
from ltr_pipeline.monitoring.records import (
    KINDS,
    BatchRun,
    DriftReport,
    NightRecord,
    Outcomes,
    PostedMetrics,
    Record,
    RefreshRecord,
    SegmentsTrained,
)
from ltr_pipeline.storage.base import Storage

__all__ = ["FOLDER", "History", "remember", "subject_of"]

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Record)

FOLDER: Final = "monitoring"

_READERS: Final = 16  # requests at a time: an object store answers each in milliseconds, a year has thousands
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")
_MOMENT: Final = "%Y%m%dT%H%M%S%fZ"


class _Place(NamedTuple):
    """Where a record is, read out of its key."""

    date: str
    subject: str
    moment: str
    key: str


class History:
    """Reads and writes records, and remembers what it has read.

    Parameters
    ----------
    data
        Storage of the landing zone.
    shapes
        Struct that `read` makes of a kind in place of the record, with the fields that are wanted of it and no others:
        who remembers a year of records has no room for all they hold.

    Attributes
    ----------
    unreadable
        Keys of records that could not be read: half written by something else, of a newer release, or altered.
    """

    def __init__(self, data: Storage, shapes: Mapping[type[Record], type[Any]] | None = None) -> None:
        self.data = data
        self.unreadable: set[str] = set()
        # Made here, by one thread: msgspec crashes where several are the first to read a type at the same time.
        shapes = shapes or {}
        self._whole = {kind: msgspec.json.Decoder(kind) for kind in KINDS.values()}
        self._shaped = {kind: msgspec.json.Decoder(shapes.get(kind, kind)) for kind in KINDS.values()}
        self._read: dict[str, Record] = {}

    def write(self, record: Record, now: dt.datetime | None = None) -> str:
        """Add a record, and return its key; it takes the place of an older one of the same day and subject.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        moment = (now or dt.datetime.now(dt.UTC)).strftime(_MOMENT)
        folder = f"{FOLDER}/{_kind_of(type(record))}/{record.date}/{subject_of(record)}"
        key = f"{folder}/{moment}.json"
        self.data.put(key, msgspec.json.encode(record, order="deterministic"))
        return key

    def read(
        self, kind: type[R], since: dt.date | None = None, until: dt.date | None = None, limit: int | None = None
    ) -> list[R]:
        """Return the records of a kind, one for each day and subject, in order of day and subject.

        Parameters
        ----------
        since, until
            First and last day, inclusive; None = all there is.
        limit
            Only so many, the newest.

        Raises
        ------
        StorageError
            The storage cannot be read. A record that cannot is left out, and its key is in `unreadable`.
        """
        places = self._places(kind, since, until)
        if limit is not None:
            places = places[max(len(places) - limit, 0) :]
        self._fetch(place.key for place in places)
        return [cast("R", self._read[place.key]) for place in places if place.key in self._read]

    def newest(self, kind: type[R], date: dt.date | None = None) -> R | None:
        """Return the newest record of a kind, of a day where one is given; whole, and not remembered.

        None where there is none that can be read.

        Raises
        ------
        StorageError
            The storage cannot be read.
        """
        for place in reversed(self._places(kind, date, date)):
            if (record := self._decoded(place.key, self._whole[cast("type[Record]", kind)])) is not None:
                return cast("R", record)
        return None

    def written(self, kind: type[Record]) -> dt.datetime | None:
        """Return when a record of a kind was last computed; None without one."""
        moments = [moment for place in self._places(kind, None, None) if (moment := _moment_of(place.moment))]
        return max(moments, default=None)

    def dates(self, kind: type[Record]) -> list[dt.date]:
        """Return the days that have a record of a kind, oldest first."""
        return sorted({dt.date.fromisoformat(place.date) for place in self._places(kind, None, None)})

    def subjects(self, kind: type[Record]) -> set[str]:
        """Return what the records of a kind are about, readable or not, as `subject_of` has it."""
        return {place.subject for place in self._places(kind, None, None)}

    def prune(self, before: dt.date) -> int:
        """Remove every record of a day before `before`, and older ones of later days; return how many."""
        keys = self.data.keys(FOLDER)
        newest = {place.key for kind in KINDS for place in _newest(_placed(keys, kind))}
        gone = [
            place.key
            for kind in KINDS
            for place in _placed(keys, kind)
            if place.date < before.isoformat() or place.key not in newest
        ]
        for key in gone:
            self.data.delete(key)
            self._read.pop(key, None)
        return len(gone)

    def _places(self, kind: type[msgspec.Struct], since: dt.date | None, until: dt.date | None) -> list[_Place]:
        name = _kind_of(kind)
        first, last = since.isoformat() if since else "", until.isoformat() if until else "9999"
        folder = f"{FOLDER}/{name}/{since}" if since and since == until else f"{FOLDER}/{name}"
        found = _newest(_placed(self.data.keys(folder), name))
        return [place for place in found if first <= place.date <= last]

    def _fetch(self, keys: Iterable[str]) -> None:
        new = [key for key in keys if key not in self._read and key not in self.unreadable]
        if not new:
            return
        decoders = [self._shaped[KINDS[key.split("/")[1]]] for key in new]
        with ThreadPoolExecutor(min(_READERS, len(new))) as readers:
            for key, record in zip(new, readers.map(self._decoded, new, decoders), strict=True):
                if record is None:
                    self.unreadable.add(key)
                else:
                    self._read[key] = record

    def _decoded(self, key: str, decoder: msgspec.json.Decoder[Any]) -> Record | None:
        try:
            return cast("Record", decoder.decode(self.data.get(key)))
        except (NotFoundError, msgspec.DecodeError, UnicodeDecodeError):  # pruned meanwhile, or not ours to read
            return None


def remember(data: Storage, record: Record) -> bool:
    """Add a record of something that has happened, and return whether that went; a failure ends nothing but in the log.

    What the record tells of is done, and must not be undone because it cannot be told. One that is there already, as
    after a task was tried again, is not added once more.
    """
    history = History(data)
    try:
        if record not in history.read(type(record), record.date, record.date):
            history.write(record)
    except StorageError as error:
        log.warning("the history lacks a record", record=subject_of(record), date=str(record.date), error=str(error))
        return False
    return True


def subject_of(record: Record) -> str:
    """Return what a record is about beside its day, as a part of a key.

    >>> from ltr_pipeline.monitoring.records import BatchRun
    >>> subject_of(BatchRun(date=dt.date(2025, 7, 1), job="lead score", run_id=7, version="20250701_0215", mode="all",
    ...                     state="done", rows=1, rejected=0, batches=1, seconds=0.1))
    'lead-score.7'
    """
    match record:
        case NightRecord() | RefreshRecord():
            parts = [record.run]
        case DriftReport():
            parts = ["data"]
        case Outcomes():
            parts = [record.version, f"{record.age_hours:g}h"]
        case BatchRun():
            parts = [record.job, str(record.run_id)]
        case SegmentsTrained():
            parts = [record.level, str(record.version)]
        case PostedMetrics():
            parts = [record.at.strftime(_MOMENT)]
    return _UNFIT.sub("-", ".".join(parts)).strip(".") or "-"


def _kind_of(record: type[msgspec.Struct]) -> str:
    return next(name for name, kind in KINDS.items() if kind is record)


def _placed(keys: Iterable[str], kind: str) -> list[_Place]:
    """Return the places of the records of a kind, in order of day, subject and moment; other objects do not count."""
    places = []
    for key in keys:
        parts = key.split("/")
        if len(parts) == 5 and parts[:2] == [FOLDER, kind] and parts[4].endswith(".json") and _is_date(parts[2]):
            places.append(_Place(parts[2], parts[3], parts[4], key))
    return sorted(places)


def _newest(places: Iterable[_Place]) -> list[_Place]:
    return list({(place.date, place.subject): place for place in places}.values())


def _moment_of(name: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(name.removesuffix(".json"), _MOMENT).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _is_date(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
