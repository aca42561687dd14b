"""The facts that a process tells: read in the background, and never waited for for long."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import replace
from typing import Final

import structlog

from ltr_pipeline.board import shown
from ltr_pipeline.board.facts import Facts, Reader
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.errors import LtrError, NotFoundError
from ltr_pipeline.monitoring.records import DriftReport
from ltr_pipeline.settings import Settings

__all__ = ["Kept"]

FRESH_SECONDS: Final = 10.0
"""Facts that are older are read again when somebody asks."""

PATIENCE_SECONDS: Final = 0.1
"""How long who asks waits for that; then the former facts are told."""

FIRST_SECONDS: Final = 10.0
"""The same while there are no facts yet."""

log = structlog.get_logger(__name__)


class Kept:
    """Keeps the facts of a process.

    Parameters
    ----------
    settings
        Where data and registry are.
    clock
        Monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self.reader = Reader(settings.data, settings.registry)
        self._facts: Facts | None = None
        self._at = -FRESH_SECONDS
        self._lists: Sequence[ShownList] = ()
        self._tags: dict[str, str] = {}
        self._reading = threading.Lock()
        self._asking = threading.Lock()
        self._asked: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facts")

    def close(self) -> None:
        """Stop reading."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Read what is new; what cannot be read now stays as it was."""
        self.again()
        self.look_for_lists()

    def again(self) -> None:
        """Read the facts now, such as after something was done that they tell of."""
        with self._reading:
            self._read()

    def look_for_lists(self) -> None:
        """Read the shown lists, if any are new; those that cannot be read now stay as they were."""
        try:
            self._read_lists()
        except LtrError as error:
            log.warning("the shown lists cannot be read", error=str(error))

    def facts(self) -> Facts:
        """Return the facts, as fresh as can be had without waiting for long."""
        if self._facts is None or self._clock() - self._at >= FRESH_SECONDS:
            with self._asking:
                if self._asked is None or self._asked.done():
                    self._asked = self._thread.submit(self._read_alone)
                asked = self._asked
            with contextlib.suppress(NotYetError):
                asked.result(FIRST_SECONDS if self._facts is None else PATIENCE_SECONDS)
        return self._facts or Facts(at=dt.datetime.now(dt.UTC), problem="they are being read for the first time")

    def facts_of_now(self) -> Facts:
        """Return the facts with the ledger as it is now, for who is about to act; RegistryError, StorageError."""
        return replace(self.facts(), moves=self.reader.moves())

    def lists(self) -> Sequence[ShownList]:
        """Return the lists that were shown last, newest first, as of the last look."""
        return self._lists

    def report(self, date: dt.date | None) -> DriftReport | None:
        """Return the whole report of a day, by default the newest; None without one. StorageError."""
        days = self.facts().drift
        wanted = date or (days[-1].date if days else None)
        return self.reader.drift(wanted) if wanted else None

    def _forget_age(self) -> None:
        """Let the next who asks have the facts read again."""
        self._at = -FRESH_SECONDS

    def _were_read(self, facts: Facts) -> None:
        """Take note of new facts."""

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        """Wait until a child may read lists."""
        return contextlib.nullcontext()

    def _read_alone(self) -> None:
        with self._reading:
            if self._facts is None or self._clock() - self._at >= FRESH_SECONDS:
                self._read()

    def _read(self) -> None:
        at = self._clock()
        try:
            self._facts, self._at = self.reader.facts(), at
        except LtrError as error:
            log.info("the history cannot be read", error=str(error))
            before = self._facts or Facts(at=dt.datetime.now(dt.UTC))
            self._facts, self._at = replace(before, problem=str(error)), at
            return
        self._were_read(self._facts)

    def _read_lists(self) -> None:
        """Read the shown lists, by a child, if a partition has landed or was changed since."""
        data, tags, changed = self._settings.data, dict[str, str](), False
        for manifest in shown.partitions(data):
            before = self._tags.get(manifest, "")
            with contextlib.suppress(NotFoundError):
                fetched = data.fetch(manifest, before)
                tags[manifest] = fetched.tag if fetched else before
                changed = changed or fetched is not None
        if changed or tags.keys() != self._tags.keys():
            with self._turn():
                self._lists = shown.apart(self._settings.data_uri, self._settings.s3) if tags else ()
            self._tags = tags
