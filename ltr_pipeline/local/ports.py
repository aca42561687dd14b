"""Ports of the loopback interface: free ones, and who listens on one."""

from __future__ import annotations

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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


def check_free(settings: Mapping[str, int]) -> None:
    """Raise ProgramError when somebody listens on one of these ports, whatever the address, or two of them are one.

    Parameters
    ----------
    settings
        Port by the setting that chooses it.
    """
    for port, count in Counter(settings.values()).items():
        if count > 1:
            names = " and ".join(name for name, chosen in settings.items() if chosen == port)
            raise ProgramError(f"{names} are both {port}; set one of them to another port")
    found = {each.port: each for each in _listeners()}
    taken = [f"{found[port]}; stop it or set {name}" for name, port in settings.items() if port in found]
    if taken:
        raise ProgramError(". ".join(taken))


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Return whether one of these processes listens on the port: an answer from there is then theirs."""
    return any(each.port == port for process in processes for each in _listeners_of(process))


class _Listener(NamedTuple):
    """Who listens where; the number of another user's process is told to the system's administrator alone."""

    address: str
    port: int
    pid: int | None

    def __str__(self) -> str:
        address = self.address.removeprefix("::ffff:")
        where = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        with contextlib.suppress(psutil.Error):
            if self.pid:
                return f"{psutil.Process(self.pid).name()} (process {self.pid}) listens on {where}"
        return f"a program of another user listens on {where}"


def _listeners() -> list[_Listener]:
    """Return who listens on this machine; on macOS this user's programs alone, unless the administrator asks."""
    try:
        return _among(psutil.net_connections("tcp"))
    except psutil.AccessDenied:
        return [found for process in psutil.process_iter() for found in _listeners_of(process)]


def _listeners_of(process: psutil.Process) -> list[_Listener]:
    try:
        return _among(process.net_connections("tcp"), process.pid)
    except psutil.Error:
        return []


def _among(connections: Iterable[Any], pid: int | None = None) -> list[_Listener]:
    listening = (each for each in connections if each.status == psutil.CONN_LISTEN)
    return [_Listener(each.laddr.ip, each.laddr.port, pid or each.pid) for each in listening]
