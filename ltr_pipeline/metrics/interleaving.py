"""Two orders in one list, so that users compare them without knowing: team draft interleaving.

Nothing but the standard library: the service draws with it on the request's path.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

__all__ = ["PAIR", "Drafted", "policy_of", "team_draft"]

_POLICY: Final = "interleave"

PAIR: Final = rf"^{_POLICY}:(?P<first>[^:]+):(?P<second>[^:]+)$"
"""Regular expression of the policies that `policy_of` names: the versions, the served one first."""


class Drafted(NamedTuple):
    """An interleaved list.

    Attributes
    ----------
    order
        What is shown, best first.
    from_first
        Of each place, whether it was the first order's pick.
    """

    order: list[int]
    from_first: list[bool]


def team_draft(first: Sequence[int], second: Sequence[int], k: int | None, seed: str) -> Drafted:
    """Interleave two orders of the same items by team draft (Radlinski, Kurup and Joachims 2008).

    As captains pick teams: whose team is smaller picks next, a coin decides between equal ones, and a pick is the best
    item of one's own order that nobody has picked. So after an even number of places both have picked as many, and
    each order's best item is among the first two.

    Parameters
    ----------
    first, second
        The same items, each once, best first.
    k
        Places to fill; None = all.
    seed
        Of the coins: the same seed draws the same list again, in any process.

    Examples
    --------
    >>> team_draft([1, 2, 3, 4], [4, 1, 2, 3], 3, "request-1")
    Drafted(order=[1, 4, 2], from_first=[True, False, True])
    """
    places = len(first) if k is None else min(k, len(first))
    coin = random.Random(seed)  # noqa: S311 - a coin, not a secret
    picked: set[int] = set()
    orders = (_unpicked(second, picked), _unpicked(first, picked))
    drafted = Drafted([], [])
    opener = False
    for place in range(places):
        opener = coin.random() < 0.5 if place % 2 == 0 else not opener
        item = next(orders[opener])
        picked.add(item)
        drafted.order.append(item)
        drafted.from_first.append(opener)
    return drafted


def _unpicked(order: Sequence[int], picked: set[int]) -> Iterator[int]:
    """Yield the items of `order` that are not in `picked` when their turn comes."""
    return (item for item in order if item not in picked)


def policy_of(first: str, second: str) -> str:
    """Name of the policy that interleaves two versions, as impressions carry it.

    >>> policy_of("20250715_0215", "legacy")
    'interleave:20250715_0215:legacy'
    """
    return f"{_POLICY}:{first}:{second}"
