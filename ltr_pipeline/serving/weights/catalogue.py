"""The service's other business with the registry: it lists the versions and rolls `latest` back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ltr_pipeline.errors import LtrError, RegistryError, WeightsError
from ltr_pipeline.registry import me
from ltr_pipeline.serving.weights.models import Loaded, Models
from ltr_pipeline.serving.weights.workers import Refused
from ltr_pipeline.versions.registry import Listed, Registry

__all__ = ["Catalogue", "NotListedError", "Versions"]

FRESH_SECONDS: Final = 10.0
"""A listing, or an error, is repeated for this long before the registry is asked again."""


class NotListedError(Exception):
    """The registry cannot say which versions there are."""


class Known(Listed, frozen=True, kw_only=True):
    """A version, whether this worker ranks with it, and why it refuses it, if it does."""

    in_use: bool
    refused: str | None


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The registry's versions, newest first, and which of them one worker uses and refuses.

    Attributes
    ----------
    in_use
        Version that ranks, or ``legacy``.
    refused
        Documents that are not tried again, by sha256.
    pid
        Process id of the worker.
    """

    in_use: str
    versions: list[Known]
    refused: dict[str, Refused]
    pid: int


class Catalogue:
    """The registry, asked at most every `FRESH_SECONDS` and by one thread at a time.

    Parameters
    ----------
    registry
        Registry to ask.
    clock
        Monotonic seconds.
    """

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._listed: Sequence[Listed] | None = None
        self._problem: str | None = None
        self._until = -1.0
        self._lock = threading.Lock()

    def listed(self) -> Sequence[Listed]:
        """List every version of the registry, newest first.

        The first call reads all documents, so keep it out of the event loop. While another thread asks the registry,
        the former listing is returned.

        Raises
        ------
        NotListedError
            The registry cannot be reached or read.
        """
        if self._clock() >= self._until and self._lock.acquire(blocking=False):
            try:
                self._ask()
            finally:
                self._lock.release()
        if self._problem:
            raise NotListedError(self._problem)
        if self._listed is None:
            raise NotListedError("the versions are being listed for the first time; try again in a moment")
        return self._listed

    def report(self, models: Models) -> Versions:
        """Report which versions there are, which one this worker uses, and which it refuses and why; NotListedError."""
        current, refused = models.current, dict(models.refused)
        return Versions(
            in_use=current.version,
            versions=[
                Known(
                    in_use=one.sha256 == current.sha256,
                    refused=refused[one.sha256].reason if one.sha256 in refused else None,
                    **msgspec.structs.asdict(one),
                )
                for one in self.listed()
            ],
            refused=refused,
            pid=os.getpid(),
        )

    def roll_back(self, bad: Loaded, reason: str) -> str:
        """Move `latest` back from a version and pin it, unless it has left it already or somebody pinned it there.

        Returns
        -------
        The outcome in words (`Watch.rollback`).

        Raises
        ------
        LtrError
            The registry cannot be reached now.
        """
        try:
            move = self._registry.rollback(who=f"guard, {me()}", why=reason, leaving=bad.version)
        except (RegistryError, WeightsError) as error:
            return f"given up: {error}"
        if move.move == "rollback" and move.before == bad.version:
            return f"done: latest is {move.to}, pinned"
        return f"needless: latest is {move.to}{', pinned by ' + move.who if move.pin else ''}"

    def _ask(self) -> None:
        try:
            self._listed, self._problem = self._registry.versions(self._listed or ()), None
        except LtrError as error:
            self._problem = str(error)
        self._until = self._clock() + FRESH_SECONDS
