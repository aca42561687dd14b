"""The scale of what is written for a score, which itself has none: 100 times a probability, or else a percentile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.batch.job import ranks
from ltr_pipeline.scoring.calibration import Calibration, probability

__all__ = ["Scale", "ScaleName", "labelled", "quantiles"]

ScaleName = Literal["probability", "percentile"]

STEPS: Final = 1001  # of the scores that percentiles are read from
DECIMALS: Final = 2


class Scale:
    """From raw scores to 0…100, rising with them.

    Parameters
    ----------
    calibration
        Of the version, where its probabilities can be trusted.
    reference
        Else rising quantiles of the version's scores over the same rows.
    """

    def __init__(self, calibration: Calibration | None, reference: Sequence[float] = ()) -> None:
        self._calibration = calibration
        self._reference = np.asarray(reference, dtype=np.float64)

    @property
    def name(self) -> ScaleName:
        """Return which of the two it is."""
        return "probability" if self._calibration else "percentile"

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is written for raw scores, of two decimals.

        >>> Scale(None, reference=[0.0, 1.0, 1.0, 2.0])(np.array([-1.0, 1.0, 2.0])).tolist()
        [0.0, 50.0, 87.5]
        """
        share = probability(self._calibration, scores) if self._calibration else self._percentile(scores)
        return np.asarray((100 * share).round(DECIMALS))

    def _percentile(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of the reference that is lower, with half of what is equal."""
        below = np.searchsorted(self._reference, scores, side="left")
        upto = np.searchsorted(self._reference, scores, side="right")
        return np.asarray((below + upto) / (2 * max(1, len(self._reference))))


def quantiles(scores: NDArray[np.float64]) -> list[float]:
    """Return at most `STEPS` rising quantiles of scores."""
    if len(scores) == 0:
        return []
    found: list[float] = np.quantile(scores, np.linspace(0, 1, min(STEPS, len(scores))), method="nearest").tolist()
    return found


def labelled(values: NDArray[np.float64], labels: Mapping[str, float]) -> list[str | None]:
    """Return for each value the label with the highest cut that it reaches; None below all.

    >>> labelled(np.array([70.0, 69.9, -1.0]), {"warm": 30, "hot": 70, "cold": 0})
    ['hot', 'warm', None]
    """
    cuts = ranks(labels)
    return [next((label for cut, label in cuts if value >= cut), None) for value in values.tolist()]
