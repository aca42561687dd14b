"""The manifest of a partition: it completes the partition and accounts for every record."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from ltr_pipeline.errors import NotFoundError, SourceError
from ltr_pipeline.events.source import Quarantined, Range, Segment
from ltr_pipeline.events.tables import FileInfo
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.digest import file_sha256

__all__ = [
    "EVENTS",
    "MANIFEST",
    "Landed",
    "Manifest",
    "dates",
    "decoded",
    "encoded",
    "folder_of",
    "is_backfill",
    "landed_dates",
    "manifest_of",
    "read_manifest",
    "read_quarantine",
    "verify",
]

EVENTS: Final = "events"
MANIFEST: Final = "manifest.json"
QUARANTINE: Final = "quarantine.jsonl"
_PARTITION: Final = re.compile(rf"{EVENTS}/date=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/{re.escape(MANIFEST)}")

_AGAIN: Final = "delete the partition's manifest.json and rerun the day to land the stored range again"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One partition. In expanded records, ``read = impressions + feedback + quarantined + ignored + forgotten``.

    Attributes
    ----------
    date
        The run's date: partitions are by arrival.
    range
        What was read; where it ends, the next partition begins.
    since
        Records of an event time before were ignored.
    mapping_sha256
        Of the mapping that the records were read by.
    buckets
        Hash buckets of each table.
    read, impressions, feedback, quarantined, ignored
        Expanded records.
    quarantine_reasons, ignored_reasons
        The last two by reason.
    first_time, last_time
        Event times of the earliest and the latest landed record, but for those of the future; None without any.
    unknown_features, unknown_kinds
        Features seen (in a sample) that are not on the allow-list, and kinds of message that were ignored.
    files
        Every file of the partition but this one and the range.
    fallback
        Why another source than the configured one was read; empty when it was not.
    lost
        What was gone from the source before it could be read; not among the records read.
    shadowed
        How many items of lists have another value than their message, by column that a list shares: see docs/events.md.
    future
        Records of an event time more than a day after the run's date. They landed, and count in no window.
    forgotten
        Records that were removed to forget a person (`forget`).
    previous
        SHA-256 of the manifest of the partition before, as it landed; empty in the first. None in manifests of releases
        before 0.2.
    signature
        Of the manifest without this field; None where no key is set.
    """

    date: dt.date
    range: Range
    since: dt.datetime
    mapping_sha256: str
    buckets: Annotated[int, msgspec.Meta(ge=1)]
    read: int
    impressions: int
    feedback: int
    quarantined: int
    ignored: int
    quarantine_reasons: dict[str, int]
    ignored_reasons: dict[str, int]
    first_time: dt.datetime | None
    last_time: dt.datetime | None
    unknown_features: list[str]
    unknown_kinds: list[str]
    files: list[FileInfo]
    fallback: str = ""
    lost: list[Segment] = []
    shadowed: dict[str, int] = {}
    future: int = 0
    forgotten: int = 0
    previous: str | None = None
    signature: str | None = None

    @property
    def records_lost(self) -> int:
        """Return how many records are lost: at most, as some offsets of a topic hold none; of files, by an estimate."""
        return sum(segment.end - segment.start if segment.records is None else segment.records for segment in self.lost)


class Landed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Counts of the records that arrived for a run, in expanded records.

    Attributes
    ----------
    records_lost
        Records that were gone from the source before they could be read; not among those read.
    fallback
        Why another source than the configured one was read; empty when it was not.
    """

    records_read: int
    records_quarantined: int
    impressions: int
    feedback: int
    records_lost: int = 0
    fallback: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> Landed:
        """Take these counts from a partition's manifest."""
        return cls(
            records_read=manifest.read,
            records_quarantined=manifest.quarantined,
            impressions=manifest.impressions,
            feedback=manifest.feedback,
            records_lost=manifest.records_lost,
            fallback=manifest.fallback,
        )


def folder_of(date: dt.date) -> str:
    """Return the folder of a partition.

    >>> folder_of(dt.date(2025, 7, 15))
    'events/date=2025-07-15'
    """
    return f"{EVENTS}/date={date.isoformat()}"


def landed_dates(storage: Storage) -> list[dt.date]:
    """Return the dates of the complete partitions, ascending; whatever else lies there is left alone."""
    return sorted(date for key in storage.keys(EVENTS) if (date := _completed(key)))


def _completed(key: str) -> dt.date | None:
    """Return the date of the partition whose manifest has this key; None for any other key."""
    found = _PARTITION.fullmatch(key)
    try:
        return dt.date.fromisoformat(found[1]) if found else None
    except ValueError:  # such as 2025-13-45
        return None


def read_manifest(storage: Storage, date: dt.date) -> Manifest:
    """Read the manifest of a partition.

    Raises
    ------
    SourceError
        No partition of that date has landed, or its manifest was altered.
    """
    try:
        return manifest_of(storage, folder_of(date))
    except NotFoundError as error:
        raise SourceError(f"no events have landed for {date}; dates that have: {dates(storage)}") from error


def manifest_of(storage: Storage, folder: str) -> Manifest:
    """Read the manifest in a partition's folder.

    Raises
    ------
    NotFoundError
        The partition has not landed whole.
    SourceError
        The manifest was altered.
    """
    key = f"{folder}/{MANIFEST}"
    return decoded(storage, key, storage.get(key))


def decoded(storage: Storage, key: str, data: bytes) -> Manifest:
    """Parse the data of a manifest; SourceError when it was altered."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{storage.uri(key)} was altered ({error}); {_AGAIN}") from error


def encoded(manifest: Manifest) -> bytes:
    """Return the manifest as it is stored."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def dates(storage: Storage) -> str:
    """Say which dates have landed, for messages."""
    landed = landed_dates(storage)
    return f"{landed[0]} to {landed[-1]} ({len(landed)})" if landed else "none"


def read_quarantine(storage: Storage, date: dt.date) -> Iterator[Quarantined]:
    """Yield the quarantined records of a landed partition, in the order they were read.

    Raises
    ------
    SourceError
        No partition of that date has landed.
    """
    read_manifest(storage, date)
    with storage.local_file(f"{folder_of(date)}/{QUARANTINE}") as path, path.open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=Quarantined)


def verify(storage: Storage, manifest: Manifest) -> None:
    """Check that every file of a partition is as it landed.

    Raises
    ------
    SourceError
        A file is missing or was altered.
    """
    folder = folder_of(manifest.date)
    for info in manifest.files:
        key = f"{folder}/{info.name}"
        try:
            with storage.local_file(key) as path:
                digest = file_sha256(path)
        except (NotFoundError, OSError):
            digest = "missing"
        if digest != info.sha256:
            what = "is missing" if digest == "missing" else "was altered"
            raise SourceError(f"{storage.uri(key)} {what} since it landed; {_AGAIN}")


def is_backfill(storage: Storage, date: dt.date) -> bool:
    """Tell whether a later partition has landed, so that a run of `date` reads no source and moves no cursor."""
    return any(landed > date for landed in landed_dates(storage))
