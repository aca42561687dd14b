"""Choices of a person about segments: periods, levels, features, weights, and the words for them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ltr_pipeline.errors import SegmentError
from ltr_pipeline.names import misspelt
from ltr_pipeline.segments.engagement import FEATURES, LEVELS
from ltr_pipeline.segments.periods import GRANULARITIES, Granularity

__all__ = ["LANGUAGE", "WORDING", "LevelParameters", "Parameters", "default_levels"]

MAX_K: Final = 50
MAX_PERIODS: Final = 366
LANGUAGE: Final = "pt"

WORDING: Final = {
    "pt": ("engajamento excelente", "engajamento alto", "engajamento médio", "engajamento baixo", "sem engajamento"),
    "en": ("excellent engagement", "high engagement", "medium engagement", "low engagement", "no engagement"),
}
"""Words for levels of engagement by language, the most engaged first: what ``ltr segments init`` writes."""

_WEIGHTS: Final = {"lists": 1.0, "days": 1.0, "interactions": 2.0, "relevance": 2.0}


class LevelParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the entities of one level are segmented.

    Attributes
    ----------
    level
        ``user`` or ``item``.
    k
        Number of segments.
    features
        Which `engagement.FEATURES` tell entities apart.
    weights
        Weight of each in the score that orders the segments from the most engaged to the least; 0 where none is given.

    Raises
    ------
    SegmentError
        The parameters contradict themselves.
    """

    level: str
    k: int
    features: tuple[str, ...]
    weights: dict[str, float]

    def __post_init__(self) -> None:
        if problems := "; ".join(self._problems()):
            raise SegmentError(f"config.segment_levels, level {self.level}: {problems}")

    def _problems(self) -> Iterator[str]:
        if self.level not in LEVELS:
            yield f"there is no such level; there are {', '.join(LEVELS)}"
        if not 2 <= self.k <= MAX_K:
            yield f"k is {self.k}, but must be from 2 to {MAX_K}"
        if not self.features or len(set(self.features)) != len(self.features):
            yield "features must name at least one feature, each once"
        if unknown := [name for name in self.features if name not in FEATURES]:
            yield f"features names {misspelt(unknown, FEATURES)}; there are {', '.join(FEATURES)}"
        if unknown := [name for name in self.weights if name not in self.features]:
            yield f"weights names {misspelt(unknown, self.features)}, which is not among its features"
        if not all(map(math.isfinite, self.weights.values())) or not any(self.weights.values()):
            yield "weights must be finite, and one of them not 0, to order the segments by"


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which periods are looked at, on which levels, and in which words.

    Attributes
    ----------
    granularity
        Length of a period: day, week (from Monday) or month, UTC.
    periods
        How many whole periods count, back from `until`.
    until
        First day that no longer counts; None: the day of the newest landed partition.
    language
        Language of the labels in the cube.
    levels
        The active levels.
    wording
        Words by language, the most engaged first.

    Raises
    ------
    SegmentError
        The parameters contradict themselves.
    """

    granularity: Granularity = "week"
    periods: int = 4
    until: dt.date | None = None
    language: str = LANGUAGE
    levels: tuple[LevelParameters, ...]
    wording: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if problems := "; ".join(self._problems()):
            raise SegmentError(problems)

    def _problems(self) -> Iterator[str]:
        where = "config.segment_parameters"
        if self.granularity not in GRANULARITIES:
            yield f"{where}: granularity is {self.granularity!r}; there are {', '.join(GRANULARITIES)}"
        if not 1 <= self.periods <= MAX_PERIODS:
            yield f"{where}: periods is {self.periods}, but must be from 1 to {MAX_PERIODS}"
        if not self.levels:
            yield "config.segment_levels: no level is active; set active = true for user or item"
        if self.language not in self.wording:
            known = ", ".join(self.wording) or "none at all"
            yield f"{where}: language is {self.language!r}, but config.segment_labels has words in {known}"
        for level in self.levels:
            for language, words in self.wording.items():
                if len(words) < level.k:
                    yield (
                        f"config.segment_labels has {len(words)} labels in {language!r}, but level {level.level} has "
                        f"k = {level.k} segments; add labels, or lower k"
                    )


def default_levels() -> tuple[LevelParameters, ...]:
    """Return the levels that ``ltr segments init`` writes, all active."""
    k = len(WORDING[LANGUAGE])
    return tuple(LevelParameters(level=level, k=k, features=tuple(_WEIGHTS), weights=_WEIGHTS) for level in LEVELS)
