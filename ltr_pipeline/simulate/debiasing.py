"""Measure each way of taking position bias out of training by the truth of a simulated world."""

from __future__ import annotations

from typing import Final

import numpy as np

from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.debias import Debias
from ltr_pipeline.ranker.train import train
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.simulate.draw import ANSWER_THRESHOLDS, sample
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, Floats, ShownLists, World

__all__ = ["WAYS", "by_utility", "worth"]

WAYS: Final[tuple[Debias, ...]] = (False, True, "coins")

_VALIDATION = 8  # one validation ranking for so many training rankings


def by_utility(world: World, seed: int, rankings: int, judged: int) -> dict[Debias, float]:
    """Train a model on the same lists in each way; the mean nDCG@5 of each by utility, over other lists.

    Parameters
    ----------
    rankings, judged
        Lists to train on, and to judge by.
    """
    learned, valid, lists = (
        sample(world, count, np.random.default_rng([seed, number]))
        for number, count in enumerate((rankings, rankings // _VALIDATION, judged))
    )
    found = {}
    for way in WAYS:
        model, _ = train(_rows(learned), _rows(valid), max_relevance=len(ACTIONS) - 1, seed=seed, debias=way)
        found[way] = float(np.nanmean(worth(lists, Scorer.from_model(model, FEATURES).score(lists.features))))
    return found


def worth(lists: ShownLists, score: Floats) -> Floats:
    """Return the nDCG@5 of each list as if relevance were the answer to the item's true utility, seen or not."""
    answer = np.searchsorted(ANSWER_THRESHOLDS, lists.utility).astype(np.int8)
    return quality.ndcg(Rankings(answer, score, lists.group))


def _rows(lists: ShownLists) -> Rows:
    return Rows(lists.features, FEATURES, lists.relevance(), lists.group, lists.position, lists.propensity)
