"""What decides the shown order beside the scores: nothing, another model's order, or chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Mixed", "explore", "plain"]

_chance = random.Random()  # noqa: S311 - nobody gains by guessing it


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


def explore(order: Sequence[int], version: str, chance: random.Random = _chance) -> Mixed:
    """Swap neighbours at random: what the answers to them say about the order is free of position bias.

    FairPairs (Radlinski and Joachims 2006, "Minimally invasive randomization for collecting unbiased preferences from
    clickthrough logs"): with equal chance the pairs are ranks 1-2, 3-4, … or 2-3, 4-5, …, and each pair is swapped with
    probability 1/2, whatever became of the others. So no item moves by more than one rank.

    Propensities are those given the pairs: 1/2 for either order of a pair, 1 for an item without a partner.

    Parameters
    ----------
    order
        Rows of the shown candidates, best first.
    """
    shown = list(order)
    propensities = [1.0] * len(shown)
    for first in range(chance.randrange(2), len(shown) - 1, 2):
        propensities[first] = propensities[first + 1] = 0.5
        if chance.randrange(2):
            shown[first], shown[first + 1] = shown[first + 1], shown[first]
    return Mixed(order=shown, policy=f"{version}+explore", propensities=propensities)
