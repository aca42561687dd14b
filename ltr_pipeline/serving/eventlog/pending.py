"""Answers that wait for the report of what was really shown (``LTR_SHOWN=reported``).

They are in one small database in the spool's folder, because the report may reach another worker than the one that
answered. Services on several machines share no folder: there the report has to reach the machine that answered.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from ltr_pipeline.errors import RequestError
from ltr_pipeline.schema import IMPRESSIONS
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.eventlog.encode import AnsweredList

__all__ = ["NonePending", "Pending"]

FILE: Final = "shown.sqlite3"
MOST: Final = 100_000
"""Answers that are kept at once; newer ones are dropped."""

TABLE: Final = "CREATE TABLE IF NOT EXISTS held (id TEXT PRIMARY KEY, until REAL, list BLOB)"

log = structlog.get_logger(__name__)


class NonePending:
    """In place of `Pending` where all that is returned counts as shown."""

    def keeps(self, _listed: AnsweredList) -> bool:
        """No answer waits."""
        return False

    def keep(self, _listed: AnsweredList) -> bool:
        """Keep nothing."""
        return False

    def take(self, _request_id: str, _items: Sequence[str]) -> AnsweredList | None:
        """Nothing is there."""
        return None

    def settle(self) -> None:
        """Nothing has changed."""

    def close(self) -> None:
        """Nothing is held."""


class Pending(NonePending):
    """Kept answers; what changes until `settle` is one transaction. Used by one thread.

    A database that cannot be used keeps nothing: it is tried again, and the log says so.

    Parameters
    ----------
    folder
        Of the database; made if missing.
    seconds
        How long an answer is kept.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._database: sqlite3.Connection | None = None
        self._room = 0
        self._expire_at = 0.0
        self._failing = False

    def keeps(self, listed: AnsweredList) -> bool:
        """Whether this list waits for a report: a shadow's order, which has an event id of its own, does not."""
        return listed.event_id == listed.request_id

    def keep(self, listed: AnsweredList) -> bool:
        """Keep an answer; False when that is not possible."""
        row = (listed.request_id, time.time() + self._seconds, msgspec.json.encode(listed))
        try:
            database = self._opened()
            if self._room <= 0:
                return False
            database.execute("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", row)
        except (sqlite3.Error, OSError) as error:
            self._note(error)
            return False
        self._room -= 1
        return True

    def take(self, request_id: str, items: Sequence[str]) -> AnsweredList | None:
        """Answer as it was shown, which is kept no longer; None when there is none of that id with those items."""
        try:
            database = self._opened()
            found = database.execute("SELECT list FROM held WHERE id = ?", (request_id,)).fetchone()
            if found is None:
                return None
            listed = msgspec.json.decode(found[0], type=AnsweredList).only(items)
            gone = database.execute("DELETE FROM held WHERE id = ?", (request_id,)).rowcount
        except (sqlite3.Error, OSError) as error:
            self._note(error)
            return None
        except (RequestError, msgspec.MsgspecError) as error:
            log.warning("a report of what was shown is wrong", error=str(error))
            return None
        return listed if gone else None

    def settle(self) -> None:
        """Make all changes since the last time lasting, and now and then forget what nobody reported on."""
        try:
            database = self._opened()
            if time.monotonic() >= self._expire_at:
                self._expire_at = time.monotonic() + min(5.0, self._seconds / 2)
                gone = database.execute("DELETE FROM held WHERE until < ?", (time.time(),)).rowcount
                prometheus.EVENTS.labels(IMPRESSIONS, "expired").inc(gone)
                self._room = MOST - database.execute("SELECT count(*) FROM held").fetchone()[0]
            database.commit()
        except (sqlite3.Error, OSError) as error:
            self._note(error)
        else:
            self._failing = False

    def close(self) -> None:
        """Let go of the database."""
        if self._database is not None:
            self._database.close()

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._folder / FILE, check_same_thread=False)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")  # it outlives the process, as the spool does
            database.execute(TABLE)
            database.commit()
            self._room = MOST - database.execute("SELECT count(*) FROM held").fetchone()[0]
            self._database = database
        return self._database

    def _note(self, error: Exception) -> None:
        if not self._failing:
            log.error("answers cannot be kept for their reports", folder=str(self._folder), error=str(error))
        self._failing = True
        if self._database is not None:
            self._database.close()
            self._database = None
