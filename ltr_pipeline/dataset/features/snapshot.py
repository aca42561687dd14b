"""The part of a feature table that a run needs, frozen when it is first read: a retried build joins the same."""

from __future__ import annotations

import datetime as dt
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from ltr_pipeline.dataset.features.source import ENTITY, PROBLEM, SINCE, Sources, opened, telling
from ltr_pipeline.errors import DatasetError, NotFoundError
from ltr_pipeline.mapping import FeatureTable
from ltr_pipeline.storage.base import Storage

__all__ = ["PREFIX", "Snapshot", "count", "frozen"]

PREFIX: Final = "feature-table-"
"""How the names of the files begin: the kept rows, and what was found, in JSON."""

_ROW_GROUP: Final = 2**16


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of what was found in a feature table, and of what was kept for a run.

    Attributes
    ----------
    key
        Of the kept rows, in the data storage.
    sha256
        Of that file.
    rows
        All that the table had.
    kept
        Those that some list of the window may have been shown with.
    future
        Rows of the end of the window or later: nothing of the window may know them.
    unplaced
        Rows without an id or a time, which belong nowhere.
    """

    key: str
    sha256: str
    rows: int
    kept: int
    future: int
    unplaced: int

    @contextmanager
    def local(self, data: Storage) -> Iterator[Path]:
        """Yield the kept rows as a local Parquet file; DatasetError when they are gone or were altered."""
        try:
            with data.local_file(self.key) as path:
                if _sha256(path) != self.sha256:
                    raise DatasetError(f"{data.uri(self.key)} was altered since it was written; run the day anew")
                yield path
        except NotFoundError as error:
            raise DatasetError(f"{error}: a feature table's rows of this run; run the day anew") from error


def frozen(
    table: FeatureTable, sources: Sources, data: Storage, folder: str, start: dt.datetime, end: dt.datetime
) -> Snapshot:
    """Keep the rows of a table that lists shown in ``[start, end)`` may need, or find those that were kept before.

    Rows keep the order they have; memory stays that of a part of the table.

    Parameters
    ----------
    folder
        Where to keep them; another declaration of the table is kept beside this one.

    Raises
    ------
    DatasetError
        The table cannot be read, or a value of it.
    """
    declared = hashlib.sha256(msgspec.json.encode((table, start, end))).hexdigest()[:12]
    key = f"{folder}/{PREFIX}{table.name}-{declared}"
    try:
        return msgspec.json.decode(data.get(f"{key}.json"), type=Snapshot)
    except NotFoundError:
        snapshot = _kept(table, sources, data, f"{key}.parquet", start, end)
    data.put(f"{key}.json", msgspec.json.encode(snapshot))
    return snapshot


def _kept(
    table: FeatureTable, sources: Sources, data: Storage, key: str, start: dt.datetime, end: dt.datetime
) -> Snapshot:
    with opened(table, sources) as found, tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.parquet"
        rows, future, unplaced = count(found, table, end)
        needed = pl.col(ENTITY).is_not_null() & (pl.col(SINCE) >= start - table.tolerance) & (pl.col(SINCE) < end)
        with telling(table):
            found.filter(needed).drop(PROBLEM).sink_parquet(path, compression="lz4", row_group_size=_ROW_GROUP)
            kept = pl.scan_parquet(path).select(pl.len()).collect().item()
        data.put_file(key, path)
        return Snapshot(key=key, sha256=_sha256(path), rows=rows, kept=kept, future=future, unplaced=unplaced)


def count(found: pl.LazyFrame, table: FeatureTable, end: dt.datetime) -> tuple[int, int, int]:
    """Count the rows of an opened table, those of `end` or later, and those without an id or a time.

    Raises
    ------
    DatasetError
        A value cannot be read.
    """
    unplaced = pl.col(ENTITY).is_null() | pl.col(SINCE).is_null()
    with telling(table):
        told = found.select(
            rows=pl.len(),
            future=(pl.col(SINCE) >= end).sum(),
            unplaced=unplaced.sum(),
            wrong=pl.col(PROBLEM).count(),
            problem=pl.col(PROBLEM).drop_nulls().first(),
        ).collect(engine="streaming")
    (counts,) = told.to_dicts()
    if more := counts["wrong"]:
        like = f", nor can something in {more - 1:,} more rows" if more > 1 else ""
        raise DatasetError(
            f"feature table {table.name}: {counts['problem']}, which cannot be read{like}; give a finite number, a "
            "time, or nothing"
        )
    return counts["rows"], counts["future"], counts["unplaced"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
