"""Landing: what arrived since the last one becomes one partition of typed, bucketed, accounted tables.

The range to read is stored before its first byte is read, the manifest is written last and completes the partition,
and everything between is a function of the range; so a landing that is killed and retried gives the same partition.

A range begins where the newest landing by moment ended, and names that landing. If another one lands before this one is
complete, the range is stale: it never completes, and a retry makes a new one. So every record lands once, whoever lands
next. That nobody else completes a partition at the very same time, a lease sees to, which is asked for the time it has
left right before the manifest is written; and whoever was stopped between the two, sees it afterwards and withdraws.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from ltr_pipeline.errors import AlreadyExistsError, BusyError, SourceError
from ltr_pipeline.events.chain import Chain
from ltr_pipeline.events.decoding.checks import feedback_schema, impression_schema
from ltr_pipeline.events.decoding.decode import Decoded, Decoder
from ltr_pipeline.events.manifest import QUARANTINE, Manifest, encoded, manifest_of, verify
from ltr_pipeline.events.partitions import FUTURE, MANIFEST, Partition, landed_at, newest, newest_first
from ltr_pipeline.events.source import Block, Range, Segment, Source
from ltr_pipeline.events.tables import BucketWriter, FileInfo, file_info, in_buckets
from ltr_pipeline.mapping import Mapping
from ltr_pipeline.schema import FEEDBACK, IMPRESSIONS, TIME, file_name
from ltr_pipeline.signing import Key
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.lease import TERMS, Lease, Terms, held

__all__ = ["cursor", "land"]

log = structlog.get_logger(__name__)

LEASE: Final = "landing"
RANGE: Final = "range.json"
MOST_KINDS: Final = 20
MOST_FEATURES: Final = 100

Buckets = list[pa.Table]  # one for each bucket


class _Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan of a partition, fixed before anything is read: ``range.json``.

    Attributes
    ----------
    after
        Folder of the newest partition when it was made, where the range begins; empty for the first.
    """

    range: Range
    since: dt.datetime
    after: str


def land(
    storage: Storage,
    moment: dt.datetime,
    source: Source,
    mapping: Mapping,
    *,
    buckets: int,
    since: dt.datetime,
    fallback: str = "",
    keys: Sequence[Key] = (),
    threads: int | None = None,
    terms: Terms = TERMS,
) -> Manifest:
    """Land what arrived between the newest partition's end and now; one that has landed is returned as it is.

    Parameters
    ----------
    storage
        The data storage; the partition is in the folder `partitions.folder_of` the moment.
    moment
        Of the run; seconds do not count.
    source, mapping
        Where events come from, and what they mean.
    buckets
        Hash buckets of each table.
    since
        Records of an event time before are ignored: the beginning of the training window, UTC.
    fallback
        Why another source than the configured one is read; goes into the manifest.
    keys
        The first that can sign signs the manifest.
    threads
        Blocks decoded at once; default: one for each processor, at most 4.
    terms
        Of the lease: above all, how long another run that lands is waited for.

    Raises
    ------
    SourceError
        The source cannot be read, a later partition has landed already (a backfill reads no source: see
        `partitions_for`), or a landed file was altered.
    BusyError
        Another run lands, and took longer than there was patience for; or it was faster.
    """
    if there := landed_at(storage, moment):
        manifest = manifest_of(storage, there.folder)
        verify(storage, manifest)
        return manifest
    partition = Partition.at(moment)
    threads = threads or min(4, os.cpu_count() or 1)
    with (
        held(storage, LEASE, f"the run {partition.name}", terms) as lease,
        tempfile.TemporaryDirectory(prefix="ltr-landing-") as scratch,
    ):
        if there := landed_at(storage, moment):
            return manifest_of(storage, there.folder)  # another attempt of the same run was faster
        plan = _plan(storage, partition, source, since)
        writers = _Writers(Path(scratch), buckets, Decoder(mapping, plan.since), plan, partition.date)
        writers.add(source.read(plan.range), threads)
        manifest = Manifest(
            date=partition.date,
            run_at=partition.moment,
            range=plan.range,
            since=plan.since,
            mapping_sha256=mapping.sha256,
            buckets=buckets,
            fallback=fallback,
            files=writers.close(),
            **writers.account(),
        )
        manifest = _stored(storage, Chain(storage, keys).sealed(manifest), plan, Path(scratch), lease)
    log.info("events landed", read=manifest.read, quarantined=manifest.quarantined, ignored=manifest.ignored)
    try:
        source.commit(plan.range)
    except SourceError as error:  # the manifest is what counts
        log.warning("the source was not told what has landed", error=str(error))
    return manifest


