"""Events on the local disk until they are delivered: a write-ahead log in segments.

::

    <spool>/<process>/lock              held as long as the process lives
    <spool>/<process>/000000000001.log  a line for each event
    <spool>/<process>/delivered         segment and byte up to which all is delivered

A process writes its own folder only, so nothing needs to be agreed upon. A folder whose lock is free was left by a
process that is gone; whoever gets the lock goes on with it. What is written is in the operating system's hands: it
outlives the process, but not a power cut.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import uuid4

import msgspec
import structlog

__all__ = ["Batch", "Journal", "Record", "abandoned"]

SEGMENT_BYTES: Final = 8 << 20
READ_BYTES: Final = 2 << 20
"""At once; more than the longest line."""

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
        When it was taken in, since 1970.
    key
        Events with one key stay in order: the query.
    line
        The message.
    """

    kind: str
    seconds: float
    key: str
    line: bytes


class Batch(NamedTuple):
    """Some events in order, and the place after each of them, `(segment, byte)`.

    Attributes
    ----------
    torn
        Lines among them that a kill or a full disk left behind, which are no events.
    end
        Place after all that was read.
    """

    records: list[Record]
    places: list[tuple[int, int]]
    torn: int
    end: tuple[int, int]


class Journal:
    """The folder of one process. One thread may append while another reads.

    Make one with `create`, or go on with another's: `abandoned`.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self._ends = {int(path.stem): path.stat().st_size for path in folder.glob("*.log")}
        self._place = self._delivered()
        self._changing = threading.Lock()
        self._taken = sum(self._count(segment) for segment in self._ends)
        self._gone = 0
        self._ahead: Batch | None = None  # read, and not delivered yet

    @classmethod
    def create(cls, root: Path) -> Self:
        """New folder in `root`; OSError when it cannot be made."""
        root.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        new = root / f"{NEW}{name}"
        new.mkdir()
        lock = _locked(new)
        assert lock is not None  # noqa: S101 - nobody else looks at it
        return cls(new.rename(root / name), lock)

    @property
    def waiting(self) -> int:
        """Events that are not delivered."""
        return max(0, self._taken - self._gone)

    @property
    def waiting_bytes(self) -> int:
        """Their bytes on disk."""
        with self._changing:
            segment, offset = self._place
            return sum(end - (offset if number == segment else 0) for number, end in self._ends.items())

    def age(self, now: float) -> float:
        """Seconds since the oldest event was taken in that has been read and is not delivered; 0 when there is none."""
        ahead = self._ahead
        return max(0.0, now - ahead.records[0].seconds) if ahead and ahead.records else 0.0

    def append(self, records: Sequence[Record]) -> None:
        """Write events at once; OSError when the disk does not take all of them: then none of them is there."""
        data = b"".join(map(_line, records))
        with self._changing:
            segment = max(self._ends, default=0)
            if not segment or self._ends[segment] + len(data) > SEGMENT_BYTES:
                segment += 1
            before = self._ends.get(segment, 0)
        path = self._path(segment)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            _write_whole(file, data)
        except OSError:
            self._cut(file, segment, before)
            raise
        finally:
            os.close(file)
        with self._changing:
            self._taken += len(records)
            self._ends[segment] = before + len(data)  # from now on it is read

    def _cut(self, file: int, segment: int, size: int) -> None:
        """Take back what was written of events that did not fit."""
        try:
            os.ftruncate(file, size)
        except OSError:  # then it stays behind, and is torn; what follows begins a new segment
            with self._changing:
                self._ends[segment] = os.fstat(file).st_size
                self._ends[segment + 1] = 0

    def read(self) -> Batch | None:
        """Next events that are not delivered; None when there are none."""
        if self._ahead is None:
            self._ahead = self._read()
        return self._ahead

    def _read(self) -> Batch | None:
        with self._changing:
            segment, offset = self._place
            while offset >= self._ends.get(segment, 0):
                later = [number for number in self._ends if number > segment]
                if not later:
                    return None
                segment, offset = min(later), 0
            size = min(READ_BYTES, self._ends[segment] - offset)
        with self._path(segment).open("rb") as file:
            file.seek(offset)
            return _batch(file.read(size), segment, offset)

    def advance(self, batch: Batch, delivered: int) -> None:
        """Note that the first `delivered` events need not be sent again, and drop segments that are done with."""
        whole = delivered == len(batch.records)
        self._ahead = None
        with self._changing:
            self._place = batch.end if whole else batch.places[delivered - 1]
            self._gone += delivered + (batch.torn if whole else 0)
            done = [number for number in self._ends if number < self._place[0]]
            for segment in done:
                del self._ends[segment]
        for segment in done:
            self._path(segment).unlink(missing_ok=True)
        new = self.folder / f"{DELIVERED}.new"
        try:
            new.write_bytes(msgspec.json.encode(self._place))
            new.rename(self.folder / DELIVERED)
        except OSError as error:  # what is sent twice counts once
            log.warning("what is delivered cannot be noted", folder=str(self.folder), error=str(error))

    def close(self) -> None:
        """Let go of the folder; one with nothing left in it is removed."""
        if not self.waiting_bytes:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _delivered(self) -> tuple[int, int]:
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self.folder / DELIVERED).read_bytes(), type=tuple[int, int])
        return min(self._ends, default=1), 0

    def _count(self, segment: int) -> int:
        """Events of a segment that are not delivered."""
        number, offset = self._place
        if segment < number:
            return 0
        with self._path(segment).open("rb") as file:
            file.seek(offset if segment == number else 0)
            return sum(part.count(b"\n") for part in iter(lambda: file.read(READ_BYTES), b""))

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:012d}.log"


def abandoned(root: Path) -> Iterator[Journal]:
    """Folders that processes which are gone have left, the oldest first; they are this process's from now on."""
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
    """Descriptor of a folder's lock; None when a living process holds it."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if not os.path.lexists(folder / LOCK) or os.fstat(lock).st_ino != (folder / LOCK).stat().st_ino:
        os.close(lock)  # another has finished with the folder just now
        return None
    return lock


def _write_whole(file: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(file, data[written:])


def _line(record: Record) -> bytes:
    key = msgspec.json.encode(record.key)
    return b"%s %.3f %s\t%s\n" % (record.kind.encode(), record.seconds, key, record.line)


def _batch(data: bytes, segment: int, start: int) -> Batch:
    records, places, torn, at = [], [], 0, start
    for line in _whole_lines(data):
        at += len(line)
        record = _record(line)
        if record is None:
            torn += 1
        else:
            records.append(record)
            places.append((segment, at))
    return Batch(records, places, torn, (segment, at))


def _whole_lines(data: bytes) -> Iterable[bytes]:
    """Lines with their ends. Without any line end, all of it: it is torn, for what is read is longer than any line."""
    last = data.rfind(b"\n") + 1
    return data[:last].splitlines(keepends=True) if last else [data]


def _record(line: bytes) -> Record | None:
    head, found, message = line.partition(b"\t")
    parts = head.split(b" ", 2)
    if not found or len(parts) != 3 or not message.endswith(b"}\n"):
        return None
    with suppress(ValueError, msgspec.MsgspecError):
        key = msgspec.json.decode(parts[2], type=str)
        return Record(parts[0].decode("ascii"), float(parts[1]), key, message[:-1])
    return None
