"""Training data: rankings one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.rankings import starts

__all__ = ["Rows", "TrainingData", "held_out", "preferences", "rankings"]

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
    return np.array([zlib.crc32(query.encode()) % _ONE_IN == 0 for query in queries], dtype=bool)
