"""The facts that a worker of the service tells, exported for Prometheus, and the metrics that are posted to it."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ltr_pipeline.board import kept
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.overview import newest_of_each
from ltr_pipeline.monitoring.records import PostedMetrics
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.monitoring.answers import Metrics, Posted
from ltr_pipeline.serving.weights.workers import FOLDER
from ltr_pipeline.settings import Settings

__all__ = ["Kept"]

TWICE: Final = dt.timedelta(minutes=1)
"""The same metrics are recorded once in this time: a client that got no answer sends them again."""


class Kept(kept.Kept):
    """Keeps the facts of a worker.

    Parameters
    ----------
    settings
        Where data and registry are.
    clock
        Monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(settings, clock)
        self._posting = threading.Lock()

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
        self._forget_age()
        return Posted(recorded=True, metrics=len(metrics), at=now)

    def _were_read(self, facts: Facts) -> None:
        _export(facts)

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return _turn()


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
