"""How a program of this machine is asked to end: by signals, or by the end of the one that started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

__all__ = ["end_with", "ignore", "interrupt", "interruptible"]

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PDEATHSIG: Final = 1  # of prctl(2), which Linux has


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let whatever signal asks this process to end `interrupt` it; what it is started to ignore stays ignored."""
    former = {each: handler for each in ENDING if (handler := signal.getsignal(each)) is not signal.SIG_IGN}
    for each in former:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def interrupt(number: int = signal.SIGTERM, _frame: FrameType | None = None) -> NoReturn:
    """Raise KeyboardInterrupt, as Ctrl-C does, and ignore further signals, so that tidying up is not disturbed."""
    ignore()
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")


def ignore() -> None:
    """Ignore signals that ask this process to end, as it is about to."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)


def end_with(parent: int) -> None:
    """Have this process get SIGTERM when its parent, which started it, ends; at once where it has ended already."""
    if hasattr(system := ctypes.CDLL(None), "prctl"):
        system.prctl(PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it is too late for the signal
            signal.raise_signal(signal.SIGTERM)
