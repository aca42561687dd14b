"""The registry with settings resolved: what operators call.

::

    from ltr_pipeline.registry import publish_weights, rollback_weights

    rollback_weights("20250714_0215", reason="offers dropped after the last release")
"""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import structlog

from ltr_pipeline.errors import RegistryError, WeightsError
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.registry import Published, Registry

__all__ = [
    "me",
    "open_registry",
    "pin_weights",
    "prune_weights",
    "publish_weights",
    "rollback_weights",
    "unpin_weights",
]

log = structlog.get_logger(__name__)


def open_registry(settings: Settings | None = None) -> Registry:
    """Return the registry that the environment names, else that of the world there is (`folders.found`)."""
    settings = settings or load_settings()
    log.info("registry opened", world=settings.world)
    return settings.registry


def publish_weights(path: str | Path, *, reason: str = "published by hand", who: str | None = None) -> Published:
    """Publish a weights document, such as the one a run's gate has frozen.

    Parameters
    ----------
    path
        File of the document.
    reason, who
        For the ledger; without `who`, user and host.

    Raises
    ------
    RegistryError
        The gate kept this document, or left it to a person; `ltr approve` publishes it from its run.
    WeightsError
        The file is missing, altered, truncated, not signed though a key is set, or contradicts itself, or its golden
        requests score differently here.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; give the path of an ltr_weights.json") from error
    registry = open_registry()
    document = weights.decode(data, where=str(path), keys=registry.documents.keys)
    verdict = document.gate.get("verdict")
    if verdict in ("keep", "ask"):
        raise RegistryError(
            f"{path} was judged {verdict!r}, so its file is not published; `ltr approve {document.version}` with a "
            "reason publishes what the data could not decide"
        )
    return registry.publish(document, who=who or me(), why=reason)


def rollback_weights(
    version: str | None = None, *, reason: str = "rolled back by hand", who: str | None = None
) -> Move:
    """Move ``latest`` to `version`, or to the previous good one, and pin it there until `unpin_weights`.

    Raises
    ------
    UnknownVersionError
        There is no such version.
    RegistryError
        No former version is left to go back to.
    WeightsError
        The version does not load, or does not score as recorded.
    """
    return open_registry().rollback(version, who=who or me(), why=reason)


def pin_weights(*, reason: str = "pinned by hand", who: str | None = None) -> Move:
    """Keep ``latest`` where it is; RegistryError when nothing was published yet."""
    return open_registry().pin(who=who or me(), why=reason)


def unpin_weights(*, reason: str = "unpinned by hand", who: str | None = None) -> Move:
    """Let the next publish move ``latest`` again; moves nothing. RegistryError when nothing was published yet."""
    return open_registry().unpin(who=who or me(), why=reason)


def prune_weights(
    keep: int = 30, *, moves: int = 30, dry_run: bool = False, reason: str = "pruned by hand", who: str | None = None
) -> list[str]:
    """Remove all but the newest `keep` versions, ``latest`` and what the newest `moves` of the ledger need.

    Hourly versions are not counted among these, and go when they are a week old.

    Returns
    -------
    Versions that were removed, newest first; with `dry_run` those that would be.

    Raises
    ------
    RegistryError
        Nothing was published yet, or a number is less than 1.
    """
    return open_registry().prune(keep, who=who or me(), why=reason, moves=moves, dry_run=dry_run)


def me() -> str:
    """Return the name of whoever acts, for the ledger: user and host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
