"""Children that do what takes more memory than who shows pages has: asked by their standard input, once.

Who shows the page calls `answer`; the module that it names ends with `serve`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ltr_pipeline.errors import LtrError, StorageError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage

__all__ = ["Place", "answer", "serve"]

AskedT = TypeVar("AskedT", bound=msgspec.Struct)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a storage is, in a form that a child can be told."""

    uri: str
    s3: dict[str, Any]

    @classmethod
    def of(cls, uri: str, s3: S3Options) -> Place:
        """Return the place at an address."""
        options = asdict(s3)
        return cls(uri=uri, s3={name: str(it) if isinstance(it, Path) else it for name, it in options.items()})

    def open(self) -> Storage:
        """Return the storage there."""
        ca_file = self.s3.get("ca_file")
        return open_storage(self.uri, S3Options(**self.s3 | {"ca_file": Path(ca_file) if ca_file else None}))


def answer(module: str, asked: msgspec.Struct, seconds: float, what: str) -> bytes:
    """Return what a module answers that is run as a program.

    Parameters
    ----------
    asked
        What its standard input gets, as JSON.
    seconds
        How long it may take.
    what
        What it is to do, for the message of an error.

    Raises
    ------
    StorageError
        It ends with an error, or not in time.
    """
    command = [sys.executable, "-m", module]
    told = msgspec.json.encode(asked)
    try:
        done = subprocess.run(command, input=told, capture_output=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise StorageError(f"{what}: no answer within {seconds:.0f} s") from None
    except OSError as error:
        raise StorageError(f"{what}: {error}") from None
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise StorageError(f"{what}: {last}")
    return done.stdout


def serve(asked: type[AskedT], do: Callable[[AskedT], object]) -> None:
    """Be the child: read the question, do what is asked, and write the answer as JSON; an `LtrError` is its last word.

    Parameters
    ----------
    asked
        Form of the question.
    do
        Answers it.
    """
    out = os.dup(1)
    os.dup2(2, 1)  # what is logged or printed must not get into the answer
    try:
        found = do(msgspec.json.decode(sys.stdin.buffer.read(), type=asked))
    except LtrError as error:
        sys.exit(" ".join(str(error).split()))
    with os.fdopen(out, "wb") as answered:
        answered.write(msgspec.json.encode(found))
