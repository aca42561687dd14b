"""Chores that are done again and again, off the requests' path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from ltr_pipeline.errors import LtrError
from ltr_pipeline.runs.names import DECISION_FILE, NIGHTS, moment_of, newest_judged
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


class _Check(msgspec.Struct, frozen=True):
    """A check of the gate, as far as it is exported."""

    name: str
    status: str
    observed: float | None


class _Champion(msgspec.Struct, frozen=True):
    """The version that was in use before a run."""

    version: str
    fairness: _Check


class _Decision(msgspec.Struct, frozen=True):
    """A verdict of the gate, as far as it is exported; reading it whole would load what judges."""

    checks: list[_Check] = []
    champion: _Champion | None = None
    due: bool = True


def look_for_nights(data: Storage, version: str) -> None:
    """Export when a nightly run was last judged, whether a training was due, and how fair it found a version.

    When the runs cannot be read, the last known moment stays and ages.

    Parameters
    ----------
    version
        The weights in use.
    """
    try:
        name = newest_judged(data)
        if name is None:
            return
        prometheus.LAST_JUDGED.set(moment_of(name) or 0)
        decision = msgspec.json.decode(data.get(f"{NIGHTS}/{name}/{DECISION_FILE}"), type=_Decision)
    except (LtrError, msgspec.DecodeError) as error:
        log.info("nightly runs cannot be read", error=str(error))
        return
    found = _fairness(decision, name, version)
    prometheus.NOT_DUE.set(not decision.due)
    prometheus.FAIRNESS_GAP.set(found.observed or 0 if found else 0)
    prometheus.UNFAIR.set(found is not None and found.status == "fail")


def _fairness(decision: _Decision, run: str, version: str) -> _Check | None:
    """Return how fair a run found a version: its own, or the one that was in use before."""
    if decision.champion and decision.champion.version == version:
        return decision.champion.fairness
    own = decision.checks if run == version else []
    return next((check for check in own if check.name == "fairness_gap"), None)
