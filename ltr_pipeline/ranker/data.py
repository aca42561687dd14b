"""Training data: rankings one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "TrainingData"]


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


@dataclass(frozen=True)
class Rows:
    """`TrainingData` made by hand."""

    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    relevance: NDArray[np.int8]
    group: NDArray[np.int32]
    position: NDArray[np.int32] | None = None
