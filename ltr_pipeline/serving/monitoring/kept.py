"""The facts that this process tells: read in the background, exported for Prometheus, and never waited for for long."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from ltr_pipeline.board import shown
from ltr_pipeline.board.facts import Facts, Reader
from ltr_pipeline.board.overview import newest_of_each
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.errors import LtrError, NotFoundError
from ltr_pipeline.monitoring.records import DriftReport, PostedMetrics
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.monitoring.answers import Metrics, Posted
from ltr_pipeline.serving.weights.workers import FOLDER
from ltr_pipeline.settings import Settings

__all__ = ["Kept"]

FRESH_SECONDS: Final = 10.0
"""Facts that are older are read again when somebody asks."""

PATIENCE_SECONDS: Final = 0.1
"""How long who asks waits for that; then the former facts are told."""

FIRST_SECONDS: Final = 10.0
"""The same while there are no facts yet."""

TWICE: Final = dt.timedelta(minutes=1)
"""The same metrics are recorded once in this time: a client that got no answer sends them again."""

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
        self._posting = threading.Lock()
        self._asking = threading.Lock()
        self._asked: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facts")

    def close(self) -> None:
        """Stop reading."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Read what is new, and export it; what cannot be read now stays as it was."""
        with self._reading:
            self._read()
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

    def lists(self) -> Sequence[ShownList]:
        """Return the lists that were shown last, newest first, as of the last `refresh`."""
        return self._lists

    def report(self, date: dt.date | None) -> DriftReport | None:
        """Return the whole report of a day, by default the newest; None without one. StorageError."""
        days = self.facts().drift
        wanted = date or (days[-1].date if days else None)
        return self.reader.drift(wanted) if wanted else None

    def post(self, metrics: Metrics) -> Posted:
        """Record metrics, unless the very same ones were recorded within the last minute.

        Raises
        ------
        StorageError
            They cannot be written.
        """
        with self._posting:
            now = dt.datetime.now(dt.UTC)
            recent = self.reader.history.read(PostedMetrics, (now - TWICE).date())
            same = [one for one in recent if one.metrics == metrics and abs(now - one.at) < TWICE]
            if same:
                said = f"the same metrics were recorded at {same[-1].at:%H:%M:%S} UTC; nothing was added"
                return Posted(recorded=False, metrics=len(metrics), at=same[-1].at, said=said)
            self.reader.history.write(PostedMetrics(date=now.date(), at=now, metrics=metrics), now)
        self._at = -FRESH_SECONDS
        return Posted(recorded=True, metrics=len(metrics), at=now)

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
            self._facts, self._at = _told(before, str(error)), at
            return
        _export(self._facts)

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
            with _turn():
                self._lists = shown.apart(self._settings.data_uri, self._settings.s3) if tags else ()
            self._tags = tags


def _told(facts: Facts, problem: str) -> Facts:
    """Return facts with a problem."""
    return replace(facts, problem=problem)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until no other worker of this service has a child read: together they would take too much memory."""
    folder = os.environ.get(FOLDER)
    if not folder:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Path(folder, "reading").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _export(facts: Facts) -> None:
    """Export what alert rules look at."""
    day = facts.drift[-1] if facts.drift else None
    prometheus.MONITORED.set(facts.looked.timestamp() if facts.looked else 0)
    prometheus.DRIFT.set(day is not None and day.status == "alert")
    prometheus.DRIFTED.set(len(day.alerted) if day else 0)
    alerts = [alert for one in newest_of_each(facts.outcomes) for alert in one.alerts]
    for kind in ("outcome", "early", "calibration"):
        prometheus.OUTCOME_ALERTS.labels(kind).set(sum(alert.kind == kind for alert in alerts))
    prometheus.UNREADABLE.set(facts.unreadable)
