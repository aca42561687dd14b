"""Words for segments: the order of a declared score chooses them, so that a word means the same after a retrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["engagement_order", "places", "words"]


def engagement_order(
    centroids: NDArray[np.float64], features: Sequence[str], weights: Mapping[str, float]
) -> NDArray[np.int64]:
    """Return the centroids from the most engaged to the least: indices, int64 (k,).

    The score of a centroid is the sum of its scaled features, each times its weight. Equal scores are ordered by the
    features themselves, so that the order never depends on how K-Means numbered its clusters.

    Parameters
    ----------
    centroids
        Float64 (k, features), scaled.

    Examples
    --------
    >>> engagement_order(np.array([[0.0, 1.0], [2.0, 2.0]]), ["days", "lists"], {"days": 1.0}).tolist()
    [1, 0]
    """
    score = centroids @ np.array([weights.get(name, 0.0) for name in features])
    return np.lexsort([*(-centroids.T[::-1]), -score.round(9)])


def places(k: int, words: int) -> list[int]:
    """Return which of some words each of `k` segments gets, evenly spread: the first and the last are always used.

    >>> places(5, 5), places(3, 5), places(2, 5)
    ([0, 1, 2, 3, 4], [0, 2, 4], [0, 4])
    """
    return [round(place * (words - 1) / (k - 1)) for place in range(k)]


def words(k: int, wording: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the labels of `k` segments, the most engaged first, by language.

    Parameters
    ----------
    wording
        At least `k` words in each language, the most engaged first.
    """
    return {language: [said[place] for place in places(k, len(said))] for language, said in wording.items()}
