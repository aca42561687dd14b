"""The domain classifier: how well a model tells the rows of a day from those of a reference, by all features at once.

It sees what no single feature shows, such as two features that go together now and did not before. Each person's rows
are in one fold, so that it cannot know anybody again. A feature that is the same in all rows of a list gains by chance
as much as its lists are long; a split by it counts for less, by the square of the design effect, so that such features
do not drown the others.

Days differ a little in every feature, and a classifier adds that up. So where it tells a day apart, a second one is
asked that sees each value by its rank among its own side's alone (`by_rank`): by that, every feature is spread alike in
both, and what is left is what goes together differently. Gaps have no rank, so a feature that is missing more often on
one side is not shown to it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.auc import area_under_curve
from ltr_pipeline.monitoring.records import DomainDrift, Figure

__all__ = ["LEAST_PEOPLE", "MOST_CURRENT", "MOST_REFERENCE", "Sides", "by_rank", "domain_drift", "some_clusters"]

MOST_REFERENCE: Final = 10_000
MOST_CURRENT: Final = 5_000
"""Rows above which whole clusters are drawn: more would take longer and tell hardly more."""

FOLDS: Final = 5
ROUNDS: Final = 25
LEADING: Final = 5
"""How many of the features that tell both apart are named."""

LEAST_PEOPLE: Final = 20
"""People on either side below which an area has no interval. Folds are compared within themselves, so that what differs
between two people of a side is not seen where each has a fold of its own: with 2 people on a day like any other the
lower end lay above 0.55 in 16 of 60 draws, with 10 in 3, and with 20 in none."""

_UNLIKE_GAPS: Final = 0.05
"""Difference of the shares that are missing from which on a feature is not ranked: alone it makes an area of 0.525."""

_PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.3,
    "num_leaves": 8,
    "min_data_in_leaf": 200,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
    "verbose": -1,
}


class Sides(NamedTuple):
    """Rows of a reference and of a day.

    Attributes
    ----------
    reference, current
        float32 (n, features) and (m, features), NaN = missing.
    asker
        Who each row was shown to, or else its list, int64 (n + m,): the same number for the same person in both.
    features
        Names of the columns.
    design
        Design effect of each column, at least 1, float64 (features,).
    """

    reference: NDArray[np.float32]
    current: NDArray[np.float32]
    asker: NDArray[np.int64]
    features: list[str]
    design: NDArray[np.float64]


def domain_drift(name: str, sides: Sides, seed: int) -> DomainDrift:
    """Train the classifier on all folds but one, for each of them, and measure it on that.

    Parameters
    ----------
    name
        Of the reference.
    seed
        Of the folds.

    Returns
    -------
    Without an interval where either side has fewer than `LEAST_PEOPLE`, or a classifier found nothing to go by, as with
    too few rows or constant features: it is not sure that both are alike. Without an area where none could be trained,
    as all rows of a side are one person's.
    """
    matrix = np.concatenate([sides.reference, sides.current])
    current = np.arange(len(matrix)) >= len(sides.reference)
    people, place = np.unique(sides.asker, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(len(people)) % FOLDS)[place]
    parameters = _PARAMETERS | {"feature_contri": (1 / np.maximum(sides.design, 1.0) ** 2).tolist()}
    every = lgb.Dataset(matrix, label=current.astype(np.float32), params=parameters, free_raw_data=False)
    every.construct()
    scores, gain = np.full(len(matrix), np.nan), np.zeros(len(sides.features))
    sure = min(len(np.unique(place[current])), len(np.unique(place[~current]))) >= LEAST_PEOPLE
    for one in range(FOLDS):
        learned = np.flatnonzero(fold != one)
        if current[learned].any() and not current[learned].all():
            booster = lgb.train(parameters, every.subset(learned.tolist()), num_boost_round=ROUNDS)
            scores[fold == one] = np.asarray(booster.predict(matrix[fold == one], num_threads=1))
            found = booster.feature_importance("gain")
            gain += found
            sure = sure and bool(found.any())
    scored = ~np.isnan(scores)
    area = area_under_curve(scores[scored], current[scored], place[scored], fold[scored])
    interval = area.interval if sure else None
    if np.isnan(area.value):
        return DomainDrift(reference=name, auc=Figure(value=None, n=len(matrix)))
    auc = Figure(
        value=area.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=len(matrix),
    )
    return DomainDrift(reference=name, auc=auc, leading=_leading(sides.features, gain))


def by_rank(sides: Sides, seed: int) -> Sides:
    """Give each value its rank among its own side's, from 0 to 1; of equal values, chance orders them.

    A feature that is missing more often on one side is missing in all rows: by its gaps alone both would be told apart.
    """
    rng = np.random.default_rng(seed)
    reference, current = _ranked(sides.reference, rng), _ranked(sides.current, rng)
    gaps, gaps_now = np.isnan(reference).mean(axis=0), np.isnan(current).mean(axis=0)
    unlike = np.abs(gaps_now - gaps) >= _UNLIKE_GAPS
    reference[:, unlike] = current[:, unlike] = np.nan
    return sides._replace(reference=reference, current=current)


def _ranked(matrix: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    ranked = np.full_like(matrix, np.nan)
    for column, values in enumerate(matrix.T):
        there = np.flatnonzero(~np.isnan(values))
        order = np.lexsort((rng.random(len(there)), values[there]))
        ranked[there[order], column] = (np.arange(len(there)) + 0.5) / max(len(there), 1)
    return ranked


def _leading(features: list[str], gain: NDArray[np.float64]) -> dict[str, float]:
    total = gain.sum()
    order = np.argsort(-gain, kind="stable")[:LEADING]
    return {features[place]: float(gain[place] / total) for place in order if gain[place] > 0}


def some_clusters(cluster: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of whole clusters, drawn at random until there are `most` or nearly, in their order.

    All of them where they are no more than that; at least one cluster.

    >>> some_clusters(np.array([7, 7, 3, 3]), 2, seed=1).tolist() in ([0, 1], [2, 3])
    True
    """
    if len(cluster) <= most:
        return np.arange(len(cluster))
    _, place = np.unique(cluster, return_inverse=True)
    sizes = np.bincount(place)
    order = np.random.default_rng(seed).permutation(len(sizes))
    kept = order[: max(int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")), 1)]
    return np.flatnonzero(np.isin(place, kept))