def _plan(storage: Storage, partition: Partition, source: Source, since: dt.datetime) -> _Plan:
    """Read the stored plan of the partition; make and store it if there is none yet that can be carried out.

    A plan of another source is replaced: a source goes on where the last partition that landed from it ended, so one
    that was only planned is still read by the next run that reads this source. So is a plan that was made before
    another run landed: what it says has landed there, at least in part.
    """
    key = f"{partition.folder}/{RANGE}"
    after = _before(storage, partition)

    def planned() -> bytes:
        span = source.stable_end(cursor(storage, source.name))
        return msgspec.json.format(msgspec.json.encode(_Plan(range=span, since=since, after=after)))

    if not storage.exists(key):
        with suppress(AlreadyExistsError):  # another attempt of the same run was faster
            storage.create(key, planned())
    plan = _read_plan(storage, key)
    if plan.range.source != source.name:
        log.warning("another source is read than was planned", planned=plan.range.source, read=source.name)
    elif plan.after != after:
        log.warning("another run has landed since this one was planned", planned=plan.after, landed=after)
    else:
        return plan
    storage.put(key, planned())
    return _read_plan(storage, key)


def _before(storage: Storage, partition: Partition) -> str:
    """Return the folder of the newest partition, which this one follows; empty for the first.

    Raises
    ------
    SourceError
        That is of a later run.
    """
    before = newest(storage)
    if before and before.moment > partition.moment:
        raise SourceError(
            f"{before.name} has landed already: a run of {partition.name} builds from what landed and reads no source"
        )
    return before.folder if before else ""


def _read_plan(storage: Storage, key: str) -> _Plan:
    try:
        return msgspec.json.decode(storage.get(key), type=_Plan)
    except msgspec.DecodeError as error:
        raise SourceError(f"{storage.uri(key)} was altered ({error}); delete it to start the run over") from error


def cursor(storage: Storage, name: str) -> Sequence[Segment]:
    """Return where the newest partition of a source ends; nothing for the first."""
    for landed in newest_first(storage):
        if (manifest := manifest_of(storage, landed.folder)).range.source == name:
            return manifest.range.segments
    return ()


def _stored(storage: Storage, manifest: Manifest, plan: _Plan, scratch: Path, lease: Lease) -> Manifest:
    """Store the files of a partition, and with its manifest complete it, unless another run has landed meanwhile.

    Returns
    -------
    The manifest that completes it: of another attempt of the same run, if that was faster.
    """
    folder = manifest.partition.folder
    if storage.exists(f"{folder}/{MANIFEST}"):
        return manifest_of(storage, folder)
    ours = {f"{folder}/{info.name}" for info in manifest.files} | {f"{folder}/{RANGE}"}
    for key in set(storage.keys(folder)) - ours:  # of a killed attempt with other settings
        storage.delete(key)
    for info in manifest.files:
        storage.put_file(f"{folder}/{info.name}", scratch / info.name)
    lease.ensure()
    _check_is_next(storage, manifest.partition, plan)
    try:
        storage.create(f"{folder}/{MANIFEST}", encoded(manifest))
    except AlreadyExistsError:
        return manifest_of(storage, folder)
    try:
        _check_is_next(storage, manifest.partition, plan)
    except BusyError:  # it was stopped for longer than it had the lease, or its write was held up for so long
        storage.delete(f"{folder}/{MANIFEST}")
        raise
    return manifest


def _check_is_next(storage: Storage, partition: Partition, plan: _Plan) -> None:
    """Raise BusyError where a partition lies between this one and the one that it follows, or after it."""
    for now in (newest(storage), newest(storage, before=partition.moment)):
        if now and now.folder not in (plan.after, partition.folder):
            raise BusyError(
                f"{now.name} has landed while the run of {partition.name} read the same events, of which it has landed "
                "none; repeat it"
            )


