"""Publish a run that the gate kept, on a person's word.

A child does it: what it imports takes more memory than the API server should keep.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ltr_pipeline.board.child import answer, serve
from ltr_pipeline.errors import RegistryError, StorageError

__all__ = ["publish"]

SECONDS: Final = 600.0


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    seen: str
    who: str
    why: str


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    version: str


def publish(run: str, seen: str, who: str, why: str) -> str:
    """Approve the decision of a run, publish it, and return the version; a second time it finds what the first did.

    Parameters
    ----------
    seen
        SHA-256 of the decision that the person was shown.

    Raises
    ------
    RegistryError
        It is not published, and why.
    """
    asked = _Asked(run=run, seen=seen, who=who, why=why)
    try:
        said = answer("ltr_pipeline.airflow.plugin.publish", asked, SECONDS, f"run {run} is not published")
    except StorageError as error:
        raise RegistryError(str(error)) from error
    return msgspec.json.decode(said, type=_Published).version


def _published(asked: _Asked) -> _Published:
    from ltr_pipeline.airflow.runtime import run_settings
    from ltr_pipeline.jobs.approval import approve

    outcome = approve(asked.run, asked.who, asked.why, run_settings(), seen=asked.seen)
    return _Published(version=outcome["version"])


if __name__ == "__main__":
    serve(_Asked, _published)
