"""Ports of the loopback interface: free ones, and who listens on one."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterable

import psutil

from ltr_pipeline.errors import ProgramError

__all__ = ["check_free", "free_port", "free_ports", "listens"]


def free_ports(count: int) -> list[int]:
    """Find ports that nobody has, below those that clients get: one of these may be gone when a server comes back."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        if len(found) == count:
            return found
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    raise ProgramError(f"too few ports between 20000 and 32000 are free: {count} are needed")


def free_port() -> int:
    """Find one port as `free_ports` does."""
    return free_ports(1)[0]


def check_free(port: int, setting: str) -> None:
    """Raise ProgramError when somebody listens on the port, which this setting chooses."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ProgramError(f"something else listens on 127.0.0.1:{port}; stop it or set {setting}")


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Return whether one of these processes listens on the port: an answer from there is then theirs."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False
