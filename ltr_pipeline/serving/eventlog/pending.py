"""Pending answers: they wait until somebody reports what was really shown of them (``LTR_SHOWN=reported``).

They are in one small database in the spool's folder, because the report may reach another worker than the one that
answered. Services on several machines share no folder: there the report has to reach the machine that answered.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
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
"""Answers that may be pending at once; newer ones are dropped."""

DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

TABLE: Final = "CREATE TABLE IF NOT EXISTS held (id TEXT PRIMARY KEY, until REAL, list BLOB)"

log = structlog.get_logger(__name__)


class NonePending:
    """Stands in for `Pending` where every returned item counts as shown."""

    def keeps(self, _listed: AnsweredList) -> bool:
        """Return that no answer waits for a report."""
        return False

    def keep(self, _listed: AnsweredList) -> bool:
        """Keep nothing."""
        return False

    def take(self, _request_id: str, _items: Sequence[str]) -> AnsweredList | None:
        """Return that there is no such answer."""
        return None

    def settle(self) -> None:
        """Do nothing: nothing has changed."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


class Pending(NonePending):
    """Keeps pending answers; all changes up to `settle` are one transaction. For one thread.

    When the database cannot be used, answers are not kept, the log says so, and it is tried again. A damaged one is set
    aside, with the answers in it, and a new one is begun.

    Parameters
    ----------
    folder
        Folder of the database; made if missing.
    seconds
        How long an answer waits for its report.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._database: sqlite3.Connection | None = None
        self._inode = 0
        self._room = 0
        self._expire_at = 0.0
        self._failing = False

    def keeps(self, listed: AnsweredList) -> bool:
        """Return whether this list waits for a report; a shadow's order, which has its own event id, does not."""
        return listed.event_id == listed.request_id

    def keep(self, listed: AnsweredList) -> bool:
        """Keep an answer until its report; return False when that is not possible."""
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
        """Take an answer out, as it was shown; None when there is no answer of that id with those items."""
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
            log.warning("a report of what was shown names unknown items, or its answer is damaged", error=str(error))
            return None
        return listed if gone else None

    def settle(self) -> None:
        """Commit all changes since the last time, and now and then forget answers without a report."""
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
        """Close the database."""
        if self._database is not None:
            self._database.close()

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._folder / FILE, check_same_thread=False)
            self._inode = (self._folder / FILE).stat().st_ino
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")  # it outlives the process, as the spool does
            database.execute(TABLE)
            database.commit()
            self._room = MOST - database.execute("SELECT count(*) FROM held").fetchone()[0]
            self._database = database
        return self._database

    def _note(self, error: Exception) -> None:
        if not self._failing:
            log.error("answers cannot be kept until their reports come", folder=str(self._folder), error=str(error))
        self._failing = True
        if self._database is not None:
            self._database.close()
            self._database = None
        if isinstance(error, sqlite3.Error) and error.sqlite_errorcode in DAMAGED:
            self._set_aside()

    def _set_aside(self) -> None:
        """Rename a damaged database, unless another worker has done so and begun a new one."""
        path = self._folder / FILE
        with suppress(OSError):
            if path.stat().st_ino == self._inode:
                aside = path.rename(path.with_name(f"{FILE}.damaged-{time.time():.0f}"))
                for beside in ("-wal", "-shm"):
                    path.with_name(f"{FILE}{beside}").unlink(missing_ok=True)
                log.error("damaged answers were set aside: their reports will find nothing", file=str(aside))
