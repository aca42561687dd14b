"""Forks that die: at any thing they ask the operating system for, or when they are told to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path


def die(root: Path, before: int) -> None:
    """Die right before the `before`-th thing that the operating system is asked to do below `root`."""
    asked = count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(("open", "os.", "tempfile.")) and str(root) in repr(arguments) and next(asked) == before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def fork(act: Callable[[], object]) -> int:
    """Process id of a fork that does nothing but `act`."""
    if child := os.fork():
        return child
    try:
        act()
        os._exit(0)
    finally:
        os._exit(1)


def finish(child: int) -> int:
    """Return how a child ended: 0, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
