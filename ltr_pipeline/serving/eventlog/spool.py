"""Events on the local disk until they are delivered: a write-ahead log in segments.

::

    <spool>/<process>/lock              locked as long as the process lives
    <spool>/<process>/000000000001.log  a segment: a line for each event
    <spool>/<process>/delivered         segment and byte up to which everything is delivered

A process writes only its own folder, so processes need not agree on anything. A folder whose lock is free was left by a
process that is gone; the first process to get the lock takes it over. The operating system has what is written: it
outlives the process, but not a power cut.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import uuid4

import msgspec
import structlog

__all__ = ["Journal", "Record", "Undelivered", "abandoned", "writing"]

SEGMENT_BYTES: Final = 8 << 20
READ_BYTES: Final = 2 << 20
"""Bytes that are read at once; more than the longest line has."""

PARTS: Final = 512
"""Pieces that are written at once; the operating system takes 1,024."""

LOCK, DELIVERED = "lock", "delivered"
NEW: Final = ".new-"

log = structlog.get_logger(__name__)


class Record(NamedTuple):
    """An event on its way.

    Attributes
    ----------
    kind
        ``impressions`` or ``feedback``.
    seconds
        When the event was taken, in seconds since 1970.
    key
        Events with the same key stay in order; it is the query.
    line
        The message. When it was read from the journal, it is valid until the next read.
    """

    kind: str
    seconds: float
    key: str
    line: bytes | memoryview


class Undelivered(NamedTuple):
    """The next events that are not delivered, in order.

    Attributes
    ----------
    places
        Place after each of them, ``(segment, byte)``.
    torn
        How many lines among them are no events, because a kill or a full disk cut them.
    end
        Place after everything that was read.
    """

    records: list[Record]
    places: list[tuple[int, int]]
    torn: int
    end: tuple[int, int]


class Journal:
    """The folder of one process. One thread may append while another reads.

    Make one with `create`, or take over those of others with `abandoned`.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self._ends = {int(path.stem): path.stat().st_size for path in folder.glob("*.log")}
        self._place = self._delivered()
        self._changing = threading.Lock()
        self._taken = sum(self._count(segment) for segment in self._ends)
        self._gone = 0
        self._appending: tuple[int, int] | None = None  # a segment and its descriptor, kept open
        self._buffer = bytearray()
        self._ahead: Undelivered | None = None  # read into the buffer, and not delivered yet

    @classmethod
    def create(cls, root: Path) -> Self:
        """Make a new folder in `root`; OSError when that is not possible."""
        root.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        new = root / f"{NEW}{name}"
        new.mkdir()
        lock = _locked(new)  # before the folder gets its name, so that nobody takes it over
        assert lock is not None  # noqa: S101 - nobody else looks at it
        return cls(new.rename(root / name), lock)

    @property
    def waiting(self) -> int:
        """Return how many events are not delivered."""
        return max(0, self._taken - self._gone)

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk of the events that are not delivered."""
        with self._changing:
            segment, offset = self._place
            return sum(end - (offset if number == segment else 0) for number, end in self._ends.items())

    def age(self, now: float) -> float:
        """Return how long ago the oldest event was taken that was read and is not delivered; 0 without one."""
        ahead = self._ahead
        return max(0.0, now - ahead.records[0].seconds) if ahead and ahead.records else 0.0

    def append(self, records: Sequence[Record]) -> None:
        """Write events; OSError when the disk does not take all of them, and then none of them is there."""
        parts = [part for record in records for part in _line(record)]
        size = sum(map(len, parts))
        # Choose the segment: the newest, or a new one when they do not fit.
        with self._changing:
            segment = max(self._ends, default=0)
            if not segment or self._ends[segment] + size > SEGMENT_BYTES:
                segment += 1
            before = self._ends.get(segment, 0)
        # Append to it; on an error take back what was written.
        file = self._opened(segment)
        try:
            for _ in writing(file, parts):
                pass
        except BaseException:
            self._cut(file, segment, before)
            raise
        # Move the segment's end: only now the reader goes beyond the former one.
        with self._changing:
            self._taken += len(records)
            self._ends[segment] = before + size

    def _opened(self, segment: int) -> int:
        """Return the descriptor of a segment, which stays open: when no file can be opened any more, this one is."""
        kept = self._appending
        if kept is None or kept[0] != segment or not os.fstat(kept[1]).st_nlink:  # the last: somebody has removed it
            file = os.open(self._path(segment), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            self._close_segment()
            self._appending = kept = (segment, file)
        return kept[1]

    def _close_segment(self) -> None:
        if self._appending is not None:
            os.close(self._appending[1])
            self._appending = None

    def _cut(self, file: int, segment: int, size: int) -> None:
        """Take back the part that was written of events that did not fit."""
        try:
            os.ftruncate(file, size)
        except OSError:  # then it stays as a torn line, and the next events begin a new segment
            with self._changing:
                self._ends[segment] = os.fstat(file).st_size
                self._ends[segment + 1] = 0

    def read(self) -> Undelivered | None:
        """Return the next events that are not delivered, the same until `advance`; None when there are none."""
        if self._ahead is None:
            self._ahead = self._read()
        return self._ahead

    def _read(self) -> Undelivered | None:
        # Find the place: where delivery has come to, or the beginning of the next segment that has anything.
        with self._changing:
            segment, offset = self._place
            while offset >= self._ends.get(segment, 0):
                later = [number for number in self._ends if number > segment]
                if not later:
                    return None
                segment, offset = min(later), 0
            size = min(READ_BYTES, self._ends[segment] - offset)
        # Read whole lines from there, always into the same buffer: new memory each time would cost more.
        self._buffer = self._buffer or bytearray(READ_BYTES)
        with self._path(segment).open("rb", buffering=0) as file:
            file.seek(offset)
            size = file.readinto(memoryview(self._buffer)[:size])
        return _undelivered(self._buffer, size, segment, offset)

    def advance(self, batch: Undelivered, delivered: int) -> None:
        """Note that the first `delivered` events need not be sent again, and delete segments without any others."""
        whole = delivered == len(batch.records)
        self._ahead = None
        # Move the place in memory; whoever delivered all has also passed the torn lines behind.
        with self._changing:
            self._place = batch.end if whole else batch.places[delivered - 1]
            self._gone += delivered + (batch.torn if whole else 0)
            done = [number for number in self._ends if number < self._place[0]]
            for segment in done:
                del self._ends[segment]
        for segment in done:
            self._path(segment).unlink(missing_ok=True)
        # Note the place on disk, for whoever takes the folder over; readers see the former place or the new one.
        new = self.folder / f"{DELIVERED}.new"
        try:
            new.write_bytes(msgspec.json.encode(self._place))
            new.rename(self.folder / DELIVERED)
        except OSError as error:  # events may then be sent twice, and count once
            log.warning("the place of delivery cannot be noted", folder=str(self.folder), error=str(error))

    def close(self) -> None:
        """Release the folder, and remove it when all its events are delivered."""
        self._close_segment()
        if not self.waiting_bytes:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _delivered(self) -> tuple[int, int]:
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self.folder / DELIVERED).read_bytes(), type=tuple[int, int])
        return min(self._ends, default=1), 0

    def _count(self, segment: int) -> int:
        """Count the events of a segment that are not delivered."""
        number, offset = self._place
        if segment < number:
            return 0
        with self._path(segment).open("rb") as file:
            file.seek(offset if segment == number else 0)
            return sum(part.count(b"\n") for part in iter(lambda: file.read(READ_BYTES), b""))

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:012d}.log"


def abandoned(root: Path) -> Iterator[Journal]:
    """Yield the folders that dead processes have left, the oldest first; each belongs to this process from then on."""
    folders = [path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")]
    for folder in sorted(folders, key=_age):
        with suppress(OSError):
            lock = _locked(folder)
            if lock is not None:
                yield Journal(folder, lock)


def _age(folder: Path) -> float:
    with suppress(OSError):
        return folder.stat().st_mtime
    return 0.0


def _locked(folder: Path) -> int | None:
    """Lock a folder and return the lock's descriptor; None when a living process has locked it."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if not os.path.lexists(folder / LOCK) or os.fstat(lock).st_ino != (folder / LOCK).stat().st_ino:
        os.close(lock)  # another process has removed the folder meanwhile, and the lock file with it
        return None
    return lock


