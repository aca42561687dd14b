"""Notes between the workers of one service: to look for weights now, and which weights are bad.

The notes are files in a folder, as workers share nothing else. A worker that was started anew finds the bad weights
that are known already.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import structlog

from ltr_pipeline.errors import NotFoundError, StorageError
from ltr_pipeline.storage.local import LocalStorage

__all__ = ["FOLDER", "Call", "Refused", "Workers"]

FOLDER: Final = "LTR_SERVE_WORKERS_FOLDER"
"""Variable by which the program tells its workers where the notes are; not for users."""

CALL: Final = "call"
REFUSED: Final = "refused"
TRIED: Final = "tried"

log = structlog.get_logger(__name__)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A document that is not tried again, and why."""

    version: str
    reason: str


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call to look for weights now; with `forgive`, documents that were refused get another chance."""

    id: str
    forgive: bool


class Workers:
    """The other workers of this service, reached by notes in a folder; without a folder there are none.

    Parameters
    ----------
    folder
        Folder of the notes, on a disk that all workers see.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._notes = LocalStorage(folder) if folder else None
        self._heard: Call | None = None
        self.called()

    @classmethod
    def of_this_service(cls) -> Workers:
        """Make it from the folder that the program has given its workers."""
        return cls(Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None)

    def call(self, *, forgive: bool = False) -> None:
        """Ask every other worker to look for weights now, and with `forgive` to try refused documents again."""
        if self._notes is None:
            return
        for key in self._notes.keys(REFUSED) if forgive else ():
            self._notes.delete(key)
        self._heard = Call(id=uuid4().hex, forgive=forgive)
        self._notes.put(CALL, msgspec.json.encode(self._heard))

    def called(self) -> Call | None:
        """Return another worker's call that was not heard yet; None when there is none."""
        if self._notes is None:
            return None
        try:
            call = msgspec.json.decode(self._notes.get(CALL), type=Call)
        except NotFoundError:
            return None
        if call == self._heard:
            return None
        self._heard = call
        return call

    def refuse(self, sha256: str, refused: Refused) -> None:
        """Tell every worker that a document is bad; when the note cannot be written, they find out by themselves."""
        if self._notes is None:
            return
        try:
            self._notes.put(f"{REFUSED}/{sha256}", msgspec.json.encode(refused))
        except StorageError as error:
            log.warning("other workers were not told of bad weights", sha256=sha256, error=str(error))

    def try_passed(self, sha256: str) -> None:
        """Tell every worker that a document need not be tried again; when the note cannot be written, they try it."""
        if self._notes is not None and not self.tried(sha256):
            with suppress(StorageError):
                self._notes.put(f"{TRIED}/{sha256}", b"")

    def tried(self, sha256: str) -> bool:
        """Return whether a worker has tried a document, and it is good."""
        return self._notes is not None and self._notes.exists(f"{TRIED}/{sha256}")

    def refused(self) -> dict[str, Refused]:
        """Return the documents that any worker has refused, by sha256."""
        found: dict[str, Refused] = {}
        if self._notes is None:
            return found
        for key in self._notes.keys(REFUSED):
            try:
                found[key.removeprefix(f"{REFUSED}/")] = msgspec.json.decode(self._notes.get(key), type=Refused)
            except NotFoundError:  # taken down in between
                continue
        return found
