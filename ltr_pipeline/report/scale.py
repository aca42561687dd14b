"""The axis of an inline graphic, in percent of its width, so that the page lays graphics out at any width."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high`; `low` is below `high`."""

    low: float
    high: float

    @classmethod
    def around(cls, *values: float | None) -> Scale | None:
        """Make an axis with a tenth of air around all finite `values`; None when there are none.

        >>> Scale.around(0.25, None, 0.5)
        Scale(low=0.225, high=0.525)
        """
        finite = [value for value in values if value is not None and math.isfinite(value)]
        if not finite:
            return None
        low, high = min(finite), max(finite)
        air = 0.1 * (high - low) or 0.1 * abs(high) or 0.1
        return cls(low - air, high + air)

    @classmethod
    def from_zero(cls, *values: float | None) -> Scale:
        """Make an axis from 0 to the largest of the finite `values`, to 1 when that is 0.

        >>> Scale.from_zero(None, 4.0)
        Scale(low=0.0, high=4.0)
        """
        finite = [value for value in values if value is not None and math.isfinite(value)]
        return cls(0.0, max(finite, default=0.0) or 1.0)

    def at(self, value: float) -> str:
        """Return where a value is; one off the axis is drawn at its end.

        >>> Scale(0.0, 4.0).at(1.0), Scale(0.0, 4.0).at(9.0)
        ('25.00%', '100.00%')
        """
        return f"{self._percent(value):.2f}%"

    def width(self, start: float, end: float) -> str:
        """Return how far it is from `start` to `end`.

        >>> Scale(0.0, 4.0).width(1.0, 3.0)
        '50.00%'
        """
        return f"{self._percent(end) - self._percent(start):.2f}%"

    def _percent(self, value: float) -> float:
        return min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low)))
