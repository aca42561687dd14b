"""Public learning-to-rank files (LETOR, LibSVM), to check the figures of this package against published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.ranker.data import Rows, rankings
from ltr_pipeline.ranker.libsvm import read_libsvm, with_columns

__all__ = [
    "FOLDS",
    "GRID",
    "STATED",
    "Fit",
    "LetorReport",
    "LetorScore",
    "evaluate_letor",
    "training_part",
]

STATED: Final[dict[str, Any]] = {
    "num_iterations": 100,
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 50,
    "min_sum_hessian_in_leaf": 5.0,
}
"""Parameters of the published figures on LightGBM's example data."""

GRID: Final[Mapping[str, tuple[Any, ...]]] = {
    "learning_rate": (0.05, 0.1),
    "num_leaves": (7, 31),
    "min_data_in_leaf": (10, 50),
    "feature_fraction": (0.3, 1.0),
}
"""The grid searched on the training part, each combination on top of `STATED`; fixed before any test part was read."""

FOLDS: Final = 5


Scores = NDArray[np.float64]
Fit = Callable[[Rows, Mapping[str, Any]], Callable[[NDArray[np.float32]], Scores]]
"""Trains on a part of a file; gives back what scores a feature matrix."""


class LetorScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures that one set of parameters reaches.

    Attributes
    ----------
    parameters
        As trained with on the whole training part.
    cross_validated
        Mean nDCG@5 of the training part's rankings, each scored by a model that has not seen its fold.
    metrics
        On the test part; rankings are the clusters of the intervals.
    """

    parameters: dict[str, Any]
    cross_validated: float
    metrics: Metrics


class LetorReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures of the stated parameters, and beside them those of the parameters chosen by cross-validation.

    Both are reported, whichever is higher: choosing by the test part would make its figure worthless.
    """

    stated: LetorScore
    chosen: LetorScore


def evaluate_letor(train: Path, test: Path, fit: Fit) -> LetorReport:
    """Score the test part of a public ranking set after training on its training part.

    The parameters that `chosen` is trained with win a `FOLDS`-fold cross-validation of `GRID` over the rankings of the
    training part, by mean nDCG@5; ranking *i* is in fold *i* mod `FOLDS`, and the first of equals wins. The test part
    is read after that.

    Parameters
    ----------
    train, test
        Files for `read_libsvm`.
    fit
        Trains on a part with parameters of LightGBM; deterministic.

    Raises
    ------
    DatasetError
        A file cannot be read, or no ranking of the training part is eligible.
    """
    if not test.is_file():
        raise DatasetError(f"{test} is no file; name the test part of a LibSVM ranking set")
    seen = read_libsvm(train)
    tried = [STATED, *(STATED | dict(zip(GRID, values, strict=True)) for values in product(*GRID.values()))]
    reached = [_cross_validated(seen, parameters, fit) for parameters in tried]
    best = int(np.argmax(reached))
    held_out = read_libsvm(test)
    names = tuple(sorted({*seen.feature_names, *held_out.feature_names}, key=int))
    seen, held_out = with_columns(seen, names), with_columns(held_out, names)
    stated, chosen = (
        LetorScore(
            parameters=dict(tried[index]),
            cross_validated=reached[index],
            metrics=_metrics(held_out, fit(seen, tried[index])(held_out.features)),
        )
        for index in (0, best)
    )
    return LetorReport(stated=stated, chosen=chosen)


def _metrics(data: Rows, scores: Scores) -> Metrics:
    return quality.measure(Rankings(data.relevance, scores, data.group), np.arange(len(data.group)))


def _cross_validated(data: Rows, parameters: Mapping[str, Any], fit: Fit) -> float:
    fold = np.arange(len(data.group)) % FOLDS
    folds = [(rankings(data, fold != held_out), rankings(data, fold == held_out)) for held_out in range(FOLDS)]
    values = np.concatenate(
        [
            quality.ndcg(Rankings(rest.relevance, fit(most, parameters)(rest.features), rest.group))
            for most, rest in folds
        ]
    )
    if np.isnan(values).all():
        raise DatasetError("no ranking of the training part has two items and one relevant; there is nothing to learn")
    return float(np.nanmean(values))


def training_part(test: Path) -> Path:
    """Find the file that goes with a test part: the same name with ``train`` for ``test``.

    Raises
    ------
    DatasetError
        There is no such file.
    """
    train = test.with_name("train".join(test.name.rsplit("test", 1)))
    if train == test or not train.is_file():
        raise DatasetError(f"{test}: no training part beside it; name it with --train")
    return train
