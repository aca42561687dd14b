"""The marks that a column leaves which is written after a list was shown.

It has another value than usual where something came of the impression and hardly ever where nothing did. Nothing that
is known before can do that: nobody knows then who will look. Or it is filled in as time passes, so that the newest
impressions have it least.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from ltr_pipeline.metrics.values import MISSING
from ltr_pipeline.metrics.window import Column

__all__ = ["Defaults", "Told", "defaults", "told"]

TELLING: Final = 0.9
"""Values of which at least so many training impressions were relevant are looked at again in the test days."""

COMMON: Final = 0.1
"""Share of the rows from which on the commonest value is a default."""

FEWEST_DAYS: Final = 4
"""Days that the oldest and the newest third need to be compared."""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Values that nearly always meant "relevant" in training, looked at again in the test days.

    Attributes
    ----------
    known
        Share of the relevant test impressions that have such a value.
    impressions
        Test impressions that have one.
    relevant, low
        Share of these that are relevant, where each user counts once, and how low it may be.
    usual
        Share of all test impressions that are relevant.
    """

    known: float
    impressions: int
    relevant: float
    low: float
    usual: float


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often a feature is missing, or has the value that is commonest where one is common.

    Attributes
    ----------
    value
        The commonest value; None where none is common, or missing is.
    relevant, other
        Share of the relevant impressions that have it or none, and of all others; None without any.
    by_age
        The same of all impressions, in thirds of the days, the oldest first.
    fading
        How much that share grows at least from the oldest to the newest third, among the relevant or the others.
    """

    value: float | None
    relevant: float | None
    other: float | None
    by_age: list[float]
    fading: float


def told(column: Column, level: float) -> Told | None:
    """Look again at the values that told the outcome in training; None where none did, or none occurs again.

    The training days choose the values and the test days judge them, so that choosing flatters nothing.

    Parameters
    ----------
    level
        Chance that `Told.low` is too high.
    """
    window = column.window
    other, relevant = column.counts[: window.training_days].sum(axis=0)
    telling = relevant >= TELLING * np.maximum(relevant + other, 1)
    rows, in_test = telling[column.codes[window.in_test]], window.relevant[window.in_test]
    if not rows.any():
        return None
    of_user = np.unique(window.user_of_row[rows], return_inverse=True)[1]
    shares = np.bincount(of_user, weights=in_test[rows]) / np.bincount(of_user)
    hits, users = float(shares.sum()), len(shares)
    return Told(
        known=float(in_test[rows].sum() / max(in_test.sum(), 1)),
        impressions=int(rows.sum()),
        relevant=hits / users,
        low=float(betaincinv(hits, users - hits + 1, level)) if hits else 0.0,
        usual=float(in_test.mean()),
    )


def defaults(column: Column, level: float) -> Defaults:
    """Say how often a feature is missing or has its default.

    Parameters
    ----------
    level
        Chance that `Defaults.fading` is too high.
    """
    by_code = column.counts.sum(axis=(0, 1))
    commonest = max(column.scale.exact, key=lambda code: int(by_code[code]))
    if by_code[commonest] < COMMON * by_code.sum():
        commonest = MISSING
    blank = column.counts[:, :, sorted({MISSING, commonest})].sum(axis=2)
    rows = column.counts.sum(axis=2)
    other, relevant = (_share(blank[:, grade].sum(), rows[:, grade].sum()) for grade in (0, 1))
    thirds = np.array_split(np.arange(len(rows)), 3)
    return Defaults(
        value=column.scale.exact[commonest],
        relevant=relevant,
        other=other,
        by_age=[share for third in thirds if (share := _share(blank[third].sum(), rows[third].sum())) is not None],
        fading=max(0.0, *(_growth(_Days(blank[:, grade], rows[:, grade]), level / 2) for grade in (0, 1))),
    )


def _share(part: int, of: int) -> float | None:
    return float(part / of) if of else None


class _Days(NamedTuple):
    """How many of the rows of each day are meant, (days,)."""

    part: NDArray[np.int64]
    rows: NDArray[np.int64]


def _growth(days: _Days, level: float) -> float:
    """Return the least growth of the share from the oldest third of the days to the newest, days being the unit."""
    some = np.flatnonzero(days.rows)
    thirds = np.array_split(some, 3)
    oldest, newest = (_Days(days.part[third], days.rows[third]) for third in (thirds[0], thirds[-1]))
    if min(len(oldest.rows), len(newest.rows)) < FEWEST_DAYS:
        return 0.0
    means, variances = zip(*(_mean(third) for third in (oldest, newest)), strict=True)
    freedom = len(oldest.rows) + len(newest.rows) - 2
    return float(means[1] - means[0] - stdtrit(freedom, 1 - level) * np.sqrt(sum(variances)))


def _mean(days: _Days) -> tuple[float, float]:
    """Return the mean of the days' shares and its variance, which is at least that of independent rows."""
    shares = days.part / days.rows
    near = (days.part.sum() + 1) / (days.rows.sum() + 2)
    return float(shares.mean()), float(max(shares.var(ddof=1) / len(shares), near * (1 - near) / days.rows.sum()))
