"""How much a feature's distribution changes from a day to the next, and how much would be too much.

Days differ: weekends, seasons, what is on sale, and by chance, the fewer rankings they have the more. How much they do
is known from the training days. So a change is held against most of theirs.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.window import Column, Window

__all__ = ["FEWEST_CHANGES", "Change", "changes"]

FEWEST_CHANGES: Final = 7
"""Changes from a training day to the next that it takes to know how much a feature changes."""

NORMAL: Final = 0.9
"""Share of the training days' changes that are normal; others may be an outage, which is two: it comes and goes."""

UNUSUAL: Final = 3.0
"""How many times a normal change is too much."""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Change of a feature on a day that was held out.

    Attributes
    ----------
    day
        The day, which differs from the one before.
    distance
        Kolmogorov and Smirnov's distance of the two, in [0, 1]; a missing value is lower than any other.
    limit
        Distance above which neither chance nor what the training days had explains it.
    """

    day: dt.date
    distance: float
    limit: float


def changes(column: Column) -> list[Change]:
    """Return the change of each day held out; none where too few training days say what is usual.

    A normal change is what `NORMAL` of the training days' are at most, as it is and in units of what chance makes of
    days with so few rankings; the larger of the two is held against.
    """
    window, found = column.window, _distances(column)
    trained = window.training_days - 1
    if trained < FEWEST_CHANGES:
        return []
    chance = _chance(window)
    normal, by_chance = (np.quantile(one[:trained], NORMAL, method="lower") for one in (found, found / chance))
    limits = UNUSUAL * np.maximum(normal, by_chance * chance[trained:])
    return [
        Change(day=dt.date.fromordinal(int(day)), distance=float(distance), limit=float(limit))
        for day, distance, limit in zip(window.days[trained + 1 :], found[trained:], limits, strict=True)
    ]


def _distances(column: Column) -> NDArray[np.float64]:
    """Return the distance of each day but the first to the day before."""
    rows = column.counts.sum(axis=1)
    below = rows.cumsum(axis=1) / rows.sum(axis=1, keepdims=True)
    return np.asarray(np.abs(np.diff(below, axis=0)).max(axis=1))


def _chance(window: Window) -> NDArray[np.float64]:
    """Return to what chance changes are proportional: the root of the sum of both days' shares of a ranking."""
    share = 1 / window.rankings_a_day
    return np.asarray(np.sqrt(share[1:] + share[:-1]))
