"""Processes that act on a registry: killed at every point, or all at once.

Run as a script, so that children are forks of a process that has imported everything and started no thread.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
from documents import document
from killing import die, finish, fork

from ltr_pipeline.ledger import Move
from ltr_pipeline.storage import LocalStorage
from ltr_pipeline.versions import Published, Registry

A, B, C, D = (f"202507{day}_0215" for day in (14, 15, 16, 17))
BY = {"who": "ann", "why": "test"}

Act = Callable[[Registry], object]


def publish(registry: Registry, *versions: str) -> Registry:
    for version in versions:
        registry.publish(document(version), **BY)
    return registry


def three_pinned(registry: Registry) -> None:
    publish(registry, A, B, C).pin(**BY)


# What is done in which registry: all of it has to survive being killed anywhere.
ACTS: dict[str, tuple[Act, Act]] = {
    "first publish": (lambda r: None, lambda r: r.publish(document(A), move_id="run", **BY)),
    "publish at a taken minute": (
        lambda r: publish(r, A, B, C),
        lambda r: r.publish(document(C, high=0.8), move_id="run", **BY),
    ),
    "publish while pinned": (three_pinned, lambda r: r.publish(document(D), move_id="run", **BY)),
    "rollback": (three_pinned, lambda r: r.rollback(move_id="run", **BY)),
    "unpin": (three_pinned, lambda r: r.unpin(**BY)),
}


def kill_everywhere(name: str, folder: Path) -> None:
    """Leave in ``folder/1``, ``folder/2``, ... what every possible kill of the act leaves of ``folder/start``."""
    prepare, act = ACTS[name]
    (folder / "start").mkdir(parents=True)
    assert finish(fork(lambda: prepare(Registry(LocalStorage(folder / "start"))))) == 0

    def act_and_die(root: Path, before: int) -> None:
        die(root, before)
        act(Registry(LocalStorage(root)))

    for before in count(1):
        root = folder / str(before)
        shutil.copytree(folder / "start", root, symlinks=True)
        ended = finish(fork(lambda root=root, before=before: act_and_die(root, before)))
        if ended == 0:
            return
        assert ended == -signal.SIGKILL


def race(folder: Path) -> None:
    """Let four processes do nine moves each at once in ``folder/ltr``; ``folder/<name>.json`` is what each was told."""
    registry = Registry(LocalStorage(folder / "ltr"))
    assert finish(fork(lambda: publish(registry, A, B))) == 0

    def act(name: str) -> None:
        os.close(start)
        os.read(started, 1)  # ends when the last copy of `start` is closed
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(nine_moves(registry, name)))

    started, start = os.pipe()
    children = [fork(lambda name=name: act(name)) for name in ("1", "2", "3", "4")]
    os.close(start)
    assert [finish(child) for child in children] == [0, 0, 0, 0]


def nine_moves(registry: Registry, name: str) -> list[Published | Move]:
    told: list[Published | Move] = []
    for n in range(3):
        told.append(registry.publish(document(C, high=float(f"0.{name}{n}1")), who=name, why="race"))
        told.append(registry.rollback((A, B)[n % 2], who=name, why="race", move_id=f"{name}-{n}"))
        told.append(registry.unpin(who=name, why="race"))
    return told


if __name__ == "__main__":
    race(Path(sys.argv[1]) / "race")
    for each in ACTS:
        kill_everywhere(each, Path(sys.argv[1]) / each)
