"""The digest of a file, by which it is told whether it is still as it was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["file_sha256"]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a local file, in hex, without reading it whole into memory; OSError where it is not there.

    >>> file_sha256(Path("/dev/null"))[:16]
    'e3b0c44298fc1c14'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
