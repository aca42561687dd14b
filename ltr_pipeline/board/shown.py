"""The newest lists that people were shown, read from what has landed: a second log of answers there is none.

Reading Parquet takes 50 MB that a process never gives back. Who has no room for them has a child do it (`apart`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any, Final

import msgspec

from ltr_pipeline.board.child import Place, answer, serve
from ltr_pipeline.errors import NotFoundError, StorageError
from ltr_pipeline.events.partitions import MANIFEST, newest_first
from ltr_pipeline.schema import (
    IMPRESSIONS,
    ITEM_ID,
    POLICY,
    POSITION,
    QUERY_ID,
    RANKING_ID,
    SHADOW,
    TIME,
    USER_ID,
)
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.options import S3Options

__all__ = ["MOST", "ShownList", "apart", "newest_lists", "partitions"]

MOST: Final = 1000
"""Lists that are kept: what a worker of the service has room for."""

ITEMS: Final = 10
"""Items of a list that are kept, best first."""

DAYS: Final = 14
"""Days whose partitions are looked into, the newest first."""

PARTITIONS: Final = 48
"""Most partitions that are looked into: where something lands every hour, these are two days."""

CHILD_SECONDS: Final = 120.0

_DAY: Final = 86_400_000_000  # microseconds

_COLUMNS: Final = (QUERY_ID, RANKING_ID, ITEM_ID, USER_ID, TIME, POSITION, POLICY, SHADOW)


class ShownList(msgspec.Struct, frozen=True, kw_only=True):
    """A list that somebody was shown.

    Attributes
    ----------
    version
        What ranked it: a version, ``legacy``, or how two were mixed; None where the events do not say.
    items
        The first of them, best first.
    length
        How many there were.
    """

    at: dt.datetime
    query_id: str
    version: str | None = None
    user_id: str | None = None
    ranking_id: str | None = None
    items: list[str] = []
    length: int = 0


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The question that a child gets by its standard input."""

    place: Place
    most: int


class _File(msgspec.Struct, frozen=True):
    name: str


class _Manifest(msgspec.Struct, frozen=True):
    """The files of a partition: to read the manifest whole would load what lands events."""

    files: list[_File]


def partitions(data: Storage) -> list[str]:
    """Return the keys of the manifests of the newest days' partitions, newest first."""
    days = groupby(newest_first(data), key=lambda one: one.date)
    found = (one for _, of_day in islice(days, DAYS) for one in of_day)
    return [f"{one.folder}/{MANIFEST}" for one in islice(found, PARTITIONS)]


def newest_lists(data: Storage, most: int = MOST) -> list[ShownList]:
    """Return the lists that were shown last, newest first, from the newest partitions.

    Of each file the last rows are read first, as they arrived last; a partition is left once there are enough lists.

    Raises
    ------
    StorageError
        The landed tables cannot be read.
    """
    found: list[ShownList] = []
    for manifest in partitions(data):
        if len(found) >= most:
            break
        found += _of_partition(data, manifest, most - len(found))
    return sorted(found, key=lambda one: one.at, reverse=True)[:most]


def apart(uri: str, s3: S3Options, most: int = MOST) -> list[ShownList]:
    """Return the `newest_lists` of the storage at an address, read by a process of their own.

    Raises
    ------
    StorageError
        They cannot be read, or not in time.
    """
    asked = _Asked(place=Place.of(uri, s3), most=most)
    found = answer("ltr_pipeline.board.shown", asked, CHILD_SECONDS, "the shown lists cannot be read")
    return msgspec.json.decode(found, type=list[ShownList])


def _of_partition(data: Storage, manifest: str, most: int) -> list[ShownList]:
    folder = manifest.rpartition("/")[0]
    try:
        files = [file.name for file in msgspec.json.decode(data.get(manifest), type=_Manifest).files]
    except (NotFoundError, msgspec.DecodeError):  # removed meanwhile, or not ours to read
        return []
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    keys = [f"{folder}/{name}" for name in files if name.startswith(f"{IMPRESSIONS}-")]
    for depth in range(_deepest(data, keys)):
        for key in keys:
            for row in _rows(data, key, depth):
                if not row[SHADOW]:
                    rows.setdefault(_list_of(row), []).append(row)
        if len(rows) >= most:
            break
    return sorted((_shown(own) for own in rows.values()), key=lambda one: one.at, reverse=True)[:most]


def _deepest(data: Storage, keys: Sequence[str]) -> int:
    """Return the largest number of row groups that a file has."""
    return max((_groups(data, key) for key in keys), default=0)


def _groups(data: Storage, key: str) -> int:
    with _opened(data, key) as file:
        return int(file.num_row_groups)


def _rows(data: Storage, key: str, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a row group, counted from the last one; times are microseconds since 1970.

    To make Python's times, pyarrow would import pandas, which takes as much memory as all the rest.
    """
    import pyarrow as pa

    with _opened(data, key) as file:
        if depth < file.num_row_groups:
            columns = list(_COLUMNS)
            table = file.read_row_group(file.num_row_groups - 1 - depth, columns=columns, use_threads=False)
            time = table.schema.get_field_index(TIME)
            table = table.set_column(time, TIME, table.column(time).cast(pa.timestamp("us")).cast(pa.int64()))
            for batch in table.to_batches(max_chunksize=4096):
                yield from batch.to_pylist()


@contextmanager
def _opened(data: Storage, key: str) -> Iterator[Any]:
    """Open a landed table for reading; StorageError when it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with data.local_file(key) as path, pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException, NotFoundError) as error:
        raise StorageError(f"{data.uri(key)} cannot be read: {error}") from error


def _list_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the rows of one shown list have in common."""
    if row[RANKING_ID] is not None:
        return row[QUERY_ID], row[RANKING_ID]
    return row[QUERY_ID], None, row[USER_ID], row[TIME] // _DAY


def _shown(rows: list[dict[str, Any]]) -> ShownList:
    rows.sort(key=lambda row: (row[POSITION] is None, row[POSITION]))
    first = rows[0]
    return ShownList(
        at=dt.datetime.fromtimestamp(first[TIME] / 1e6, dt.UTC),
        query_id=first[QUERY_ID],
        version=first[POLICY],
        user_id=first[USER_ID],
        ranking_id=first[RANKING_ID],
        items=[row[ITEM_ID] for row in rows[:ITEMS]],
        length=len(rows),
    )


if __name__ == "__main__":
    serve(_Asked, lambda asked: newest_lists(asked.place.open(), asked.most))
