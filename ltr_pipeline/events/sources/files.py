"""Events from files: a growing JSONL log with its rotated predecessors, a folder, or a glob.

A file is recognised by what it begins with and by what stood before the offset read up to, not by its name (`logfile`).
So a log that was renamed, copied or compressed goes on where it was left, and one that was truncated or replaced is
read from its beginning. A log that is not among the event logs any more is looked for in its folder and the folders in
that, under whatever name. When it is nowhere, what was written to it after the last night is lost, and said to be.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import structlog

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events import reasons
from ltr_pipeline.events.source import MAX_LINE_BYTES, Block, Range, Segment, lines_of
from ltr_pipeline.events.sources.compressed import SUFFIXES
from ltr_pipeline.events.sources.known import Known
from ltr_pipeline.events.sources.logfile import Log, opened, readable

__all__ = ["FileSource", "find"]

log = structlog.get_logger(__name__)

BLOCK_BYTES: Final = 2 << 20
REMEMBERED: Final = 1000
"""Files that are gone and would be recognised if they came back."""

MARK: Final = r"[._-]\d[\w.:-]*?"
"""A number, date or time in the name of a rotated log."""

ROTATION: Final = rf"({MARK})?({SUFFIXES})?"
EVENT_LOG: Final = re.compile(rf"[^.].*\.(jsonl|ndjson|json|log){ROTATION}")
LEAST_LOST: Final = 1  # records of a tail of which nothing is known


class FileSource:
    """Event logs on a file system.

    Parameters
    ----------
    pattern
        A log (its predecessors beside it belong to it: ``audit.log.1``, ``audit.log.2.gz``, ``audit-20250715.log``), a
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
        known = Known(cursor)
        paths = find(self.pattern)
        found = [self._looked_at(path, known) for path in paths]
        missing = _missing(cursor, found)
        if any(self._grew(segment) for segment in missing):
            found = [*self._elsewhere(missing, paths), *found]
            missing = _missing(cursor, found)
        lost = [*self._tails(missing, paths), *(one.cut for one in found if one.cut)]
        for segment in lost:
            log.warning("records are lost", file=segment.source, after_byte=segment.start, estimate=segment.records)
        vanished = {segment.source for segment in lost}
        kept = [
            msgspec.structs.replace(segment, start=segment.end, identity=segment.identity | _told(segment, vanished))
            for segment in missing[-REMEMBERED:]
        ]
        read = (one.segment for one in found if one.segment.end or one.segment.identity.get("incomplete"))
        return Range(source=self.name, segments=(*kept, *read), lost=tuple(lost))

    def _looked_at(self, path: Path, known: Known) -> _Found:
        with opened(path) as file:
            before = known.find(file)
            if before is None and str(path) in known.sources:
                log.info("another file than before: read from its beginning", file=str(path))
            return self._found(file, before)

    def _found(self, file: Log, before: Segment | None) -> _Found:
        if before and file.is_unchanged(before):
            same = msgspec.structs.replace(before, source=str(file.path), start=before.end)
            if same.identity.get("incomplete") != 1:
                return _Found(before, same, None)
            told = msgspec.structs.replace(same, identity=same.identity | {"incomplete": 2})
            return _Found(before, told, _tail(same, 0, LEAST_LOST))
        start = before.end if before else 0
        end = file.stable_end(start, closed=self.closed)
        if file.incomplete:
            log.warning("compressed data ends too early or is damaged: read as far as it goes", file=str(file.path))
        return _Found(before, Segment(source=str(file.path), start=start, end=end, identity=file.identity(end)), None)

    def _grew(self, segment: Segment) -> bool:
        """Return whether a file was still written to when it was read, so that it may have gone on since."""
        if segment.identity.get("lost") or not segment.end:
            return False
        if segment.source == self.pattern:
            return True
        return segment.start < segment.end and segment.start > 0 and not self._is_log()

    def _is_log(self) -> bool:
        """Return whether the pattern is one log, not a folder or a glob."""
        return not Path(self.pattern).is_dir() and (not has_magic(self.pattern) or Path(self.pattern).exists())

    def _elsewhere(self, missing: Sequence[Segment], considered: Sequence[Path]) -> list[_Found]:
        """Look for files that are missing among all files of their folders, and for what was rotated after them."""
        known = Known(missing)
        found: list[tuple[Path, _Found]] = []
        rest: list[Path] = []
        seen = {path.resolve() for path in considered}
        for path in _neighbours({Path(segment.source).parent for segment in missing}):
            if path.resolve() in seen:
                continue
            try:
                with opened(path) as file:
                    before = known.find(file)
                    if before is None:
                        rest.append(path)
                    else:
                        found.append((path, self._found(file, before)))
            except SourceError as error:  # it may be anything
                log.info("a file beside the event log cannot be read", file=str(path), error=str(error))
        for path in [path for path in rest if any(_follows(path, other) for other, _ in found)]:
            with opened(path) as file:
                found.append((path, self._found(file, None)))
        return [one for _, one in sorted(found, key=lambda pair: (pair[0].stat().st_mtime_ns, pair[0].name))]

    def _tails(self, missing: Sequence[Segment], paths: Sequence[Path]) -> Iterator[Segment]:
        """Estimate what was written to files that are nowhere after they were read: as much as the night before."""
        gone = [segment for segment in missing if self._grew(segment)]
        if not gone:
            return
        with opened(paths[-1]) as file:
            line_bytes = max(1.0, file.line_bytes())
        for segment in gone:
            before = segment.end - segment.start if segment.start else min(segment.end, paths[-1].stat().st_size)
            yield _tail(segment, before, max(LEAST_LOST, round(before / line_bytes)))

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
        yield from _neighbours({before.parent})


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
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    rotated = re.compile(rf"{stem}({MARK})?{suffix}{ROTATION}")
    return [file for file in path.parent.iterdir() if rotated.fullmatch(file.name)]


class _Found(NamedTuple):
    """A file of this night: the segment it was recognised by, what is read of it, and what is lost of it."""

    before: Segment | None
    segment: Segment
    cut: Segment | None


def _missing(cursor: Sequence[Segment], found: Sequence[_Found]) -> list[Segment]:
    recognised = {id(one.before) for one in found}
    return [known for known in cursor if id(known) not in recognised]


def _told(segment: Segment, vanished: Collection[str]) -> dict[str, str | int]:
    """Mark a file whose tail was said to be lost, so that it is said once."""
    return {"lost": 1} if segment.source in vanished else {}


def _tail(segment: Segment, size: int, records: int) -> Segment:
    return Segment(source=segment.source, start=segment.end, end=segment.end + size, records=records)


def _neighbours(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of folders and of the folders in them."""
    for folder in sorted(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            inner = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
            yield from (file for file in inner if file.is_file())


def _follows(path: Path, other: Path) -> bool:
    """Return whether a file has the name of another but for numbers, and was written to later."""
    alike = path.parent == other.parent and re.sub(r"\d+", "0", path.name) == re.sub(r"\d+", "0", other.name)
    return alike and path.stat().st_mtime_ns >= other.stat().st_mtime_ns


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
