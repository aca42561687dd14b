"""One log file, plain or gzip: where its complete lines end, and whether it is a file seen before."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Final

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events.source import Segment

__all__ = ["Log", "opened", "readable"]

SEAL_BYTES: Final = 1024
"""So many bytes at the beginning of a file, and before an offset in it, identify it."""

STEP_BYTES: Final = 1 << 18
GZIP_MAGIC: Final = b"\x1f\x8b"


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong while reading `path` into a SourceError that says what to do."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)  # a damaged gzip file is an OSError without one
        raise SourceError(f"{path}: {what}; check the file, its permissions, and LTR_EVENTS_PATH") from error
    except (EOFError, zlib.error) as error:
        raise SourceError(f"{path}: damaged compressed data ({error}); replace the file or move it away") from error


@contextmanager
def opened(path: Path) -> Iterator[Log]:
    """Open a log for reading; what goes wrong inside is a SourceError."""
    with readable(path), path.open("rb") as file:
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if compressed else file
        yield Log(path, stream, os.fstat(file.fileno()), compressed=compressed)


class Log:
    """An open log. Offsets are in its uncompressed bytes."""

    def __init__(self, path: Path, stream: BufferedIOBase, about: os.stat_result, *, compressed: bool) -> None:
        self.path = path
        self.compressed = compressed
        self._stream = stream
        self._about = about

    def stable_end(self, start: int, *, closed: bool) -> int:
        """Find where the last complete line at or after `start` ends, now.

        A last line without a line feed is complete in a file that nobody writes to: a closed one, or a whole gzip file.
        """
        if self.compressed:
            return self._compressed_end(start)
        return self._about.st_size if closed else self._plain_end(start)

    def _plain_end(self, start: int) -> int:
        end = self._about.st_size
        while end > start:
            begin = max(start, end - STEP_BYTES)
            feed = self._bytes(begin, end).rfind(b"\n")
            if feed >= 0:
                return begin + feed + 1
            end = begin
        return start

    def _compressed_end(self, start: int) -> int:
        end = at = start
        self._stream.seek(start)
        try:
            while chunk := self._stream.read1(STEP_BYTES):
                feed = chunk.rfind(b"\n")
                end = at + feed + 1 if feed >= 0 else end
                at += len(chunk)
        except EOFError:  # still being compressed
            return end
        return at

    def identity(self, end: int) -> dict[str, str | int]:
        """Note what the file is recognised by once it was read up to `end`."""
        return {**self._seals(end), **self._stat()}

    def is_unchanged(self, segment: Segment) -> bool:
        """Tell whether it is the file that the segment was taken from, not written to since."""
        return all(segment.identity.get(name) == value for name, value in self._stat().items())

    def has(self, segment: Segment) -> bool:
        """Tell whether it holds the bytes that were read up to the segment's end, under whatever name."""
        length = min(SEAL_BYTES, segment.end)
        if _digest(self._bytes(0, length)) != segment.identity.get("head"):
            return False
        return self._seals(segment.end)["tail"] == segment.identity.get("tail")

    def recognised(self, cursor: Sequence[Segment]) -> Segment | None:
        """Find the segment of the cursor that this file goes on from; the furthest of several."""
        for unchanged in filter(self.is_unchanged, cursor):
            return unchanged
        return max(filter(self.has, cursor), key=lambda segment: segment.end, default=None)

    def chunks(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Read from `start` to `end`, adding a line feed where the last line has none."""
        at, chunk = start, b""
        self._stream.seek(start)
        while at < end:
            chunk = self._stream.read(min(size, end - at))
            if not chunk:
                raise SourceError(f"{self.path} became shorter while it was read; the run's retry looks for the rest")
            at += len(chunk)
            yield chunk if at < end or chunk.endswith(b"\n") else chunk + b"\n"

    def _seals(self, end: int) -> dict[str, str | int]:
        length = min(SEAL_BYTES, end)
        return {"head": _digest(self._bytes(0, length)), "tail": _digest(self._bytes(end - length, end))}

    def _stat(self) -> dict[str, str | int]:
        about = self._about
        return {"inode": about.st_ino, "size": about.st_size, "modified": about.st_mtime_ns}

    def _bytes(self, start: int, end: int) -> bytes:
        """Read a stretch; nothing where a gzip file that is still being written does not reach that far."""
        try:
            self._stream.seek(start)
            return self._stream.read(end - start)
        except EOFError:
            return b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
