"""Long work that rests between short stretches, so that requests find the interpreter free.

Python lets one thread run at a time. A request that is being scored gives the interpreter up dozens of times, and each
time it would wait for a thread that calculates, such as one that loads new weights.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["rest_if_due", "resting"]

WORK_SECONDS: Final = 0.001
REST_SECONDS: Final = 0.004

_thread = threading.local()


@contextmanager
def resting() -> Iterator[None]:
    """Let this thread's work rest, as long as the ``with`` lasts, wherever it calls `rest_if_due`."""
    _thread.rested = time.perf_counter()
    try:
        yield
    finally:
        _thread.rested = None


def rest_if_due() -> None:
    """Sleep for a moment when this thread is `resting` and has worked for a while; do nothing otherwise."""
    rested: float | None = getattr(_thread, "rested", None)
    if rested is not None and time.perf_counter() - rested > WORK_SECONDS:
        time.sleep(REST_SECONDS)
        _thread.rested = time.perf_counter()
