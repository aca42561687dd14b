"""A lock that one process of this machine has at a time; whoever is refused learns who has it."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ltr_pipeline.errors import ProgramError

__all__ = ["held", "is_held"]


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file; ProgramError, which says `what` is under way, when another process does.

    The system releases it when the process ends, however that is. The file stays, as another may have opened it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ProgramError(f"{what} is under way: {holder}; wait until it has ended, or stop it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC\n")
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock of a file now."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
