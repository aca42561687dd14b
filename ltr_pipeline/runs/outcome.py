"""How a run ended. It imports little, as commands that look nights up need it."""

from __future__ import annotations

import msgspec

__all__ = ["Outcome"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a run ended: the version it created, if any, and whether ``latest`` moved to it.

    Attributes
    ----------
    due
        False where no training was due, so that there was nothing to publish.
    """

    run: str
    version: str | None
    moved: bool
    reason: str
    latest: str | None
    due: bool = True
