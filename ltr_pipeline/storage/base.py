"""The promises of every backend, and the check of keys."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from ltr_pipeline.errors import StorageError

__all__ = ["Fetched", "Storage", "check_key", "check_pointer"]


class Fetched(NamedTuple):
    """An object, and a tag that changes when the object does."""

    data: bytes
    tag: str


class Storage(Protocol):
    """The operations of every backend; the package's table says how atomic each one is."""

    def uri(self, key: str = "") -> str:
        """Return the address of `key`, for people and for XCom."""

    def get(self, key: str) -> bytes:
        """Read the whole object; NotFoundError when there is none."""

    def fetch(self, key: str, tag: str = "") -> Fetched | None:
        """Read the whole object with its tag; None while it still has `tag`, of an earlier fetch. NotFoundError."""

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object atomically."""

    def create(self, key: str, data: bytes) -> None:
        """Create the object atomically; AlreadyExistsError when there is one."""

    def put_file(self, key: str, path: Path) -> None:
        """Create or replace the object atomically with the content of a local file."""

    def point(self, key: str, target: str) -> None:
        """Make `key` read as the object `target` of the same name; NotFoundError when there is none."""

    def local_file(self, key: str) -> AbstractContextManager[Path]:
        """Yield a local path to the object's content for reading only, until the ``with`` ends; NotFoundError."""

    def exists(self, key: str) -> bool:
        """Return whether the object is there."""

    def keys(self, prefix: str = "") -> list[str]:
        """Return the sorted keys of all objects in the folder `prefix`, recursively."""

    def folders(self, prefix: str = "") -> list[str]:
        """Return the sorted names of the folders directly in the folder `prefix`; empty ones may be among them."""

    def delete(self, key: str) -> None:
        """Remove the object, if it is there."""


def check_key(key: str) -> str:
    """Return `key`; StorageError when it could lead out of the root."""
    if any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or "\0" in key:
        raise StorageError(f"{key!r} is not a storage key: use a relative path without '.' or '..'")
    return key


def check_pointer(key: str, target: str) -> None:
    """Raise StorageError unless both are keys of the same name in two different folders."""
    link, other = PurePosixPath(check_key(key)), PurePosixPath(check_key(target))
    if link.name != other.name or link.parent in (other.parent, PurePosixPath()):
        raise StorageError(f"{key!r} cannot point to {target!r}: give the same name in another folder")
