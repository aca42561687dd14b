"""The values of a feature as small whole numbers, so that counting them is cheap."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MISSING", "Scale"]

MISSING: Final = 0
"""Code of a missing value: it comes before all others."""

_STEPS: Final = 32


class Scale:
    """A feature's values in order: each quantile of a sample is a code of its own, and so is what lies between two.

    A value that many rows share, such as 0 or one of two, is a quantile, so that no other value has its code.

    Parameters
    ----------
    sample
        Values, float32 (n,), NaN = missing.

    Examples
    --------
    >>> scale = Scale(np.float32([0, 0, 0, 0, 5]))
    >>> scale.codes(np.float32([np.nan, -1, 0, 0.5, 5, 9])).tolist(), scale.size
    ([0, 1, 2, 3, 4, 5], 6)
    """

    def __init__(self, sample: NDArray[np.float32]) -> None:
        known = sample[~np.isnan(sample)]
        steps = np.linspace(0, 1, _STEPS + 1)
        # A quantile is one of the values, never a mean of two.
        self._edges = np.unique(np.quantile(known, steps, method="lower")) if len(known) else known

    @property
    def size(self) -> int:
        """Number of codes."""
        return 2 * len(self._edges) + 2

    @cached_property
    def exact(self) -> dict[int, float | None]:
        """The value of each code that stands for a single one; None is missing."""
        return {MISSING: None} | {2 * place + 2: float(edge) for place, edge in enumerate(self._edges)}

    def codes(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the code of each value, (n,)."""
        if not len(self._edges):
            return np.where(np.isnan(values), MISSING, 1)
        place = np.searchsorted(self._edges, values)
        on_edge = self._edges[np.minimum(place, len(self._edges) - 1)] == values
        return np.where(np.isnan(values), MISSING, 1 + 2 * place + on_edge)
