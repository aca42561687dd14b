"""Landings that are killed: before everything they ask the operating system for, or at random moments.

Run as a script, so that children are forks of a process that has imported everything and started no thread. Leaves in
each subfolder of the given folder what a killed landing left.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

import pandas as pd  # noqa: F401 - pyarrow imports it when it makes its first scalar: once, rather than in every child

from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from support.killing import die, finish, fork

DAY = dt.date(2025, 7, 16)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
RANDOM_KILLS = 12


def landing(root: Path, log: Path) -> None:
    """Land the log below `root`."""
    land(LocalStorage(root), night_of(DAY), FileSource(log), load_mapping(), buckets=1, since=SINCE)


def kill_everywhere(folder: Path, log: Path) -> None:
    """Kill the landing before each of its steps, until it ends before it is killed."""
    for before in count(1):
        root = folder / f"step-{before}"
        root.mkdir()

        def act(root: Path = root, before: int = before) -> None:
            die(root, before)
            landing(root, log)

        if finish(fork(act)) == 0:
            return


def kill_at_random(folder: Path, log: Path) -> None:
    """Kill landings at moments spread over the time that one takes."""
    begin = time.perf_counter()
    assert finish(fork(lambda: landing(folder / "random-undisturbed", log))) == 0
    seconds = time.perf_counter() - begin
    moments = random.Random(7)
    for kill in range(RANDOM_KILLS):
        root = folder / f"random-{kill}"
        root.mkdir()
        child = fork(lambda root=root: landing(root, log))
        time.sleep(moments.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        finish(child)


if __name__ == "__main__":
    target, small, large = map(Path, sys.argv[1:])
    kill_everywhere(target, small)
    kill_at_random(target, large)
