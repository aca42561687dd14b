"""Training data: rankings one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.schema import MAX_GROUP_ROWS

__all__ = ["Rows", "TrainingData", "folds", "held_out", "joined", "preferences", "rankings"]

_ONE_IN: Final = 5


class TrainingData(Protocol):
    """Rankings one after the other, n rows: what is read of `dataset.Dataset` or a LETOR file."""

    @property
    def features(self) -> NDArray[np.float32]:
        """Shape (n, features); NaN = missing."""

    @property
    def feature_names(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def relevance(self) -> NDArray[np.int8]:
        """Shape (n,)."""

    @property
    def group(self) -> NDArray[np.int32]:
        """Rows of each ranking."""

    @property
    def position(self) -> NDArray[np.int32] | None:
        """Return where each item was shown, shape (n,); None = not known."""

    @property
    def propensity(self) -> NDArray[np.float32] | None:
        """Return the probability of that place where coins decided it, shape (n,); None = nowhere."""

    @property
    def weight(self) -> NDArray[np.float32] | None:
        """Return what each ranking counts for, shape (rankings,); None = all count alike."""


@dataclass(frozen=True)
class Rows:
    """`TrainingData` made by hand."""

    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    relevance: NDArray[np.int8]
    group: NDArray[np.int32]
    position: NDArray[np.int32] | None = None
    propensity: NDArray[np.float32] | None = None
    weight: NDArray[np.float32] | None = None


def preferences(data: TrainingData) -> int:
    """Count the rankings in which one item is more relevant than another."""
    if not len(data.group):
        return 0
    first = starts(data.group)
    high, low = np.maximum.reduceat(data.relevance, first), np.minimum.reduceat(data.relevance, first)
    return int((high > low).sum())


def rankings(data: TrainingData, chosen: NDArray[np.bool_]) -> Rows:
    """Return the rankings that are chosen, a flag each."""
    rows = np.repeat(chosen, data.group)
    return Rows(
        features=data.features[rows],
        feature_names=tuple(data.feature_names),
        relevance=data.relevance[rows],
        group=data.group[chosen],
        position=None if data.position is None else data.position[rows],
        propensity=None if data.propensity is None else data.propensity[rows],
        weight=None if data.weight is None else data.weight[chosen],
    )


def held_out(queries: Sequence[str]) -> NDArray[np.bool_]:
    """Say of each ranking, by its query, whether it is held out: those of about a fifth of the queries.

    CRC-32 decides, so that a query is on the same side in every night, on every machine and in every release.
    """
    return np.asarray(folds(queries, _ONE_IN) == 0)


def folds(queries: Sequence[str], count: int) -> NDArray[np.int64]:
    """Give each ranking a number below `count` by its query, as `held_out` does."""
    return np.array([zlib.crc32(query.encode()) % count for query in queries], dtype=np.int64)


def joined(first: TrainingData, then: TrainingData) -> Rows:
    """Return the rankings of both, of the same features.

    What only one of them knows is filled in for the other: a position far below all others, no propensity, and a weight
    of 1.
    """
    return Rows(
        features=np.concatenate([first.features, then.features]),
        feature_names=tuple(first.feature_names),
        relevance=np.concatenate([first.relevance, then.relevance]),
        group=np.concatenate([first.group, then.group]),
        position=_filled(first.position, then.position, (first, then), MAX_GROUP_ROWS + 1),
        propensity=_filled(first.propensity, then.propensity, (first, then), np.nan),
        weight=_filled(first.weight, then.weight, (first, then), 1, of_rankings=True),
    )


def _filled(
    first: NDArray[Any] | None,
    then: NDArray[Any] | None,
    data: tuple[TrainingData, TrainingData],
    unknown: float,
    *,
    of_rankings: bool = False,
) -> NDArray[Any] | None:
    """Return a column of both, with `unknown` for the one that lacks it; None where both do."""
    if first is None and then is None:
        return None
    lengths = (len(one.group) if of_rankings else len(one.relevance) for one in data)
    dtype = (first if first is not None else then).dtype  # type: ignore[union-attr]
    parts = (first, then)
    return np.concatenate(
        [np.full(n, unknown, dtype) if part is None else part for part, n in zip(parts, lengths, strict=True)]
    )
