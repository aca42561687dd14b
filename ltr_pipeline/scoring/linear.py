"""Linear weights that stand in for a model: light, so that who reads a document's figures loads nothing else."""

from __future__ import annotations

import msgspec

__all__ = ["Linear"]


class Linear(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score that is a weighted sum of standardised features; a missing one adds nothing.

    Attributes
    ----------
    weights
        How much the score rises with a standard deviation of each feature; below 0 where it falls.
    means, scales
        Mean and standard deviation of each feature where it was trained; the latter is above 0.
    """

    weights: dict[str, float]
    means: dict[str, float]
    scales: dict[str, float]
