"""The meaning of a score: the probability that an item is relevant, read off a few knots.

Light, as `scoring.linear` is: who reads a document's figures loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_ERROR", "Calibration", "probability"]

MAX_ERROR: Final = 0.05
"""Expected calibration error from which on a probability says less than the rank: then nobody is told it."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Knots of a rising line from scores to the probability of a relevance of at least `positive`.

    Attributes
    ----------
    positive
        Least relevance that counts, of those that the mapping gives actions.
    x, y
        Scores, rising, and the probability at each, which never falls; between two knots it is interpolated, and
        outside of them that of the nearest holds.
    error
        Expected calibration error on the test days, in probability; None where these have too little to tell.
    """

    positive: int
    x: list[float]
    y: list[float]
    error: float | None = None

    @property
    def trusted(self) -> bool:
        """Return whether the probabilities may be told: their error was measured, and is at most `MAX_ERROR`."""
        return self.error is not None and self.error <= MAX_ERROR


def probability(calibration: Calibration, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each score, float64 in [0, 1], of the shape of `scores`; NaN stays NaN.

    Examples
    --------
    >>> knots = Calibration(positive=2, x=[-1.0, 1.0], y=[0.1, 0.3])
    >>> probability(knots, [-5.0, -1.0, 0.0, 9.0]).tolist()
    [0.1, 0.1, 0.2, 0.3]
    """
    import numpy as np

    return np.asarray(np.interp(scores, calibration.x, calibration.y), dtype=np.float64)
