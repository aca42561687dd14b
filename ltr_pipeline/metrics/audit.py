"""The feature audit: what each feature can do alone, whether it seems to know the outcome, and whether it broke."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.changes import Change, changes
from ltr_pipeline.metrics.outcomes import Defaults, Told, defaults, told
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.window import Column, Window

__all__ = ["FEW", "LEVEL", "FeatureAudit", "Gains", "measure"]

FEW: Final = 0.01
"""Share of the impressions up to which those that the service did not log when it answered say nothing."""

LEVEL: Final = 0.05
"""Chance that any bound of a night is wrong: the features share it."""


class FeatureAudit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One feature as the audit found it.

    Attributes
    ----------
    gain, was
        Share of the model's total gain, and of the champion's; None without a champion.
    vouched
        Whether the mapping says that it is known before a list is shown.
    alone
        nDCG@5 of the test rankings in the order of this feature, missing values last; None where none is eligible.
    falling
        Whether the lowest value comes first in that order, as it is the better of the two.
    defaults, told
        Marks of a column that is written after the list was shown; `told` is None where no value tells the outcome.
    changes
        How its distribution changed on each day held out; empty where too few training days say what is usual.
    as_served
        Share of the impressions for which the service logged it when it answered. Marks are looked for in the others
        alone, or in all where there are none but a `FEW`.
    """

    name: str
    gain: float
    was: float | None
    vouched: bool
    alone: float | None
    falling: bool
    defaults: Defaults
    told: Told | None
    changes: list[Change]
    as_served: float = 0.0

    @property
    def known_before(self) -> bool:
        """Whether it is known before a list is shown, by the mapping or because the service logged it then."""
        return self.vouched or self.as_served >= 1 - FEW


class Gains(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the gain that the features have, and who vouches for them.

    Attributes
    ----------
    now, before
        Share of the total gain by feature, of this model and of the champion; the latter is None without one.
    vouched
        Features that are known before a list is shown, whatever they look like.
    """

    now: Mapping[str, float]
    before: Mapping[str, float] | None = None
    vouched: Collection[str] = ()


def measure(window: Window, names: Sequence[str], gains: Gains, joined: Collection[str] = ()) -> list[FeatureAudit]:
    """Look at every feature.

    Parameters
    ----------
    names
        Names of the window's columns.
    joined
        Those that no service logged, as they were joined from tables.
    """
    level = LEVEL / max(len(names), 1)
    return [
        _look(window, place, name, gains, level, 0.0 if name in joined else window.served_share)
        for place, name in enumerate(names)
    ]


def _look(window: Window, place: int, name: str, gains: Gains, level: float, as_served: float) -> FeatureAudit:
    column = Column(window, place)
    rising, falling = (_alone(column, sign) for sign in (1, -1))
    marked = Column(window.others, place) if 0 < as_served < 1 - FEW else column
    return FeatureAudit(
        name=name,
        gain=gains.now.get(name, 0.0),
        was=None if gains.before is None else gains.before.get(name, 0.0),
        vouched=name in gains.vouched,
        alone=None if np.isnan(rising) else max(rising, falling),
        falling=falling > rising,
        defaults=defaults(marked, level),
        told=told(marked, level),
        changes=changes(column),
        as_served=as_served,
    )


def _alone(column: Column, sign: int) -> float:
    """Return the mean nDCG@5 of the test rankings by rising or falling values; NaN without an eligible ranking."""
    window = column.window
    values = column.values[window.in_test].astype(np.float64)
    score: NDArray[np.float64] = np.where(np.isnan(values), -np.inf, sign * values)
    ndcg = quality.ndcg(Rankings(window.relevance[window.in_test], score, window.test_group))
    return float(np.nanmean(ndcg)) if np.isfinite(ndcg).any() else np.nan
