"""Models on trial: each is loaded and scored in a child process before this process loads it.

LightGBM reads a model's text as it comes. A text that was crafted, or damaged and hashed again, can make it run out of
memory, never end, or end the process; whatever it does then, it does it to the child.
"""

from __future__ import annotations

import hashlib
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, Final

import msgspec

from ltr_pipeline.errors import LtrError, WeightsError
from ltr_pipeline.versions.golden import check_golden
from ltr_pipeline.versions.weights import Weights

__all__ = ["end_trials", "try_model"]

SECONDS: Final = 60.0
"""Time for one model, on a busy machine; most take milliseconds."""

START_SECONDS: Final = 120.0
MEMORY: Final = 8 << 30
"""Address space of the child, in bytes."""

NICENESS: Final = 10
READY: Final = b"ready\n"
LENGTH: Final = struct.Struct("!Q")
NEEDLESS: Final = ("cffi", "dask", "matplotlib", "pandas", "pyarrow", "sklearn")
"""LightGBM imports these where it finds them, which takes three times as long as all the rest."""


def try_model(weights: Weights) -> None:
    """Load the model in a child process and score its golden requests there; the child stays for the next model.

    A model that has passed in this process is not tried again.

    Raises
    ------
    WeightsError
        The model cannot be loaded, does not score as recorded, or makes the child end, hang or run out of memory.
    OSError
        The child cannot be started.
    """
    asked = hashlib.sha256(msgspec.json.encode((weights.model.text, weights.features, weights.golden))).digest()
    if asked in _PASSED:
        return
    with _LOCK:
        child = _STARTED.pop(os.getpid(), None) or _Child()
        problem = child.answer(weights)
        if child.lives:
            _STARTED[os.getpid()] = child
    if problem:
        raise WeightsError(problem)
    _PASSED.add(asked)


def end_trials() -> None:
    """End the child process, where there is one; a process that ends takes it along."""
    with _LOCK:
        if child := _STARTED.pop(os.getpid(), None):
            child.end()


class _Child:
    def __init__(self) -> None:
        self.lives = True
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ltr_pipeline.versions.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if self._line(START_SECONDS) != READY:
            raise OSError(f"the process that tries models {self.end()} before it was ready")

    def answer(self, weights: Weights) -> str:
        """Return what is wrong with the model; empty when nothing is."""
        data = msgspec.msgpack.encode(weights)
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).write(LENGTH.pack(len(data)) + data)
            _pipe(self._process.stdin).flush()
        line = self._line(SECONDS)
        if not line.endswith(b"\n"):
            return f"{weights.version}: its model is refused, since a process that tried it {self.end()}"
        return line.decode().strip()

    def end(self) -> str:
        """End it, and say how it ended by itself, or that it had to be stopped."""
        self.lives = False
        try:
            code = self._process.wait(0.5)
            how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            how = f"did not answer within {SECONDS:.0f} s"
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()
        return how

    def _line(self, seconds: float) -> bytes:
        """Read a line; less when the process ends or takes longer."""
        out = _pipe(self._process.stdout)
        line, deadline = b"", time.monotonic() + seconds
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([out], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(out.fileno(), 1 << 16) if ready else b""
            if not data:
                break
            line += data
        return line


_STARTED: Final[dict[int, _Child]] = {}
"""The child of this process, by its number: a fork has none, as the pipes are its parent's."""

_PASSED: Final = set[bytes]()
_LOCK: Final = threading.Lock()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - as the process was started
    return pipe


def _serve(tell: int) -> None:
    """Try the models that come in, and answer each with a line: empty, or what is wrong."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    modules: dict[str, Any] = sys.modules
    modules |= dict.fromkeys(NEEDLESS)  # so that they are not found
    from ltr_pipeline.scoring import scorer  # noqa: F401 - loaded before it says that it is ready

    os.write(tell, READY)
    while head := sys.stdin.buffer.read(LENGTH.size):
        weights = msgspec.msgpack.decode(sys.stdin.buffer.read(LENGTH.unpack(head)[0]), type=Weights)
        problem = ""
        try:
            check_golden(weights)
        except LtrError as error:
            problem = str(error)
        except MemoryError:
            problem = f"{weights.version}: its model is refused, since it needs more than {MEMORY >> 30} GiB"
        os.write(tell, " ".join(problem.split()).encode() + b"\n")


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)  # LightGBM prints
    _serve(out)
