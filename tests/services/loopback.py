"""What servers on loopback have in common: ports that stay theirs, starting, stopping, running as a program.

Found beside it by the programs of this folder; pytest and the benchmarks have the folder in their path.
"""

from __future__ import annotations

import atexit
import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

START_SECONDS: Final = 60
STOP_SECONDS: Final = 30


class NoServerError(Exception):
    """The server cannot be built or started here; the message says what is needed."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, below those that clients get: one of these may be gone when a server comes back."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        if len(found) == count:
            return found
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    raise NoServerError(f"too few ports between 20000 and 32000 are free: {count} are needed")


def free_port() -> int:
    """A port as of `free_ports`."""
    return free_ports(1)[0]


class Server:
    """A server over a folder of its own; `stop` and `start` keep address, secrets and data.

    Attributes
    ----------
    name
        For messages.
    folder
        Holds its data, secrets and log.
    log
        What it prints.
    ending
        Signal that stops it in an orderly way.
    """

    name: ClassVar[str]
    ending: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / f"{self.name.lower()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it serves; NoServerError with the end of its log when it does not."""
        raise NotImplementedError

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals | None = None) -> None:
        """Stop and wait; SIGKILL for a server that dies."""
        if self._process is None:
            return
        self._process.send_signal(how or self.ending)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._process = None

    def kill(self) -> None:
        """Kill as a power cut would."""
        self.stop(signal.SIGKILL)

    def _launch(self, command: Sequence[str], serves: Callable[[], bool], **options: Any) -> None:
        """Start a process, which is not to outlive this one, and wait until `serves`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **options
            )
        atexit.register(self.stop)
        try:
            self._await(serves)
        except BaseException:
            self.stop()
            raise

    def _await(self, serves: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not serves():
            if not self.running() or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace")[-3000:]
                raise NoServerError(f"{self.name} does not serve within {START_SECONDS} s; its log ends: {end}")
            time.sleep(0.1)


def serve(server: Server, ready: Callable[[], str]) -> None:
    """Run as a program: start, print what `ready` does and says, and serve until somebody ends this or the server."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.start()
        print(ready(), flush=True)
        while server.running():
            time.sleep(1)
    except NoServerError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop()
