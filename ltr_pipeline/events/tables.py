"""Landed tables: Parquet files, one for each hash bucket of queries."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ltr_pipeline.schema import EVENT_ID, QUERY_ID
from ltr_pipeline.storage.digest import file_sha256

__all__ = ["BucketWriter", "FileInfo", "buckets_of", "file_info", "in_buckets"]

FLUSHED_ROWS: Final = 1 << 18
"""Rows held before they are written: about 40 MB, and row groups of 16,384 rows with 16 buckets."""


class FileInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A landed file: its name in the partition, its rows, and what it must hash to."""

    name: str
    rows: int
    sha256: str


def file_info(path: Path, rows: int) -> FileInfo:
    """Describe a local file."""
    return FileInfo(name=path.name, rows=rows, sha256=file_sha256(path))


def buckets_of(query_ids: pa.Array, buckets: int) -> NDArray[np.int64]:
    """Return the hash bucket of each query; int64, shape (rows,). CRC-32 of the id, so that it is the same for ever.

    >>> buckets_of(pa.array(["case-1", "case-2", "case-1"]), 4).tolist()
    [2, 0, 2]
    """
    encoded = query_ids.dictionary_encode()
    crc = np.fromiter((zlib.crc32(query_id.encode()) for query_id in encoded.dictionary.to_pylist()), np.int64)
    found: NDArray[np.int64] = (crc % buckets)[encoded.indices.to_numpy()]
    return found


def in_buckets(table: pa.Table, buckets: int) -> list[pa.Table]:
    """Return the rows of each bucket, in their order."""
    bucket = buckets_of(pa.concat_arrays([pa.array([], pa.string()), *table[QUERY_ID].chunks]), buckets)
    order = np.argsort(bucket, kind="stable")
    ends = np.searchsorted(bucket[order], np.arange(buckets), side="right").tolist()
    table = table.take(pa.array(order))
    return [table.slice(start, end - start) for start, end in pairwise([0, *ends])]


class BucketWriter:
    """Writes a table in buckets, in order of arrival, holding only about `FLUSHED_ROWS` rows.

    Parameters
    ----------
    paths
        Local file of each bucket; every one is written, if only with a schema.
    schema
        The table's columns.
    """

    def __init__(self, paths: list[Path], schema: pa.Schema) -> None:
        repeated = [field.name for field in schema if field.type == pa.string() and field.name != EVENT_ID]
        self.schema = schema
        self.paths = paths
        self.rows = [0] * len(paths)
        self._writers = [
            pq.ParquetWriter(
                path, schema, compression="zstd", compression_level=1, use_dictionary=repeated, write_statistics=False
            )
            for path in paths
        ]
        self._held: list[list[pa.Table]] = [[] for _ in paths]
        self._held_rows = 0

    def write(self, parts: Sequence[pa.Table]) -> None:
        """Add rows of each bucket."""
        for held, part in zip(self._held, parts, strict=True):
            if part.num_rows:
                held.append(part)
                self._held_rows += part.num_rows
        if self._held_rows >= FLUSHED_ROWS:
            self._flush()

    def close(self) -> list[FileInfo]:
        """Write what is held, and describe all files."""
        self._flush()
        for writer in self._writers:
            writer.close()
        return [file_info(path, rows) for path, rows in zip(self.paths, self.rows, strict=True)]

    def _flush(self) -> None:
        for index, held in enumerate(self._held):
            if held:
                rows = pa.concat_tables(held).combine_chunks()
                self._writers[index].write_table(rows)
                self.rows[index] += rows.num_rows
                held.clear()
        self._held_rows = 0
