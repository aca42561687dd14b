"""Programs in the background, each in a process group of its own, and a record by which they are known again.

The record ``<name>.pid`` has a line for each process that the group had when it was last seen well; the first is its
leader. A line is the process's number, the moment when it began, and the boot of the machine: numbers are given anew,
and whoever else has that number began at another moment. So nothing is ever signalled but what was started here.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from ltr_pipeline.errors import ProgramError

__all__ = ["BIN", "Program", "all_or_none", "identity", "lives", "members", "stop", "wait"]

PATIENCE_SECONDS: Final = 3600.0
"""Longest time that a program may take to start: a slow machine needs minutes, and one that ends is noticed at once."""
TELL_SECONDS: Final = 10.0
"""Between two words of progress while programs start."""
LOOK_SECONDS: Final = 0.5
TAIL_BYTES: Final = 4096
TAIL_LINES: Final = 12
COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
STOP_SECONDS: Final = 60
KILL_SECONDS: Final = 10
FORMER_SECONDS: Final = 10.0
"""Between a program's start and its record, in releases whose records had the number alone."""
BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True)
class Program:
    """A program that outlives the one which starts it.

    Parameters
    ----------
    title
        Its name in messages.
    name
        Stem of its log and its record.
    command
        The program and its arguments.
    folder
        Holds log and record.
    """

    title: str
    name: str
    command: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """Return the file of all that it prints."""
        return self.folder / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """Return the file that names its processes."""
        return self.folder / f"{self.name}.pid"

    def start(self, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        """Start it in an environment and a folder; those of this process by default."""
        variables = dict(os.environ if environment is None else environment)
        # It finds programs of this Python's environment by name.
        variables["PATH"] = f"{BIN}{os.pathsep}{variables.get('PATH', os.defpath)}"
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                self.command,
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.record.write_text(f"{identity(process.pid)}\n")
        except BaseException:  # interrupted, too: without its record it would not be known again
            process.kill()
            raise

    def group(self) -> int | None:
        """Return the number of its process group while a recorded process is in it; nobody else can have it then."""
        lines = self._lines()
        try:
            group = int(lines[0].split()[0])
            known = any(self._names(line) and os.getpgid(int(line.split()[0])) == group for line in lines)
        except (IndexError, ValueError, ProcessLookupError):
            return None
        return group if known else None

    def processes(self) -> list[psutil.Process]:
        """Return what runs of it."""
        group = self.group()
        return [] if group is None else members(group)

    def running(self) -> bool:
        """Return whether any of its processes runs."""
        return bool(self.processes())

    def ended(self) -> bool:
        """Return whether it was started and not stopped, and yet does not run."""
        return self.record.exists() and not self.running()

    def note(self) -> None:
        """Record all that runs of it now: what is left when its first process dies is then still known to be its."""
        if (group := self.group()) is None:
            return
        found = {process.pid: identity(process.pid) for process in members(group)}
        leader = found.pop(group, self._lines()[0])
        self.record.write_text("".join(f"{line}\n" for line in (leader, *found.values())))

    def ended_children(self) -> set[int]:
        """Return the processes that its first process has started, and that have ended without its taking note."""
        try:
            children = psutil.Process(self.group() or -1).children()
            return {child.pid for child in children if child.status() == psutil.STATUS_ZOMBIE}
        except (psutil.Error, ValueError):
            return set()

    def last_lines(self) -> list[str]:
        """Return the last lines of its log, without colours."""
        try:
            with self.log.open("rb") as log:
                log.seek(-min(TAIL_BYTES, log.seek(0, os.SEEK_END)), os.SEEK_END)
                return COLOURS.sub("", log.read().decode(errors="replace")).strip().splitlines()[-TAIL_LINES:]
        except FileNotFoundError:
            return []

    def end(self) -> str:
        """Return the words and lines by which an error tells the end of its log."""
        return "\n  ".join((f"{self.log} ends:", *self.last_lines()))

    def forget(self) -> None:
        """Remove the record."""
        self.record.unlink(missing_ok=True)

    def doubt(self) -> str | None:
        """Return a sentence about a process that a former release recorded and that cannot be shown to be this program.

        None when there is no such process.
        """
        number, *more = (self._lines() or [""])[0].split() or [""]
        if more or self.running() or not number.isdecimal():
            return None
        try:
            command = " ".join(psutil.Process(int(number)).cmdline())
        except psutil.Error:
            return None
        return f"{self.title}: {self.record} names process {number}, which runs `{command}`; it is left alone."

    def _names(self, line: str) -> bool:
        """Return whether the process that a line of the record names is still the one that was meant."""
        number, *more = line.split()
        try:
            process = psutil.Process(int(number))
            if len(more) == 2:
                return lives(line)
            if len(more) == 1:  # of a former `make up SERVICES=1`: the moment by the clock
                return bool(process.create_time() == float(more[0]))
            # Of a former `ltr up`: nothing but the number. It is ours if it runs our command and began when that was
            # written.
            near = abs(process.create_time() - self.record.stat().st_mtime) < FORMER_SECONDS
            return near and tuple(process.cmdline()[-len(self.command) :]) == self.command
        except (psutil.Error, FileNotFoundError):
            return False

    def _lines(self) -> list[str]:
        try:
            return self.record.read_text().splitlines()
        except FileNotFoundError:
            return []


def wait(
    healthy: Mapping[Program, Callable[[], bool]],
    seconds: float = PATIENCE_SECONDS,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Return when all these programs are healthy; ProgramError when that takes too long or one of them has ended.

    Parameters
    ----------
    healthy
        What to ask for each program.
    tell
        Takes lines of progress now and then: who is awaited, for how long already, and the last line of its log.
    """
    begun = told = time.monotonic()
    while awaited := [program for program, check in healthy.items() if not check()]:
        now = time.monotonic()
        for program in healthy:
            if not program.running():
                raise ProgramError(f"{program.title} has ended; {program.end()}")
        if now > begun + seconds:
            raise ProgramError(f"{awaited[0].title} did not become healthy within {seconds:.0f} s; {awaited[0].end()}")
        if tell and now >= told + TELL_SECONDS:
            told = now
            for program in awaited:
                last = (program.last_lines() or ["its log is empty"])[-1]
                tell(f"{program.title} is starting, for {now - begun:.0f} s now: {last}")
        time.sleep(LOOK_SECONDS)
    for program in healthy:
        program.note()


@contextlib.contextmanager
def all_or_none(programs: Sequence[Program], tell: Callable[[str], None]) -> Iterator[None]:
    """Stop these programs again, as far as they run, when what is done meanwhile fails or is interrupted."""
    try:
        yield
    except BaseException:
        if running := [program.title for program in programs if program.running()]:
            tell(f"Stopping what had started: {', '.join(running)}.")
        stop(programs)
        raise


def stop(programs: Sequence[Program]) -> list[Program]:
    """Ask programs to end, kill what takes too long, and return those that ran."""
    groups = {program: group for program in programs if (group := program.group()) is not None and members(group)}
    left = list(groups.values())
    for how, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        for group in left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, how)
        deadline = time.monotonic() + seconds
        while (left := [group for group in left if members(group)]) and time.monotonic() < deadline:
            time.sleep(0.2)
    if left:
        raise ProgramError(f"process groups {left} do not end, even when killed")
    for program in programs:
        program.forget()
    return list(groups)


def members(group: int) -> list[psutil.Process]:
    """Return the processes of a group; those that have ended and wait for their parent to notice are none."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            # Asked first, for it costs next to nothing: psutil reads several files of each process.
            if os.getpgid(pid) == group and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def identity(pid: int) -> str:
    """Return number, seconds from the boot to its begin (which no change of the clock moves), and the boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")  # on Linux alone
    began = psutil.Process(pid).create_time() - psutil.boot_time()
    return f"{pid} {began:.2f} {boot.read_text().strip() if boot.exists() else '-'}"


def lives(known: str) -> bool:
    """Return whether the process of an `identity` still runs."""
    try:
        return identity(int(known.split()[0])) == known
    except psutil.Error:
        return False
