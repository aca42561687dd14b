"""Features that look as if they knew the outcome, or as if they broke: what the audit found, held against limits."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.outcomes import Told

__all__ = ["Changed", "Suspicion", "changed", "suspicions"]

SURE: Final = 0.9
"""Values of which surely more impressions were relevant know the outcome: what is known before leaves some unseen."""

LIFT: Final = 20.0
"""How many times as often, in odds, as any impression: where most impressions are relevant, `SURE` says little."""

FADING: Final = 0.1
"""Growth of the share without a value, towards the newest days, from which on a column is filled in later."""

DOMINATES: Final = 0.5
"""Share of the gain from which on a feature dominates, if it is `NEW` to the champion."""

NEW: Final = 0.1
"""Part of that share up to which the champion hardly used it: features that say the same take turns by more."""


class Suspicion(NamedTuple):
    """A feature and what speaks against it.

    Attributes
    ----------
    sure
        Whether the data show it; else it is a doubt that somebody should look at.
    """

    feature: str
    what: str
    sure: bool


def suspicions(features: Sequence[FeatureAudit]) -> list[Suspicion]:
    """Say which features look as if they knew the outcome, the surest first.

    Features that the model does not use harm nobody. Nor do those that are vouched for, or that the service logged when
    it answered: they are known before.
    """
    found = [one for feature in features if feature.gain > 0 and not feature.known_before for one in _of(feature)]
    return sorted(found, key=lambda one: not one.sure)


def _of(feature: FeatureAudit) -> Iterator[Suspicion]:
    name, told = feature.name, feature.told
    if told is not None and _knows(told):
        yield Suspicion(
            name,
            f"{name} knows the outcome: {told.impressions:,} test impressions have values that nearly only relevant "
            f"ones had in training; {_percent(told.relevant)} of them are relevant, against {_percent(told.usual)} of "
            f"all, and {_percent(told.known)} of the relevant ones are among them",
            sure=True,
        )
    elif feature.defaults.fading > FADING:
        yield Suspicion(
            name,
            f"{name} seems to be filled in later: the newest impressions lack it more often than the oldest, by at "
            f"least {_percent(feature.defaults.fading)} of them",
            sure=False,
        )
    elif feature.was is not None and feature.gain >= DOMINATES and feature.was <= NEW * feature.gain:
        yield Suspicion(
            name,
            f"{name} suddenly dominates: {_percent(feature.gain)} of the model's gain are its, and "
            f"{_percent(feature.was)} of the champion's",
            sure=False,
        )


def _knows(told: Told) -> bool:
    return told.low > SURE and _odds(told.low) > LIFT * _odds(told.usual)


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf


class Changed(NamedTuple):
    """A feature, the day on which it changed, by how much, and how much would be too much."""

    feature: str
    day: dt.date
    distance: float
    limit: float

    @property
    def excess(self) -> float:
        """By how much it changed too much; not above 0 for a normal change."""
        return self.distance - self.limit


def changed(features: Sequence[FeatureAudit], limit: float) -> list[Changed]:
    """Return the most unusual change of each feature that the model uses, the most unusual of all first.

    Parameters
    ----------
    limit
        Distance that is never too much.
    """
    found = [
        max(
            (Changed(feature.name, one.day, one.distance, max(limit, one.limit)) for one in feature.changes),
            key=lambda one: one.excess,
        )
        for feature in features
        if feature.gain > 0 and feature.changes
    ]
    return sorted(found, key=lambda one: -one.excess)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
