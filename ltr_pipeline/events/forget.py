"""Partitions that change after they have landed: to forget a person, or because an operator accepts what is there."""

from __future__ import annotations

import datetime as dt
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from ltr_pipeline.errors import NotFoundError, SourceError
from ltr_pipeline.events.chain import Amendment, Chain, Link
from ltr_pipeline.events.manifest import QUARANTINE, Manifest, decoded, encoded
from ltr_pipeline.events.partitions import MANIFEST, Partition, newest
from ltr_pipeline.events.source import Quarantined
from ltr_pipeline.events.tables import BucketWriter, FileInfo, file_info
from ltr_pipeline.schema import FEEDBACK, IMPRESSIONS, QUERY_ID, RANKING_ID, USER_ID, file_name
from ltr_pipeline.storage.base import Storage

__all__ = ["Forgotten", "accept", "forget"]

log = structlog.get_logger(__name__)

TABLES: Final = (IMPRESSIONS, FEEDBACK)
PLAN: Final = "manifest.next.json"
REMOVED: Final = "(removed to forget a person)"


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of what was removed from one partition."""

    partition: Partition
    impressions: int
    feedback: int
    quarantined: int


def forget(storage: Storage, user_id: str, chain: Chain, *, who: str, why: str) -> list[Forgotten]:
    """Remove everything about a user from what has landed; return what was removed, by partition.

    These are the impressions and interactions with this `user_id`, the interactions without one that belong to a list
    which the user was shown, and the beginnings of quarantined messages that name the user. The files are rewritten,
    and an amendment records the manifest before and after. A call that was killed is completed by the next. The event
    log or topic is not touched: what is read from there again lands again.

    Raises
    ------
    SourceError
        A partition was altered since it landed, so that it cannot be rewritten as what it was.
    """
    found = [_forget_in(storage, link, user_id, chain, who, why) for link in chain.links()]
    return [one for one in found if one]


def accept(storage: Storage, partition: Partition, chain: Chain, *, who: str, why: str) -> None:
    """Accept a partition as it is, and that the one before it may be gone or another: the chain goes on over it.

    Raises
    ------
    SourceError
        Its manifest cannot be read, or one of its files is missing.
    """
    link = chain.link(partition.folder)
    amended = _amender(chain, who, why)
    if (previous := link.manifest.previous) and (expected := chain.current(previous)):
        before = newest(storage, before=partition.moment)
        now = chain.link(before.folder).sha256 if before else None
        if expected != now:
            amended(partition.date, expected, now)
    files = [_as_it_is(storage, link.folder, info) for info in link.manifest.files]
    if files != link.manifest.files:
        _replace(storage, link, msgspec.structs.replace(link.manifest, files=files), chain, amended)


Amend = Callable[[dt.date, str, str | None], None]


def _amender(chain: Chain, who: str, why: str) -> Amend:
    when = dt.datetime.now(dt.UTC)

    def amend(date: dt.date, before: str, after: str | None) -> None:
        chain.amend(Amendment(date=date, before=before, after=after, who=who, when=when, why=why))

    return amend


def _replace(storage: Storage, link: Link, manifest: Manifest, chain: Chain, amend: Amend) -> None:
    """Put a new manifest in the place of a partition's, the amendment first: it is what a killed call leaves."""
    manifest = chain.signed(manifest)
    amend(manifest.date, link.sha256, hashlib.sha256(encoded(manifest)).hexdigest())
    storage.put(f"{link.folder}/{MANIFEST}", encoded(manifest))
    log.info("partition amended", partition=link.folder, forgotten=manifest.forgotten)


def _as_it_is(storage: Storage, folder: str, info: FileInfo) -> FileInfo:
    try:
        with storage.local_file(f"{folder}/{info.name}") as path:
            return msgspec.structs.replace(file_info(path, info.rows), name=info.name)
    except (NotFoundError, OSError) as error:
        raise SourceError(
            f"{storage.uri(folder)}/{info.name} is missing ({error}); restore it, or remove the partition's folder"
        ) from error


def _forget_in(storage: Storage, link: Link, user_id: str, chain: Chain, who: str, why: str) -> Forgotten | None:
    planned = _planned(storage, link)
    _check_files(storage, link, planned)
    with tempfile.TemporaryDirectory(prefix="ltr-forget-") as name:
        scratch = Path(name)
        rewritten = [
            *_tables_without(storage, link, user_id, scratch),
            *_quarantine_without(storage, link, user_id, scratch),
        ]
        if not rewritten and planned is None:
            return None
        new = _after(link.manifest, rewritten)
        if planned is None:
            storage.put(f"{link.folder}/{PLAN}", encoded(new))
        elif any(file.info not in planned.files for file in rewritten):
            raise SourceError(
                f"{storage.uri(link.folder)}: an earlier `ltr forget` was killed there; run that one again first"
            )
        for file in rewritten:
            storage.put_file(f"{link.folder}/{file.info.name}", scratch / file.info.name)
    _replace(storage, link, planned or new, chain, _amender(chain, who, why))
    storage.delete(f"{link.folder}/{PLAN}")
    gone = {table: sum(file.removed for file in rewritten if file.table == table) for table in (*TABLES, QUARANTINE)}
    return Forgotten(
        partition=link.partition,
        impressions=gone[IMPRESSIONS],
        feedback=gone[FEEDBACK],
        quarantined=gone[QUARANTINE],
    )


