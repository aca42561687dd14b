"""What decides the shown order beside the scores: nothing, another model's order, or chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Mixed", "plain"]


class Mixed(NamedTuple):
    """The order that is shown.

    Attributes
    ----------
    order
        Rows of the candidates, best first.
    policy
        What decided: a version, or how two orders were mixed.
    teams
        Of an interleaved order: whose pick each item is; None otherwise.
    propensities
        Of a randomised order: the probability that each item came to stand where it stands; None otherwise.
    """

    order: Sequence[int]
    policy: str
    teams: Sequence[str] | None = None
    propensities: Sequence[float] | None = None


def plain(order: Sequence[int], version: str) -> Mixed:
    """The order of the scores, as it is."""
    return Mixed(order=order, policy=version)
