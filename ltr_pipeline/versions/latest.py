"""The `latest` pointer, which follows the ledger's newest entry, and the mirror: its copy on this machine.

A process that moves `latest` reads the ledger again afterwards, and any later command completes the move of a process
that was killed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from ltr_pipeline.errors import LtrError, NotFoundError, UnknownVersionError
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.documents import DOCUMENT, Documents, document_key
from ltr_pipeline.versions.ledger import Ledger

__all__ = ["LATEST", "Latest", "mirror_file"]

LATEST: Final = f"latest/{DOCUMENT}"

log = structlog.get_logger(__name__)


def mirror_file(path: Path) -> Path:
    """Return the file that ``WEIGHTS_PATH`` names: `path` if it ends in ``.json``, else the document in that folder.

    >>> mirror_file(Path("ltr_weights.json")), mirror_file(Path("models"))
    (PosixPath('ltr_weights.json'), PosixPath('models/ltr_weights.json'))
    """
    return path if path.suffix == ".json" else path / DOCUMENT


class Latest:
    """Keeps the promoted version's document, byte for byte, where readers find it.

    Parameters
    ----------
    documents
        Documents of all versions.
    ledger
        Ledger that says which version is promoted.
    mirror
        File that also gets the promoted document. When it cannot be written, the log has a warning, and the next
        command repairs it.
    """

    def __init__(self, documents: Documents, ledger: Ledger, mirror: Path | None) -> None:
        self._documents = documents
        self._ledger = ledger
        self._storage = documents.storage
        self.mirror = mirror

    def repair(self) -> bool:
        """Point `latest` at the promoted version, and return whether it had to move.

        The ledger is read again afterwards, until it agrees; the mirror follows `latest`.
        """
        moved = False
        while version := self._ledger.promoted():
            try:
                document = self._documents.read(version)
                if not self._is_latest(document):
                    self._storage.point(LATEST, document_key(version))
                    log.info("latest_moved", version=version)
                    moved = True
                elif self._is_mirrored(version, document):
                    break
            except (NotFoundError, UnknownVersionError):
                if version == self._ledger.promoted():
                    raise
        return moved

    def try_repair(self) -> None:
        """Repair if possible: a reader that cannot write, or a damaged registry, only logs a warning."""
        try:
            self.repair()
        except LtrError as error:
            log.warning("latest_not_repaired", error=str(error))

    def _is_latest(self, document: bytes) -> bool:
        try:
            return self._storage.get(LATEST) == document
        except NotFoundError:
            return False

    def _is_mirrored(self, version: str, document: bytes) -> bool:
        """Return whether the mirror needs nothing more; after writing it, the ledger has to be read again."""
        if self.mirror is None:
            return True
        folder = LocalStorage(self.mirror.parent)
        try:
            if folder.exists(self.mirror.name) and folder.get(self.mirror.name) == document:
                return True
            self._documents.parsed(version, document)
            folder.put(self.mirror.name, document)
        except LtrError as error:
            log.warning("mirror_not_written", version=version, path=str(self.mirror), error=str(error))
            return True
        log.info("mirror_written", version=version, path=str(self.mirror))
        return False
