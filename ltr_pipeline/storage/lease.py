"""A lease: one holder at a time, on any machine, that ends by itself where its holder does.

It is a chain of records, each created once: to take the lease, to renew it and to give it back is to create the next
record. So who takes it and who renews it race for one object, and `Storage.create` lets one of them win. The newest
record counts; older ones are removed, the newest never, so that no number is given twice.

::

    leases/landing/000000041.json   {"holder": "the run 20250715_0215", "place": "process 17 on host", ...}

A lease keeps two holders apart for as long as their clocks go at the same speed. A process that is stopped cannot know
it: whatever must happen once, asks for the time that is left right before, and looks again after.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import msgspec
import structlog

from ltr_pipeline.errors import AlreadyExistsError, BusyError, NotFoundError, StorageError
from ltr_pipeline.storage.base import Storage

__all__ = ["TERMS", "Lease", "Terms", "held"]

log = structlog.get_logger(__name__)

FOLDER: Final = "leases"
LONGEST_PAUSE: Final = 1.0  # seconds between two looks at a lease that another has


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long a lease is had, and waited for; all in seconds.

    Attributes
    ----------
    lasts
        It is free so long after its holder renewed it for the last time.
    longest
        A holder renews it no longer than that, and nobody lets it: what hangs and goes on renewing is in nobody's way.
    patience
        How long it is waited for; None = until it is free, which it is after `longest` and `lasts`.
    """

    lasts: float = 60.0
    longest: float = 600.0
    patience: float | None = None


TERMS: Final = Terms()


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a lease.

    Attributes
    ----------
    holder
        For whom it is held; the same holder may take it from itself, such as a task that is tried again.
    place
        The process that took it.
    hold
        Of this one time that it is held.
    since, renewed
        When it was taken, and when this record was made, UTC.
    lasts
        Seconds after `renewed` until it is free.
    free
        Whether it was given back.
    """

    holder: str
    place: str
    hold: str
    since: dt.datetime
    renewed: dt.datetime
    lasts: float
    free: bool = False

    def __str__(self) -> str:
        times = f"since {self.since:%F %T}, renewed {self.renewed:%F %T} UTC"
        return f"{self.holder} ({self.place}, {times})"


class _Watch:
    """The lease as somebody who waits has seen it: whether its holder may still believe that it has it."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._seen: dict[object, float] = {}  # when a record, or a hold, was first seen

    def is_over(self, number: int, record: _Record, now: dt.datetime, tick: float) -> bool:
        """Tell whether the lease is free.

        By the time that has gone by here since the record was first seen; or at once where the clocks of two machines
        would have to be a whole lease apart.

        Parameters
        ----------
        now
            By this machine's clock, UTC.
        tick
            By a clock that is never set, in seconds.
        """
        lasts, longest = dt.timedelta(seconds=record.lasts), dt.timedelta(seconds=self._terms.longest)
        if record.free or now > record.renewed + 2 * lasts or now > record.since + longest + 2 * lasts:
            return True
        unrenewed = tick - self._seen.setdefault(number, tick)
        held = tick - self._seen.setdefault(record.hold, tick)
        return unrenewed > record.lasts or held > self._terms.longest + record.lasts


