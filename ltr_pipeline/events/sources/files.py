"""Events from files: a growing JSONL log with its rotated predecessors, a folder, or a glob.

A file is recognised by what it begins with and by what stood before the offset read up to, not by its name (`logfile`).
So a log that was renamed, copied or compressed goes on where it was left, and one that was truncated or replaced is
read from its beginning.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events import reasons
from ltr_pipeline.events.source import MAX_LINE_BYTES, Block, Range, Segment, lines_of
from ltr_pipeline.events.sources.logfile import Log, opened, readable

__all__ = ["FileSource", "find"]

log = structlog.get_logger(__name__)

BLOCK_BYTES: Final = 2 << 20
REMEMBERED: Final = 1000
"""Files that are gone and would be recognised if they came back."""

ROTATION: Final = r"([.-]\d[\w.:-]*?)?(\.gz)?"
EVENT_LOG: Final = re.compile(rf"[^.].*\.(jsonl|ndjson|json|log){ROTATION}")
ROTATED: Final = re.compile(ROTATION)


class FileSource:
    """Event logs on a file system.

    Parameters
    ----------
    pattern
        A log (its predecessors beside it belong to it: ``audit.log.1``, ``audit.log.2.gz``, ``audit.log-20250715``), a
        folder (its ``.jsonl``, ``.ndjson``, ``.json`` and ``.log`` files, rotated and compressed ones too), or a glob
        (exactly the files that match).
    closed
        Nobody writes to the files any more: a last line without a line feed is complete.
    """

    name = "files"

    def __init__(self, pattern: str | Path, *, closed: bool = False) -> None:
        self.pattern = str(pattern)
        self.closed = closed

    def stable_end(self, cursor: Sequence[Segment]) -> Range:
        """Return the range from the cursor to the last complete line of each file; files written to last come last.

        Raises
        ------
        SourceError
            There is no such file, or one cannot be read.
        """
        segments = []
        recognised = []
        for path in find(self.pattern):
            with opened(path) as file:
                before = file.recognised(cursor)
                recognised.append(before)
                segments.append(self._segment(file, before))
                if before is None and any(known.source == str(path) for known in cursor):
                    log.info("another file than before: read from its beginning", file=str(path))
        gone = [known for known in cursor if known not in recognised][-REMEMBERED:]
        kept = [msgspec.structs.replace(known, start=known.end) for known in gone]
        return Range(source=self.name, segments=(*kept, *(segment for segment in segments if segment.end)))

    def _segment(self, file: Log, before: Segment | None) -> Segment:
        if before and file.is_unchanged(before):
            return msgspec.structs.replace(before, source=str(file.path), start=before.end)
        start = before.end if before else 0
        end = file.stable_end(start, closed=self.closed)
        return Segment(source=str(file.path), start=start, end=end, identity=file.identity(end))

    def read(self, span: Range) -> Iterator[Block]:
        """Yield the blocks of the range, in order, the same ones each time, wherever the files are by now.

        Raises
        ------
        SourceError
            A file cannot be read, or no longer has what the range names.
        """
        for segment in span.segments:
            if segment.start < segment.end:
                with opened(self._located(segment)) as file:
                    yield from _blocks(file, segment)

    def commit(self, span: Range) -> None:
        """Do nothing: files take no notes."""

    def _located(self, segment: Segment) -> Path:
        for path in self._places(segment):
            with opened(path) as file:
                if file.is_unchanged(segment) or file.has(segment):
                    return path
        raise SourceError(
            f"{segment.source}: the bytes {segment.start} to {segment.end} that this run set out to read are gone; put "
            "the file back, or delete range.json in the run's partition to read what there is now"
        )

    def _places(self, segment: Segment) -> Iterator[Path]:
        """Yield the path where the segment's file was, and then every path where it may be by now."""
        if (before := Path(segment.source)).is_file():
            yield before
        yield from find(self.pattern)


def find(pattern: str) -> list[Path]:
    """Find the event logs of a pattern, each file once, in the order they were last written to.

    Raises
    ------
    SourceError
        There is none, or the folder cannot be read.
    """
    with readable(pattern):
        files: dict[tuple[int, int], tuple[int, str, Path]] = {}
        for path in sorted(_candidates(pattern)):
            try:
                about = path.stat()
            except FileNotFoundError:
                if path.is_symlink():
                    raise
                continue  # rotated away a moment ago
            if stat.S_ISREG(about.st_mode):
                files.setdefault((about.st_dev, about.st_ino), (about.st_mtime_ns, path.name, path))
    if not files:
        raise SourceError(f"{pattern}: no event log there; set LTR_EVENTS_PATH to a log, a folder of logs or a glob")
    return [path for _, _, path in sorted(files.values())]


def _candidates(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        return [file for file in path.iterdir() if EVENT_LOG.fullmatch(file.name)]
    if has_magic(pattern) and not path.exists():
        return [Path(file) for file in glob(pattern, recursive=True)]  # noqa: PTH207 - the pattern may be absolute
    beside = (file for file in path.parent.iterdir() if file.name.startswith(path.name))
    return [file for file in beside if ROTATED.fullmatch(file.name[len(path.name) :])]


def _blocks(file: Log, segment: Segment) -> Iterator[Block]:
    """Cut a segment into blocks of complete lines; of a line too long only the beginning is ever held."""
    offset, data = segment.start, b""
    skipping = False
    for chunk in file.chunks(segment.start, segment.end, BLOCK_BYTES):
        data += chunk
        if skipping:
            rest = data.find(b"\n") + 1
            offset, data, skipping = offset + (rest or len(data)), data[rest or len(data) :], not rest
        cut = data.rfind(b"\n") + 1
        if cut:
            starts = lines_of(data[:cut])
            yield Block(segment.source, segment.partition, data[:cut], starts, starts + offset)
            offset, data = offset + cut, data[cut:]
        if len(data) > MAX_LINE_BYTES:
            yield _too_long(segment, offset, data)
            offset, data = offset + len(data), b""
            skipping = True


def _too_long(segment: Segment, offset: int, data: bytes) -> Block:
    nothing = np.empty(0, np.int64)
    refused = reasons.long_line(segment, offset, data)
    return Block(segment.source, segment.partition, b"", nothing, nothing, (refused,))
