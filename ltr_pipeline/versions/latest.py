"""The `latest` pointer, which follows the ledger's newest entry, and the mirror: its copy on this machine.

A process that moves `latest` reads the ledger again afterwards, and any later command that writes completes the move of
a process that was killed. Only a document that is whole and is the one that was published gets there: where the version
itself was damaged, `latest` may be the last good copy of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from ltr_pipeline.errors import LtrError, NotFoundError, UnknownVersionError, WeightsError
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.documents import DOCUMENT, Documents, document_key
from ltr_pipeline.versions.ledger import Ledger

__all__ = ["LATEST", "Latest", "mirror_file", "replaced"]

LATEST: Final = f"latest/{DOCUMENT}"

log = structlog.get_logger(__name__)


def mirror_file(path: Path) -> Path:
    """Return the file that ``WEIGHTS_PATH`` names: `path` if it ends in ``.json``, else the document in that folder.

    >>> mirror_file(Path("ltr_weights.json")), mirror_file(Path("models"))
    (PosixPath('ltr_weights.json'), PosixPath('models/ltr_weights.json'))
    """
    return path if path.suffix == ".json" else path / DOCUMENT


def replaced(version: str) -> str:
    """Say that a version's document is another than the one that was published."""
    return f"{version} is not the document that was published: its sha256 differs from the ledger's; restore it"


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

        Raises
        ------
        WeightsError
            The promoted version's document is damaged or was replaced; `latest` and the mirror stay as they are.
        """
        moved = False
        while version := self._ledger.promoted():
            try:
                document = self._documents.read(version)
                if not self._is_latest(document):
                    self._check(version, document)
                    self._storage.point(LATEST, document_key(version))
                    log.info("latest_moved", version=version)
                    moved = True
                elif self._is_mirrored(version, document):
                    break
            except (NotFoundError, UnknownVersionError):
                if version == self._ledger.promoted():
                    raise
        return moved

    def problem(self) -> str | None:
        """Say why `latest` is not the promoted version's document, without changing anything; None when it is."""
        version = self._ledger.promoted()
        try:
            if version is None or self._is_latest(self._documents.read(version)):
                return None
        except LtrError as error:
            return str(error)
        return f"{self._storage.uri(LATEST)} is not {version}, as the ledger has it; `ltr repair` points it there"

    def _check(self, version: str, document: bytes) -> None:
        """Check that a document is whole, and the one that was published."""
        sha256 = self._documents.parsed(version, document).sha256
        entry = self._ledger.published_or_pruned(self._ledger.head(), version)
        if entry and entry.move == "publish" and entry.sha256 != sha256:
            raise WeightsError(replaced(version))

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
            self._check(version, document)
            folder.put(self.mirror.name, document)
        except LtrError as error:
            log.warning("mirror_not_written", version=version, path=str(self.mirror), error=str(error))
            return True
        log.info("mirror_written", version=version, path=str(self.mirror))
        return False
