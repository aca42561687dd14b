"""Servers on loopback: starting, stopping, running as a program."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import psutil

from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.ports import listens

START_SECONDS: Final = 3600  # on a slow machine; a server that ends is noticed at once
STOP_SECONDS: Final = 30
READY: Final = "Ready: "
"""Begins the line that a server as a program prints when all that it was asked for is there."""


class NoServerError(ProgramError):
    """The server cannot be built or started here; the message says what is needed."""


@contextlib.contextmanager
def kept(name: str) -> Iterator[Path]:
    """Give the place where this user keeps what is fetched or built once; other processes wait meanwhile.

    It is in ``~/.cache/ltr-pipeline``, or the folder that ``LTR_CACHE`` names.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltr-pipeline"
    cache = Path(os.environ.get("LTR_CACHE") or usual)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache / name


class Server:
    """A server over a folder of its own; `stop` and `start` keep address, secrets and data.

    Attributes
    ----------
    name
        For messages.
    folder
        Holds its data, secrets and log.
    port
        Where it serves, on loopback.
    log_file
        What it prints.
    ending
        Signal that stops it in an orderly way.
    """

    name: ClassVar[str]
    ending: ClassVar[signal.Signals] = signal.SIGTERM
    port: int

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.log_file = self.folder / f"{self.name.lower()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it serves; NoServerError with the end of its log when it does not."""
        raise NotImplementedError

    def running(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals | None = None) -> int | None:
        """Stop in an orderly way and return the exit code; None when it did not run or had to be killed."""
        if self._process is None:
            return None
        self._process.send_signal(how or self.ending)
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(STOP_SECONDS)
        self.kill()
        return code

    def kill(self) -> None:
        """Kill as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._process = None
            atexit.unregister(self.stop)

    def _launch(self, command: Sequence[str], serves: Callable[[], bool], **options: Any) -> None:
        """Start a process, which is not to outlive this one, and wait until `serves`."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*_guard(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **options
            )
        atexit.register(self.stop)
        try:
            self._await(serves)
        except BaseException:
            self.stop()
            raise

    def _await(self, serves: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (self._listens() and serves()):
            if (ended := not self.running()) or time.monotonic() > deadline:
                how = "has ended" if ended else f"does not serve within {START_SECONDS} s"
                end = self.log_file.read_text(errors="replace")[-3000:]
                raise NoServerError(f"{self.name} {how}; its log ends: {end}")
            time.sleep(0.1)

    def _listens(self) -> bool:
        """Return whether its port is its own: whatever else has it may answer, too."""
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return listens([process, *process.children(recursive=True)], self.port)
        return False


def _guard() -> list[str]:
    """Return what makes Linux kill a server when the one that started it is killed.

    The kernel means the thread that started it: a server of a thread that ends before it has no such guard.
    """
    lasting = threading.current_thread() is threading.main_thread()
    return ["setpriv", "--pdeathsig", "KILL"] if lasting and shutil.which("setpriv") else []


def serve(server: Server, ready: Callable[[], str]) -> None:
    """Run as a program: start, print what `ready` does and says, and serve until somebody ends this or the server."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.start()
        print(f"{READY}{ready()}", flush=True)
        while server.running():
            time.sleep(1)
    except NoServerError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop()