class _Writers:
    """The files of a partition while they are written, and their account."""

    def __init__(self, scratch: Path, buckets: int, decoder: Decoder, plan: _Plan, date: dt.date) -> None:
        self._decoder = decoder
        self._end = dt.datetime.combine(date, dt.time(), dt.UTC) + FUTURE
        self._impressions = BucketWriter(_paths(scratch, IMPRESSIONS, buckets), impression_schema(decoder.shape))
        self._feedback = BucketWriter(_paths(scratch, FEEDBACK, buckets), feedback_schema())
        self._quarantine = (scratch / QUARANTINE).open("wb")
        self._read = 0
        self._reasons: Counter[str] = Counter()
        self._ignored: Counter[str] = Counter()
        self._times: list[dt.datetime] = []
        self._unknown_features: set[str] = set()
        self._unknown_kinds: set[str] = set()
        self._shadowed: Counter[str] = Counter()
        self._future = 0
        self._lost: list[Segment] = list(plan.range.lost)

    def add(self, blocks: Iterable[Block], threads: int) -> None:
        """Add the records of blocks, decoding only a few of them at a time."""
        with ThreadPoolExecutor(threads) as pool:
            pending: deque[Future[tuple[Decoded, Buckets, Buckets]]] = deque()
            for block in blocks:
                self._lost += block.lost
                pending.append(pool.submit(self._decoded, block))
                if len(pending) > threads:
                    self._write(*pending.popleft().result())
            while pending:
                self._write(*pending.popleft().result())

    def _decoded(self, block: Block) -> tuple[Decoded, Buckets, Buckets]:
        decoded = self._decoder.decode(block)
        buckets = len(self._impressions.paths)
        return decoded, in_buckets(decoded.impressions, buckets), in_buckets(decoded.feedback, buckets)

    def _write(self, decoded: Decoded, impressions: Buckets, feedback: Buckets) -> None:
        self._impressions.write(impressions)
        self._feedback.write(feedback)
        for table in (decoded.impressions, decoded.feedback):
            self._note_times(table[TIME])
        self._quarantine.writelines(msgspec.json.encode(record) + b"\n" for record in decoded.quarantined)
        self._read += decoded.read
        self._reasons.update(record.reason for record in decoded.quarantined)
        self._ignored.update(decoded.ignored)
        self._unknown_features = _first_few(self._unknown_features | decoded.unknown_features, MOST_FEATURES)
        self._unknown_kinds = _first_few(self._unknown_kinds | decoded.unknown_kinds, MOST_KINDS)
        self._shadowed.update(decoded.shadowed)

    def _note_times(self, times: pa.ChunkedArray) -> None:
        """Note first and last time, but for those of the future, which would keep the partition in every window."""
        seen = pc.min_max(times).as_py()
        if seen["max"] and seen["max"] >= self._end:
            past = times.filter(pc.less(times, pa.scalar(self._end, times.type)))
            self._future += len(times) - len(past)
            seen = pc.min_max(past).as_py()
        if seen["max"]:
            self._times = [min([*self._times, seen["min"]]), max([*self._times, seen["max"]])]

    def close(self) -> list[FileInfo]:
        """Finish the files; what they are."""
        self._quarantine.close()
        quarantine = file_info(Path(self._quarantine.name), self._reasons.total())
        return [*self._impressions.close(), *self._feedback.close(), quarantine]

    def account(self) -> dict[str, Any]:
        """Return the manifest's fields that count."""
        return {
            "read": self._read,
            "impressions": sum(self._impressions.rows),
            "feedback": sum(self._feedback.rows),
            "quarantined": self._reasons.total(),
            "ignored": self._ignored.total(),
            "quarantine_reasons": dict(sorted(self._reasons.items())),
            "ignored_reasons": dict(sorted(self._ignored.items())),
            "first_time": self._times[0] if self._times else None,
            "last_time": self._times[1] if self._times else None,
            "unknown_features": sorted(self._unknown_features),
            "unknown_kinds": sorted(self._unknown_kinds),
            "shadowed": dict(sorted(self._shadowed.items())),
            "future": self._future,
            "lost": self._lost,
        }


def _first_few(names: set[str], most: int) -> set[str]:
    """Return the first of some names in their order, the same whatever order they are met in."""
    return names if len(names) <= most else set(sorted(names)[:most])


def _paths(scratch: Path, table: str, buckets: int) -> list[Path]:
    return [scratch / file_name(table, bucket) for bucket in range(buckets)]
