"""A storage in which somebody else acts in between."""

from __future__ import annotations

from collections.abc import Callable

from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.registry import Registry


class Interrupted:
    """Lets somebody else act right before the verb on a key that starts with `prefix`, once."""

    def __init__(self, storage: Storage, verb: str, prefix: str, act: Callable[[Registry], object]) -> None:
        self.storage = storage
        self.when, self.act = (verb, prefix), act

    def __getattr__(self, verb: str) -> object:
        return getattr(self.storage, verb)

    def _interrupt(self, verb: str, key: str) -> None:
        if self.when[0] == verb and key.startswith(self.when[1]):
            self.when = ("", "")
            self.act(Registry(self.storage))

    def create(self, key: str, data: bytes) -> None:
        self._interrupt("create", key)
        self.storage.create(key, data)

    def point(self, key: str, target: str) -> None:
        self._interrupt("point", key)
        self.storage.point(key, target)