class Lease:
    """A lease as one holder has it; `held` takes it and gives it back.

    Parameters
    ----------
    storage
        Where it is kept.
    name
        What it is for: a folder's name.
    holder
        Who wants it, for messages; who is called the same may take it away.
    """

    def __init__(self, storage: Storage, name: str, holder: str, terms: Terms = TERMS) -> None:
        self._storage, self._folder, self._name = storage, f"{FOLDER}/{name}", name
        self._holder, self._terms = holder, terms
        self._place = f"process {os.getpid()} on {socket.gethostname()}"
        self._hold, self._since = "", dt.datetime.now(dt.UTC)
        self._ends = (0.0, 0.0)
        self._renews_until = 0.0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait until the lease is free, and take it.

        Raises
        ------
        BusyError
            It was not free for all the time that there was patience for.
        StorageError
            The storage cannot be read or written.
        """
        watch, begun, told = _Watch(self._terms), time.monotonic(), False
        while True:
            number, record = self._newest()
            if self._is_free(watch, number, record) and self._take_as(number + 1):
                return
            waited = time.monotonic() - begun
            if self._terms.patience is not None and waited >= self._terms.patience:
                raise BusyError(
                    f"{record} has the lease on {self._storage.uri(self._folder)}, which was waited for "
                    f"{waited:.0f} s; it is free {self._terms.longest + self._terms.lasts:.0f} s after it was taken at "
                    "the latest: try again"
                )
            if not told:
                log.info("a lease is waited for", lease=self._name, held_by=str(record))
                told = True
            time.sleep(min(LONGEST_PAUSE, self._terms.lasts / 20))

    def _is_free(self, watch: _Watch, number: int, record: _Record | None) -> bool:
        if record is None or record.holder == self._holder:
            return True
        return watch.is_over(number, record, dt.datetime.now(dt.UTC), time.monotonic())

    def _take_as(self, number: int) -> bool:
        with self._lock:
            hold, since = uuid4().hex, dt.datetime.now(dt.UTC)
            if not self._enter(number, hold, since):
                return False
            self._hold, self._since = hold, since
            self._renews_until = time.monotonic() + self._terms.longest
            return True

    def renew(self) -> bool:
        """Have the lease for longer, and return whether that went: not where another has it, or it was had too long."""
        with self._lock:
            if time.monotonic() > self._renews_until:
                return False
            number, record = self._newest()
            ours = record is not None and record.hold == self._hold
            return ours and self._enter(number + 1, self._hold, self._since)

    def ensure(self) -> None:
        """See to it that half of the time is left at least; take the lease anew where it is not.

        Raises
        ------
        BusyError, StorageError
            As `take`.
        """
        if self.left() < self._terms.lasts / 2 and not self.renew():
            log.warning("a lease was lost, and is taken anew", lease=self._name)
            self.take()

    def left(self) -> float:
        """Return for how many seconds the lease is still had, if nothing renews it; less than 0 where it is lost."""
        tick, now = self._ends
        return min(tick - time.monotonic(), now - time.time())

    def give_back(self) -> None:
        """Let others have the lease at once; where that cannot be written, it ends by itself."""
        with self._lock, suppress(StorageError):
            number, record = self._newest()
            if record is not None and record.hold == self._hold:
                self._enter(number + 1, self._hold, self._since, free=True)

    def _newest(self) -> tuple[int, _Record | None]:
        """Return the newest record and its number, 0 where there is none."""
        number = max(self._numbers(), default=0)
        if not number:
            return 0, None
        now = dt.datetime.now(dt.UTC)
        unknown = _Record(
            holder="somebody", place="", hold=str(number), since=now, renewed=now, lasts=self._terms.lasts
        )
        try:
            return number, msgspec.json.decode(self._storage.get(self._key(number)), type=_Record)
        except (msgspec.DecodeError, NotFoundError):  # of another release; or renewed in this very moment
            return number, unknown

    def _numbers(self) -> list[int]:
        names = (key.rpartition("/")[2].removesuffix(".json") for key in self._storage.keys(self._folder))
        return [int(name) for name in names if name.isdecimal()]

    def _enter(self, number: int, hold: str, since: dt.datetime, *, free: bool = False) -> bool:
        """Create the next record; whether it is ours, and the newest."""
        begun = (time.monotonic(), time.time())
        record = _Record(
            holder=self._holder,
            place=self._place,
            hold=hold,
            since=since,
            renewed=dt.datetime.now(dt.UTC),
            lasts=self._terms.lasts,
            free=free,
        )
        try:
            self._storage.create(self._key(number), msgspec.json.encode(record))
        except AlreadyExistsError:
            return False
        numbers = self._numbers()
        if max(numbers, default=number) != number:  # so late that others have had and removed that number
            return False
        self._ends = (0.0, 0.0) if free else (begun[0] + self._terms.lasts, begun[1] + self._terms.lasts)
        for old in numbers:
            if old < number:
                self._storage.delete(self._key(old))
        return True

    def _key(self, number: int) -> str:
        return f"{self._folder}/{number:09}.json"


@contextmanager
def held(storage: Storage, name: str, holder: str, terms: Terms = TERMS) -> Iterator[Lease]:
    """Hold a lease for the length of a ``with``, renewed by a thread.

    Raises
    ------
    BusyError
        Another had it for longer than there was patience for.
    StorageError
        The storage cannot be read or written.
    """
    lease, over = Lease(storage, name, holder, terms), threading.Event()
    lease.take()
    renewing = threading.Thread(target=_renew, args=(lease, terms, over), name=f"lease-{name}", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        over.set()
        lease.give_back()


def _renew(lease: Lease, terms: Terms, over: threading.Event) -> None:
    """Renew until it is over; a storage that is away for a moment may be back before the lease ends."""
    while not over.wait(terms.lasts / 4):
        try:
            lease.renew()
        except StorageError as error:
            log.warning("a lease could not be renewed", error=str(error))
