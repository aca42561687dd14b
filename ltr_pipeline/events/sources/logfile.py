"""One log file, plain or compressed: where its complete lines end, and whether it is a file seen before."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events.source import Segment
from ltr_pipeline.events.sources.compressed import DAMAGED, uncompressed

__all__ = ["SEAL_BYTES", "STAT", "Log", "digest", "opened", "readable"]

SEAL_BYTES: Final = 1024
"""So many bytes at the beginning of a file, and before an offset in it, identify it."""

STAT: Final = ("inode", "size", "modified")
STEP_BYTES: Final = 1 << 18


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong while reading `path` into a SourceError that says what to do."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)  # a damaged gzip file is an OSError without one
        raise SourceError(f"{path}: {what}; check the file, its permissions, and LTR_EVENTS_PATH") from error
    except DAMAGED as error:
        raise SourceError(f"{path}: damaged compressed data ({error}); replace the file or move it away") from error


@contextmanager
def opened(path: Path) -> Iterator[Log]:
    """Open a log for reading; what goes wrong inside is a SourceError."""
    with readable(path), path.open("rb") as file:
        stream = uncompressed(file)
        yield Log(path, stream or file, os.fstat(file.fileno()), compressed=stream is not None)


class Log:
    """An open log. Offsets are in its uncompressed bytes.

    Attributes
    ----------
    incomplete
        Whether its compressed data ends too early or is damaged, once `stable_end` has looked.
    """

    def __init__(self, path: Path, stream: io.BufferedIOBase, about: os.stat_result, *, compressed: bool) -> None:
        self.path = path
        self.compressed = compressed
        self.incomplete = False
        self._stream = stream
        self._about = about

    def stable_end(self, start: int, *, closed: bool) -> int:
        """Find where the last complete line at or after `start` ends, now.

        A last line without a line feed is complete in a file that nobody writes to: a closed one, or a whole compressed
        file. A damaged one is read as far as it goes.
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
        try:
            self._stream.seek(start)
            while chunk := self._stream.read1(STEP_BYTES):
                feed = chunk.rfind(b"\n")
                end = at + feed + 1 if feed >= 0 else end
                at += len(chunk)
        except DAMAGED as error:  # EOFError: still being compressed, or cut off for good
            if isinstance(error, OSError) and error.errno:
                raise
            self.incomplete = True
            return end
        return at

    def identity(self, end: int) -> dict[str, str | int]:
        """Note what the file is recognised by once it was read up to `end`."""
        return {**self._seals(end), **self._stat(), **({"incomplete": 1} if self.incomplete else {})}

    def is_unchanged(self, segment: Segment) -> bool:
        """Tell whether it is the file that the segment was taken from, not written to since."""
        return all(segment.identity.get(name) == value for name, value in self._stat().items())

    def beginning(self) -> bytes:
        """Return the first bytes, by which it is recognised."""
        return self._bytes(0, SEAL_BYTES)

    def has(self, segment: Segment) -> bool:
        """Tell whether it holds the bytes that were read up to the segment's end, under whatever name."""
        if digest(self._bytes(0, min(SEAL_BYTES, segment.end))) != segment.identity.get("head"):
            return False
        return self._seals(segment.end)["tail"] == segment.identity.get("tail")

    def stat(self) -> tuple[int, int, int]:
        """Return inode, size and time of the last write (ns): a file that has the same was not written to since."""
        return self._about.st_ino, self._about.st_size, self._about.st_mtime_ns

    def line_bytes(self) -> float:
        """Return the mean length of the first lines."""
        begin = self._bytes(0, STEP_BYTES)
        return len(begin) / max(1, begin.count(b"\n"))

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
        return {"head": digest(self._bytes(0, length)), "tail": digest(self._bytes(end - length, end))}

    def _stat(self) -> dict[str, str | int]:
        return dict(zip(STAT, self.stat(), strict=True))

    def _bytes(self, start: int, end: int) -> bytes:
        """Read a stretch; nothing where a compressed file that is cut off or damaged does not reach that far."""
        try:
            self._stream.seek(start)
            return self._stream.read(end - start)
        except DAMAGED as error:
            if isinstance(error, OSError) and error.errno:
                raise
            return b""


def digest(data: bytes) -> str:
    """Return what stands for some bytes in a cursor."""
    return hashlib.sha256(data).hexdigest()[:32]