def writing(file: int, parts: Sequence[bytes | memoryview]) -> Iterator[int]:
    """Write all parts without joining them, and yield the bytes of each write; OSError when the disk refuses."""
    left = list(parts)
    while left:
        written = os.writev(file, left[:PARTS])
        yield written
        # Drop the parts that were written whole, and cut the one that was written in part.
        whole = 0
        while whole < len(left) and len(left[whole]) <= written:
            written -= len(left[whole])
            whole += 1
        del left[:whole]
        if written:
            left[0] = memoryview(left[0])[written:]


def _line(record: Record) -> tuple[bytes | memoryview, ...]:
    key = msgspec.json.encode(record.key)
    return b"%s %.3f %s\t" % (record.kind.encode(), record.seconds, key), record.line, b"\n"


def _undelivered(data: bytearray, size: int, segment: int, start: int) -> Undelivered:
    """Split what was read, from byte `start` of a segment on, into events; a line without its end is left out."""
    records, places, torn, at = [], [], 0, 0
    while end := data.find(b"\n", at, size) + 1:
        record = _record(data, at, end)
        if record is None:
            torn += 1
        else:
            records.append(record)
            places.append((segment, start + end))
        at = end
    if not at:  # more was read than the longest line has, so a line without an end is torn
        at, torn = size, 1
    return Undelivered(records, places, torn, (segment, start + at))


def _record(data: bytearray, at: int, end: int) -> Record | None:
    """Return the event in the line from `at` to `end`; None when it is torn. The long message is not copied."""
    tab = data.find(b"\t", at, end)
    parts = data[at:tab].split(b" ", 2)
    if tab < 0 or len(parts) != 3 or data[end - 2 : end] != b"}\n":
        return None
    with suppress(ValueError, msgspec.MsgspecError):
        key = msgspec.json.decode(parts[2], type=str)
        return Record(parts[0].decode("ascii"), float(parts[1]), key, memoryview(data)[tab + 1 : end - 1])
    return None
