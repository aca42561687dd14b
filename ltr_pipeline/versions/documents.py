"""The documents of all versions, under their ids, and the tombstones of those that were pruned.

::

    20250714_0215/ltr_weights.json     a version: created once, never overwritten
    20250714_0215/report.html          an attachment, created once like it
    20240101_0215/pruned.json          a tombstone: the id of a pruned version is never used again
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Final, NamedTuple

import msgspec
import structlog

from ltr_pipeline.errors import AlreadyExistsError, NotFoundError, RegistryError, UnknownVersionError, WeightsError
from ltr_pipeline.signing import Key, as_keys
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.weights import Weights, decode, encode

__all__ = [
    "DOCUMENT",
    "Documents",
    "Stored",
    "Tombstone",
    "document_key",
    "half_pruned_ids",
    "is_id",
    "stored_ids",
]

DOCUMENT: Final = "ltr_weights.json"
PRUNED: Final = "pruned.json"

log = structlog.get_logger(__name__)


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """The record that stays of a pruned version; `identity` is null when its document could not be read."""

    version: str
    identity: str | None
    when: datetime
    who: str

    def __str__(self) -> str:
        return f"{self.version} was pruned on {self.when:%F %R} UTC by {self.who}"


class Stored(NamedTuple):
    """A document that was read, and the SHA-256 of its file."""

    weights: Weights
    sha256: str


class Documents:
    """Documents, attachments and tombstones, one folder a version.

    Parameters
    ----------
    storage
        Storage whose root is the model's folder.
    keys
        With keys the first signs every document, and a document that none of them signed is refused (`weights.decode`).
    """

    def __init__(self, storage: Storage, keys: Sequence[Key | bytes] = ()) -> None:
        self.storage = storage
        self.keys = as_keys(keys)

    def create(self, document: Weights) -> tuple[str, bool]:
        """Store a document under its version, or under ``_2``, ``_3``, ... when another document has that one.

        Returns
        -------
        version, new
            The version that holds this result, and whether this call created it. A result of the same identity that
            is there already, or was there until it was pruned, stays as it is.
        """
        time = Version.parse(document.version).time
        for version in (str(Version(time, number)) for number in count(1)):
            data = encode(msgspec.structs.replace(document, version=version), self.keys)
            tombstone = self.tombstone(version)
            if not tombstone:
                try:
                    self.storage.create(document_key(version), data)
                except AlreadyExistsError:
                    if self._identity(version) == document.identity:
                        return version, False
                    continue
                tombstone = self.tombstone(version)  # of a prune that has freed the name meanwhile
                if not tombstone:
                    log.info("version_created", version=version, bytes=len(data))
                    return version, True
                self.storage.delete(document_key(version))
            if tombstone.identity == document.identity:
                return version, False
        raise AssertionError("count() does not end")

    def read(self, version: str) -> bytes:
        """Read the document of a version without checking it; UnknownVersionError when there is none."""
        Version.parse(version)
        try:
            return self.storage.get(document_key(version))
        except NotFoundError as error:
            if tombstone := self.tombstone(version):
                raise UnknownVersionError(f"{tombstone}; choose one of `ltr versions`") from error
            raise UnknownVersionError(
                f"no version {version} in {self.storage.uri()}; `ltr versions` lists those there are"
            ) from error

    def stored(self, version: str) -> Stored:
        """Read and parse the document of a version; UnknownVersionError, or WeightsError when it was altered."""
        return self.parsed(version, self.read(version))

    def parsed(self, version: str, data: bytes) -> Stored:
        """Parse `data` as the document of `version`; WeightsError when it was altered or is another version's."""
        uri = self.storage.uri(document_key(version))
        weights = decode(data, where=uri, keys=self.keys)
        if weights.version != version:
            raise WeightsError(f"{uri} holds version {weights.version}; restore it from a copy")
        return Stored(weights, hashlib.sha256(data).hexdigest())

    def attach(self, version: str, name: str, data: bytes) -> None:
        """Store a file, such as the report, beside the document; a file of this name that is there already stays.

        Nothing is stored beside a pruned version.
        """
        if self.tombstone(version):
            return
        self.read(version)
        with suppress(AlreadyExistsError):
            self.storage.create(f"{version}/{name}", data)

    def tombstone(self, version: str) -> Tombstone | None:
        """Read the tombstone of a pruned version; None for any other version. RegistryError when it was altered."""
        Version.parse(version)
        try:
            return msgspec.json.decode(self.storage.get(f"{version}/{PRUNED}"), type=Tombstone)
        except NotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            uri = self.storage.uri(f"{version}/{PRUNED}")
            raise RegistryError(f"{uri} was altered or truncated: {error}; restore it from a copy") from error

    def prune(self, version: str, *, when: datetime, who: str) -> None:
        """Remove the files of a version that is pruned by the ledger; first a tombstone takes its id for good."""
        tombstone = Tombstone(version=version, identity=self._identity(version), when=when, who=who)
        with suppress(AlreadyExistsError):
            self.storage.create(f"{version}/{PRUNED}", msgspec.json.encode(tombstone))
        for key in self.storage.keys(version):
            if key != f"{version}/{PRUNED}":
                self.storage.delete(key)
        log.info("version_pruned", version=version)

    def _identity(self, version: str) -> str | None:
        try:
            return self.stored(version).weights.identity
        except (UnknownVersionError, WeightsError) as error:
            log.warning("version_unreadable", version=version, error=str(error))
            return None


def document_key(version: str) -> str:
    """Return the storage key of a version's document."""
    return f"{version}/{DOCUMENT}"


def stored_ids(keys: Sequence[str]) -> list[str]:
    """Return the versions that have a document among the keys of a registry, newest first."""
    return sorted(filter(is_id, _folders(keys, DOCUMENT) - _folders(keys, PRUNED)), key=Version.parse, reverse=True)


def half_pruned_ids(keys: Sequence[str]) -> list[str]:
    """Return the pruned versions that still have a document among the keys, left by a prune that was killed."""
    return sorted(filter(is_id, _folders(keys, DOCUMENT) & _folders(keys, PRUNED)))


def _folders(keys: Sequence[str], name: str) -> set[str]:
    return {key.removesuffix(f"/{name}") for key in keys if key.endswith(f"/{name}")}


def is_id(name: str) -> bool:
    """Return whether a folder of this name is a version's."""
    try:
        Version.parse(name)
    except UnknownVersionError:
        return False
    return True
