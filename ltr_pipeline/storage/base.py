"""What every backend promises, and which keys there are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from ltr_pipeline.errors import StorageError

__all__ = ["Fetched", "Storage", "check_key", "check_pointer"]


class Fetched(NamedTuple):
    """An object as it was when its tag was given."""

    data: bytes
    tag: str


class Storage(Protocol):
    """What every backend promises; see the package's table for the atomicity of each verb."""

    def uri(self, key: str = "") -> str:
        """Address of `key` for people and for XCom."""

    def get(self, key: str) -> bytes:
        """Whole object; NotFoundError when absent."""

    def fetch(self, key: str, tag: str = "") -> Fetched | None:
        """Whole object and its tag; None when `tag`, of an earlier fetch, is still its tag. NotFoundError."""

    def put(self, key: str, data: bytes) -> None:
        """Create or replace atomically."""

    def create(self, key: str, data: bytes) -> None:
        """Create atomically; AlreadyExistsError when present."""

    def put_file(self, key: str, path: Path) -> None:
        """Create or replace atomically with the content of a local file."""

    def point(self, key: str, target: str) -> None:
        """Make `key` read as the object `target` of the same name; NotFoundError when there is none."""

    def local_file(self, key: str) -> AbstractContextManager[Path]:
        """Local path with the object's content, not to be written to, until the ``with`` ends; NotFoundError."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys of all objects in the folder `prefix`, recursively."""

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""


def check_key(key: str) -> str:
    """Give `key` back; StorageError when it could lead out of the root."""
    if any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key or "\0" in key:
        raise StorageError(f"{key!r} is not a storage key: use a relative path without '.' or '..'")
    return key


def check_pointer(key: str, target: str) -> None:
    """StorageError unless both are keys of the same name in two different folders."""
    link, other = PurePosixPath(check_key(key)), PurePosixPath(check_key(target))
    if link.name != other.name or link.parent in (other.parent, PurePosixPath()):
        raise StorageError(f"{key!r} cannot point to {target!r}: give the same name in another folder")
