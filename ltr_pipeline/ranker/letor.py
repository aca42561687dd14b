"""Public learning-to-rank files (LETOR, LibSVM), to check the figures of this package against published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import MAX_RELEVANCE
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings

__all__ = [
    "FOLDS",
    "GRID",
    "STATED",
    "Fit",
    "Letor",
    "LetorReport",
    "LetorScore",
    "evaluate_letor",
    "read_letor",
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


@dataclass(frozen=True)
class Letor:
    """Rankings of a file one after the other, n rows; what `ranker.train.boost` reads.

    Attributes
    ----------
    features
        float32 (n, features); column *j* is the file's feature *j*, 0 where the file has none.
    feature_names
        ``"0"``, ``"1"``, … in order.
    relevance
        int8 (n,).
    group
        Rows of each ranking, int32.
    position
        Always None: such files have none.
    """

    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    relevance: NDArray[np.int8]
    group: NDArray[np.int32]
    position: None = None


Scores = NDArray[np.float64]
Fit = Callable[[Letor, Mapping[str, Any]], Callable[[NDArray[np.float32]], Scores]]
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


def evaluate_letor(train: Path, test: Path, fit: Fit, seed: int = 0) -> LetorReport:
    """Score the test part of a public ranking set after training on its training part.

    The parameters that `chosen` is trained with win a `FOLDS`-fold cross-validation of `GRID` over the rankings of the
    training part, by mean nDCG@5; ranking *i* is in fold *i* mod `FOLDS`, and the first of equals wins. The test part
    is read after that.

    Parameters
    ----------
    train, test
        Files for `read_letor`.
    fit
        Trains on a part with parameters of LightGBM; deterministic.
    seed
        Of the intervals.

    Raises
    ------
    DatasetError
        A file cannot be read, or no ranking of the training part is eligible.
    """
    if not test.is_file():
        raise DatasetError(f"{test} is no file; name the test part of a LibSVM ranking set")
    seen = read_letor(train)
    tried = [STATED, *(STATED | dict(zip(GRID, values, strict=True)) for values in product(*GRID.values()))]
    reached = [_cross_validated(seen, parameters, fit) for parameters in tried]
    best = int(np.argmax(reached))
    held_out = read_letor(test)
    width = max(seen.features.shape[1], held_out.features.shape[1])
    seen, held_out = _widened(seen, width), _widened(held_out, width)
    stated, chosen = (
        LetorScore(
            parameters=dict(tried[index]),
            cross_validated=reached[index],
            metrics=_metrics(held_out, fit(seen, tried[index])(held_out.features), seed),
        )
        for index in (0, best)
    )
    return LetorReport(stated=stated, chosen=chosen)


def _metrics(data: Letor, scores: Scores, seed: int) -> Metrics:
    return quality.measure(Rankings(data.relevance, scores, data.group), np.arange(len(data.group)), seed)


def _cross_validated(data: Letor, parameters: Mapping[str, Any], fit: Fit) -> float:
    fold = np.arange(len(data.group)) % FOLDS
    folds = [(_rankings(data, fold != held_out), _rankings(data, fold == held_out)) for held_out in range(FOLDS)]
    values = np.concatenate(
        [
            quality.ndcg(Rankings(rest.relevance, fit(most, parameters)(rest.features), rest.group))
            for most, rest in folds
        ]
    )
    if np.isnan(values).all():
        raise DatasetError("no ranking of the training part has two items and one relevant; there is nothing to learn")
    return float(np.nanmean(values))


def _rankings(data: Letor, chosen: NDArray[np.bool_]) -> Letor:
    rows = np.repeat(chosen, data.group)
    return replace(data, features=data.features[rows], relevance=data.relevance[rows], group=data.group[chosen])


def _widened(data: Letor, width: int) -> Letor:
    """Add columns of 0 up to `width`: a part may lack the last features."""
    more = width - data.features.shape[1]
    return replace(data, features=np.pad(data.features, ((0, 0), (0, more))), feature_names=_names(width))


def _names(width: int) -> tuple[str, ...]:
    return tuple(map(str, range(width)))


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


def read_letor(path: Path) -> Letor:
    """Read a LibSVM ranking file, plain or ``.gz``: ``<relevance> [qid:<query>] <feature>:<value> ...`` a line.

    Rankings are told by the file ``<path>.query``, one row count a line, else by ``qid``, whose rows stand together.

    Raises
    ------
    DatasetError
        The file cannot be read, its rows have no or contradicting groups, or a relevance is no whole number from 0 to
        30.
    """
    try:
        from sklearn.datasets import load_svmlight_file
    except ImportError as error:
        raise DatasetError("reading LibSVM files needs scikit-learn: pip install 'ltr-pipeline[letor]'") from error
    try:
        matrix, label, qid = load_svmlight_file(str(path), dtype=np.float32, zero_based=True, query_id=True)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; expected LibSVM lines such as '2 qid:7 1:0.5 3:0.25'") from error
    if not np.isin(label, np.arange(MAX_RELEVANCE + 1)).all():
        raise DatasetError(f"{path}: relevance must be whole numbers from 0 to {MAX_RELEVANCE}")
    return Letor(
        features=matrix.toarray(),
        feature_names=_names(matrix.shape[1]),
        relevance=label.astype(np.int8),
        group=_group(path, len(label), qid),
    )


def _group(path: Path, rows: int, qid: NDArray[np.int64]) -> NDArray[np.int32]:
    sizes = path.with_name(path.name.removesuffix(".gz") + ".query")
    if sizes.is_file():
        return _sizes(sizes, rows)
    if rows == 0 or len(qid) != rows:
        raise DatasetError(f"{path}: which rows belong together? There is no qid in every line and no {sizes.name}")
    starts = np.flatnonzero(np.diff(qid, prepend=qid[0] - 1))
    if len(starts) > len(np.unique(qid)):
        raise DatasetError(f"{path}: rows of one qid do not stand together; sort the file by qid")
    return np.diff(starts, append=rows).astype(np.int32)


def _sizes(path: Path, rows: int) -> NDArray[np.int32]:
    try:
        group = np.array(path.read_text(encoding="utf-8").split(), dtype=np.int32)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; expected one row count a line") from error
    if group.sum() != rows or (group < 1).any():
        raise DatasetError(f"{path}: row counts must be positive and sum to the {rows} rows, not {group.sum()}")
    return group