class _Rewritten(NamedTuple):
    """A file without what was to be forgotten."""

    table: str
    removed: int
    info: FileInfo


def _planned(storage: Storage, link: Link) -> Manifest | None:
    """Read the manifest that a call which was killed was about to write."""
    key = f"{link.folder}/{PLAN}"
    return decoded(storage, key, storage.get(key)) if storage.exists(key) else None


def _check_files(storage: Storage, link: Link, planned: Manifest | None) -> None:
    """Check that every file is as it landed, or as planned by a call that was killed."""
    meant = {info.name: {info.sha256} for info in link.manifest.files}
    for info in planned.files if planned else ():
        meant[info.name].add(info.sha256)
    for info in link.manifest.files:
        if _as_it_is(storage, link.folder, info).sha256 not in meant[info.name]:
            raise SourceError(
                f"{storage.uri(link.folder)}/{info.name} was altered since it landed; restore it from a copy first"
            )


def _after(manifest: Manifest, rewritten: Sequence[_Rewritten]) -> Manifest:
    files = {file.info.name: file.info for file in rewritten}
    gone = Counter[str]()
    for file in rewritten:
        gone[file.table] += file.removed
    return msgspec.structs.replace(
        manifest,
        files=[files.get(info.name, info) for info in manifest.files],
        impressions=manifest.impressions - gone[IMPRESSIONS],
        feedback=manifest.feedback - gone[FEEDBACK],
        forgotten=manifest.forgotten + gone[IMPRESSIONS] + gone[FEEDBACK],
    )


def _tables_without(storage: Storage, link: Link, user_id: str, scratch: Path) -> Iterator[_Rewritten]:
    for bucket in range(link.manifest.buckets):
        shown, acted = (_read(storage, link, table, bucket) for table in TABLES)
        theirs = _is(shown[USER_ID], user_id)
        lists = shown.filter(theirs).select([QUERY_ID, RANKING_ID])
        nameless = pc.and_(pc.is_null(acted[USER_ID]), _belongs(acted, lists))
        for table, rows, gone in (
            (IMPRESSIONS, shown, theirs),
            (FEEDBACK, acted, pc.or_(_is(acted[USER_ID], user_id), nameless)),
        ):
            if removed := pc.sum(gone).as_py() or 0:
                kept = rows.filter(pc.invert(gone))
                writer = BucketWriter([scratch / file_name(table, bucket)], rows.schema)
                writer.write([kept])
                yield _Rewritten(table, removed, writer.close()[0])


def _quarantine_without(storage: Storage, link: Link, user_id: str, scratch: Path) -> Iterator[_Rewritten]:
    with storage.local_file(f"{link.folder}/{QUARANTINE}") as path:
        lines = path.read_bytes().splitlines(keepends=True)
    kept = [_without_excerpt(line, user_id) for line in lines]
    if removed := sum(line != new for line, new in zip(lines, kept, strict=True)):
        (scratch / QUARANTINE).write_bytes(b"".join(kept))
        yield _Rewritten(QUARANTINE, removed, file_info(scratch / QUARANTINE, len(kept)))


def _without_excerpt(line: bytes, user_id: str) -> bytes:
    record = msgspec.json.decode(line, type=Quarantined)
    if user_id not in record.excerpt and user_id not in record.detail:
        return line
    detail = REMOVED if user_id in record.detail else record.detail
    return msgspec.json.encode(msgspec.structs.replace(record, excerpt=REMOVED, detail=detail)) + b"\n"


def _read(storage: Storage, link: Link, table: str, bucket: int) -> pa.Table:
    with storage.local_file(f"{link.folder}/{file_name(table, bucket)}") as path:
        return pq.read_table(path, partitioning=None)


def _is(ids: pa.ChunkedArray, user_id: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(ids, user_id), False)


def _belongs(feedback: pa.Table, lists: pa.Table) -> pa.ChunkedArray:
    """Tell which interactions name one of these lists."""
    known = set(zip(*(lists[name].to_pylist() for name in (QUERY_ID, RANKING_ID)), strict=True))
    named = zip(*(feedback[name].to_pylist() for name in (QUERY_ID, RANKING_ID)), strict=True)
    return pa.chunked_array([pa.array([pair[1] is not None and pair in known for pair in named], pa.bool_())])
