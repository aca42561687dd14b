"""Chores that are done again and again, off the requests' path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from ltr_pipeline.errors import LtrError
from ltr_pipeline.runs.names import last_judged
from ltr_pipeline.serving import prometheus
from ltr_pipeline.storage.base import Storage

__all__ = ["Periodic", "look_for_nights"]

STOP_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Periodic:
    """Calls some functions at once and then every `seconds`, in one thread."""

    def __init__(self, seconds: float, calls: Sequence[Callable[[], None]]) -> None:
        self._seconds = seconds
        self._calls = calls
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="periodic", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; a call under way is waited for a few seconds at most."""
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for call in self._calls:
                try:
                    call()
                except Exception:  # a call that fails must not end the others
                    log.exception("periodic work failed")
            self._stopped.wait(self._seconds)


def look_for_nights(data: Storage) -> None:
    """Export when a nightly run was last judged; when the runs cannot be read, the last known moment stays and ages."""
    try:
        moment = last_judged(data)
    except LtrError as error:
        log.info("nightly runs cannot be read", error=str(error))
        return
    if moment is not None:
        prometheus.LAST_JUDGED.set(moment)
