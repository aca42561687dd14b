"""The manifest of a partition: it completes the partition and accounts for every record."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec

from ltr_pipeline.errors import NotFoundError, SourceError
from ltr_pipeline.events.partitions import MANIFEST, Partition, days, landed_at
from ltr_pipeline.events.source import Quarantined, Range, Segment
from ltr_pipeline.events.tables import FileInfo
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.digest import file_sha256

__all__ = [
    "Landed",
    "Manifest",
    "account_of",
    "decoded",
    "encoded",
    "manifest_of",
    "read_manifest",
    "read_quarantine",
    "together",
    "verify",
]

QUARANTINE: Final = "quarantine.jsonl"

_AGAIN: Final = "delete the partition's manifest.json and rerun its run to land the stored range again"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One partition. In expanded records, ``read = impressions + feedback + quarantined + ignored + forgotten``.

    Attributes
    ----------
    date
        The run's date, UTC: partitions are by arrival.
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
    run_at
        The moment of the run, UTC. Unset in manifests of releases that landed once a night: they, and what signs them,
        have no such field.
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
    run_at: dt.datetime | msgspec.UnsetType = msgspec.UNSET

    @property
    def partition(self) -> Partition:
        """Return which partition it is the manifest of."""
        return Partition.of_night(self.date) if self.run_at is msgspec.UNSET else Partition.at(self.run_at)

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
        """Take these counts from a partition's manifest, or of several `together`."""
        return cls(
            records_read=manifest.read,
            records_quarantined=manifest.quarantined,
            impressions=manifest.impressions,
            feedback=manifest.feedback,
            records_lost=manifest.records_lost,
            fallback=manifest.fallback,
        )


def read_manifest(storage: Storage, moment: dt.datetime) -> Manifest:
    """Read the manifest of the partition that the run of a moment has landed.

    Raises
    ------
    SourceError
        That run has landed none, or the manifest was altered.
    """
    found = landed_at(storage, moment)
    if found is None:
        name = Partition.at(moment).name
        raise SourceError(f"no events have landed for {name}; days that have: {days(storage)}")
    return manifest_of(storage, found.folder)


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


def together(manifests: Sequence[Manifest]) -> Manifest:
    """Return the account of several landings, oldest first, as if they were one; a single one is returned as it is.

    What counts is added up. The rest is of the newest, and files are named by their whole keys.
    """
    *_, newest = manifests
    if len(manifests) == 1:
        return newest
    known = [time for one in manifests for time in (one.first_time, one.last_time) if time]
    return msgspec.structs.replace(
        newest,
        range=msgspec.structs.replace(newest.range, segments=tuple(s for one in manifests for s in one.range.segments)),
        since=min(one.since for one in manifests),
        read=sum(one.read for one in manifests),
        impressions=sum(one.impressions for one in manifests),
        feedback=sum(one.feedback for one in manifests),
        quarantined=sum(one.quarantined for one in manifests),
        ignored=sum(one.ignored for one in manifests),
        quarantine_reasons=_added(one.quarantine_reasons for one in manifests),
        ignored_reasons=_added(one.ignored_reasons for one in manifests),
        first_time=min(known, default=None),
        last_time=max(known, default=None),
        unknown_features=sorted({name for one in manifests for name in one.unknown_features}),
        unknown_kinds=sorted({name for one in manifests for name in one.unknown_kinds}),
        files=[
            msgspec.structs.replace(file, name=f"{one.partition.folder}/{file.name}")
            for one in manifests
            for file in one.files
        ],
        fallback="; ".join(dict.fromkeys(one.fallback for one in manifests if one.fallback)),
        lost=[segment for one in manifests for segment in one.lost],
        shadowed=_added(one.shadowed for one in manifests),
        future=sum(one.future for one in manifests),
        forgotten=sum(one.forgotten for one in manifests),
        previous=manifests[0].previous,
        signature=None,
    )


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return dict(sorted(sum(map(Counter, counts), Counter[str]()).items()))


def account_of(storage: Storage, folders: Sequence[str]) -> Manifest:
    """Read the manifests in some partitions' folders, oldest first, as one account.

    Raises
    ------
    NotFoundError
        One of them is not there.
    SourceError
        One of them was altered.
    """
    return together([manifest_of(storage, folder) for folder in folders])


def read_quarantine(storage: Storage, folder: str) -> Iterator[Quarantined]:
    """Yield the quarantined records of the partition in a folder, in the order they were read.

    Raises
    ------
    NotFoundError
        No partition has landed there.
    """
    manifest_of(storage, folder)
    with storage.local_file(f"{folder}/{QUARANTINE}") as path, path.open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=Quarantined)


def verify(storage: Storage, manifest: Manifest) -> None:
    """Check that every file of a partition is as it landed.

    Raises
    ------
    SourceError
        A file is missing or was altered.
    """
    folder = manifest.partition.folder
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
