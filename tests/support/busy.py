"""A busy machine: loops that take a processor each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["busy"]

SPIN = "print(flush=True)\nwhile True: pass"


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Busy loops in programs beside this one; they are killed at the end, whatever signals this process ignores."""
    with ExitStack() as ending:
        for _ in range(loops):
            command = [sys.executable, "-c", SPIN]
            process = ending.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            ending.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()  # it is at work
        yield
