"""A program that this process waits for, reading what it prints, and ends with itself."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ltr_pipeline.local.signals import interruptible

__all__ = ["Ended", "follow"]

END_SECONDS: Final = 30.0
"""Longest time that a program which is asked to end may take for it."""


class Ended(NamedTuple):
    """How a program ended: its exit code, negative when it was killed; and whether it was asked to end."""

    code: int
    asked: bool


def follow(
    command: Sequence[str],
    read: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Ended:
    """Run a program until it ends, and hand each line that it prints to `read`.

    When this process is asked to end, as by Ctrl-C, so is the program, and killed if it takes too long.

    Parameters
    ----------
    environment, folder
        Of the program; by default this process's.
    """
    with interruptible():
        process = subprocess.Popen(  # noqa: S603 - our own programs
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            cwd=folder,
        )
        try:
            return Ended(_read(process, read), asked=False)
        except KeyboardInterrupt:
            process.terminate()
            killer = threading.Timer(END_SECONDS, process.kill)
            killer.start()
            try:
                return Ended(_read(process, read), asked=True)
            finally:
                killer.cancel()


def _read(process: subprocess.Popen[str], read: Callable[[str], None]) -> int:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    for line in process.stdout:
        read(line)
    return process.wait()
