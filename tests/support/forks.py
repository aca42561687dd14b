"""Processes that act on a registry: killed at every point, or all at once.

Run as a script, so that children are forks of a process that has imported everything and started no thread.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import msgspec

import ltr_pipeline.scoring.scorer  # noqa: F401 - here once, or each of hundreds of forks would load LightGBM
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.registry import Published, Registry
from ltr_pipeline.versions.trial import end_trials, try_model
from support.documents import document
from support.killing import die, finish, fork

A, B, C, D = (f"202507{day}_0215" for day in (14, 15, 16, 17))
HOUR = "20250715_0935"
"""A refresh of `B`."""

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
    "refresh": (
        lambda r: publish(r, A, B),
        lambda r: r.publish(document(HOUR, high=0.8, parent=B), move_id="run", **BY),
    ),
    "expire": (
        lambda r: publish(r, A, B).publish(document(HOUR, high=0.8, parent=B), **BY),
        lambda r: r.expire(Version.parse(C).time, move_id="run", **BY),
    ),
    "prune": (lambda r: publish(r, A, B, C, D), lambda r: r.prune(keep=1, moves=1, **BY)),
}


ON_S3 = ("first publish",)
LONG_ON_S3 = ("rollback", "prune", "expire")  # one kill takes longer there, and the acts share their steps


RACE = "race"


class Place:
    """Where registries are, a folder or a prefix on a server, and the folder in which processes say what they did."""

    def __init__(self, uri: str, told: Path, environment: Mapping[str, str]) -> None:
        self.uri, self.told = uri, told
        self.options = S3Options(
            endpoint=environment.get("S3_ENDPOINT"),
            access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
            secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        )

    def storage(self, *parts: str) -> Storage:
        return open_storage("/".join([self.uri, *parts]).replace(" ", "-"), self.options)


def copy(source: Storage, target: Storage) -> None:
    if isinstance(source, LocalStorage) and isinstance(target, LocalStorage):
        source.root.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source.root, target.root, symlinks=True)
        return
    for key in source.keys(""):
        target.put(key, source.get(key))


def die_in(storage: Storage, before: int) -> None:
    """Die right before the `before`-th thing that is asked of the operating system, or of the server."""
    if isinstance(storage, LocalStorage):
        die(storage.root, before)
        return
    asked = count(1)

    def watch(**_: object) -> None:
        if next(asked) == before:
            os.kill(os.getpid(), signal.SIGKILL)

    storage._client.meta.events.register("before-send.s3", watch)


def kill_everywhere(name: str, place: Place) -> None:
    """Leave in ``<name>/1``, ``<name>/2``, ... what every possible kill of the act leaves of ``<name>/start``."""
    prepare, act = ACTS[name]
    assert finish(fork(lambda: prepare(Registry(place.storage(name, "start"))))) == 0

    def act_and_die(before: int) -> None:
        storage = place.storage(name, str(before))
        copy(place.storage(name, "start"), storage)
        die_in(storage, before)
        act(Registry(storage))

    for before in count(1):
        ended = finish(fork(lambda before=before: act_and_die(before)))
        if ended == 0:
            (place.told / f"{name}.killed").write_text(str(before - 1))
            return
        assert ended == -signal.SIGKILL


def race(place: Place) -> None:
    """Let four processes do nine moves each at once in ``race``; ``<name>.json`` is what each was told."""
    registry = Registry(place.storage("race"))
    assert finish(fork(lambda: publish(registry, A, B))) == 0

    def act(name: str) -> None:
        os.close(start)
        os.read(started, 1)  # ends when the last copy of `start` is closed
        (place.told / f"{name}.json").write_bytes(msgspec.json.encode(nine_moves(registry, name)))

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


RACED = [float(f"0.{name}{n}1") for name in ("1", "2", "3", "4") for n in range(3)]


if __name__ == "__main__":
    for high in (0.75, 0.8, *RACED):
        try_model(document(high=high))  # here once, or each of hundreds of forks would
    end_trials()
    place = Place(sys.argv[1], Path(sys.argv[2]), os.environ)
    for each in sys.argv[3:]:
        race(place) if each == RACE else kill_everywhere(each, place)
