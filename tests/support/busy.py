"""A busy machine: loops that take a processor each."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["busy"]


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Busy loops in processes beside this one."""
    processes = [multiprocessing.get_context("fork").Process(target=_spin, daemon=True) for _ in range(loops)]
    for process in processes:
        process.start()
    time.sleep(0.2 * bool(loops))  # a benchmark's first call shall find them at work
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        pass
