"""An hourly refresh: the nightly model made new from rankings that were answered since, for the rest of the day.

By default the trees stay as they are and their leaves get new values (`refit`), which takes seconds. Every refresh is
made from the nightly model and never from another refresh: a chain of twelve continuations fell from an nDCG@5 of 0.609
to 0.585.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import lightgbm as lgb
import numpy as np

from ltr_pipeline.errors import NothingToLearnError, RankerError
from ltr_pipeline.metrics.unbiased import Examination
from ltr_pipeline.ranker.data import TrainingData
from ltr_pipeline.ranker.debias import weights
from ltr_pipeline.ranker.train import Trained, described, row_weights, text_of

__all__ = ["DECAY", "FEWEST_POSITIVE", "MOST_ROWS", "check_enough", "refit", "refreshed"]

DECAY: Final = 0.9
"""Share of its former value that a leaf keeps."""

FEWEST_POSITIVE: Final = 200
"""With fewer positive answers a refresh learns nothing but noise: an hour of a small team has one or two."""

MOST_ROWS: Final = 50_000
"""About so many rows are learned from, and judged by, at most (`dataset.load.thinned`): more take longer and tell
hardly more."""


def check_enough(fresh: TrainingData, positive: int) -> int:
    """Return how many impressions have a relevance of at least `positive`.

    Raises
    ------
    NothingToLearnError
        They are fewer than `FEWEST_POSITIVE`.
    """
    found = int(np.count_nonzero(fresh.relevance >= positive))
    if found < FEWEST_POSITIVE:
        raise NothingToLearnError(
            f"there is nothing to refresh: {found} positive answers to the rankings that were answered lately, and "
            f"{FEWEST_POSITIVE} is the least to learn from"
        )
    return found


def refit(
    parent: str,
    fresh: TrainingData,
    *,
    decay: float = DECAY,
    threads: int = 1,
    looked_at: Sequence[Examination] = (),
) -> str:
    """Give the leaves of a model new values by rankings it has not seen; its text form.

    A new value is `decay` times the former and the rest what LambdaMART would give the leaf on these rankings, after
    the trees before it. The same model and rankings give the same text, byte for byte, with any number of threads.
    LightGBM takes no positions here, so that its own way to remove position bias cannot be had.

    Parameters
    ----------
    parent
        Text of the model.
    looked_at
        How much each rank is looked at, by coins: answers are weighted by it, as in `train.train`; empty = not.

    Raises
    ------
    NothingToLearnError
        The rankings have other features than the model.
    RankerError
        LightGBM cannot read the model or refuses to refit it.
    """
    return text_of(_refit(parent, fresh, decay, threads, looked_at))


def refreshed(
    parent: str,
    fresh: TrainingData,
    valid: TrainingData,
    *,
    parameters: Mapping[str, Any],
    positive: int,
    decay: float = DECAY,
    threads: int = 1,
    looked_at: Sequence[Examination] = (),
) -> tuple[str, Trained]:
    """Refit a model, and make anew what stands beside its trees; its text and how it went.

    The calibration is fitted on the validation days of the night: what came of them is known to its end, while much of
    what fresh rankings will earn is still to come. The linear weights are distilled on the fresh ones, which need no
    answer for that. Importance and missing rules are those of the trees, which stay.

    Parameters
    ----------
    valid
        Validation rankings of the night.
    parameters
        Of the parent, for the record.
    positive
        Least relevance whose probability the scores are calibrated to.

    Raises
    ------
    NothingToLearnError
        As `refit`, or fewer than `FEWEST_POSITIVE` impressions have a relevance of `positive`.
    RankerError
        As `refit`.
    """
    started = time.perf_counter()
    check_enough(fresh, positive)
    booster = _refit(parent, fresh, decay, threads, looked_at)
    return described(
        booster,
        fresh,
        valid,
        parameters={**parameters, "refit_decay_rate": decay, "debias": "coins" if looked_at else False},
        positive=positive,
        seconds=time.perf_counter() - started,
    )


def _refit(
    parent: str, fresh: TrainingData, decay: float, threads: int, looked_at: Sequence[Examination]
) -> lgb.Booster:
    try:
        booster = lgb.Booster(model_str=parent)
        if booster.feature_name() != list(fresh.feature_names):
            raise NothingToLearnError(
                f"there is nothing to refresh: the model has the features {booster.feature_name()}, and events are now "
                f"read with {list(fresh.feature_names)}; the next night trains with these"
            )
        return booster.refit(
            fresh.features,
            fresh.relevance,
            decay_rate=decay,
            group=fresh.group,
            weight=row_weights(fresh, weights(fresh, looked_at)),
            feature_name=list(fresh.feature_names),
            dataset_params={"num_threads": threads, "verbosity": -1},
        )
    except (lgb.basic.LightGBMError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RankerError(f"LightGBM refuses to refit the model: {reason}; set LTR_HOURLY_MODE=full") from error
