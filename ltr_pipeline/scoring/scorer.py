"""A loaded model, and the order that it gives the candidates of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import lightgbm as lgb
import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring.forest import Forest
from ltr_pipeline.scoring.requests import Candidate, Features, Ranked, Reader, Request
from ltr_pipeline.scoring.resting import rest_if_due
from ltr_pipeline.scoring.trees import Trees, read_trees

__all__ = ["Scorer", "descending", "rank"]

FEW: Final = 1500  # rows times trees up to which LightGBM is the faster one
PROBES: Final = 64  # rows by which the two ways to score a model are compared

log = structlog.get_logger(__name__)


class _Model(Protocol):
    def __call__(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]: ...


class Scorer:
    """A loaded model: candidates or a feature matrix in, scores out.

    Make one with `from_model` or `from_linear`; scoring changes nothing, so threads may share it.

    Attributes
    ----------
    features
        Names of the columns, in order.
    trees
        Of the model; 0 for a linear one.
    """

    def __init__(self, features: Sequence[str], trees: int, model: _Model, contributions: _Model) -> None:
        self.features = tuple(features)
        self.trees = trees
        self._model = model
        self._contributions = contributions
        self._reader = Reader(self.features)

    @classmethod
    def from_model(cls, model_text: str, features: Sequence[str]) -> Scorer:
        """Scorer of a LightGBM model in its text form.

        Raises
        ------
        RankerError
            The text is no model, or one that was trained on other features or another order of them.
        """
        trees = read_trees(model_text)
        try:
            booster = lgb.Booster(model_str=trees.text)
        except lgb.basic.LightGBMError as error:
            raise RankerError(f"this is no LightGBM model: {error}; take it from a weights document again") from error
        if (trained := booster.feature_name()) != list(features):
            raise RankerError(f"the model was trained on the features {trained}, not {list(features)}")

        def predict(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(booster.predict(matrix, raw_score=True, num_threads=1), dtype=np.float64)

        def contribute(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=1), dtype=np.float64)

        forest = Forest.of(trees)
        if len(trees.trees) != booster.num_trees():
            forest = None
        elif forest is not None and not _agree(forest.score, predict, _probes(trees, len(features))):
            log.warning("LightGBM scores by itself: the quick way differs", lightgbm=lgb.__version__)
            forest = None

        def score(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            if forest is None or len(matrix) * len(trees.trees) < FEW:
                return predict(matrix)
            return forest.score(matrix)

        return cls(features, booster.num_trees(), score, contribute)

    @classmethod
    def from_linear(cls, weights: Mapping[str, float], features: Sequence[str]) -> Scorer:
        """Scorer of a weighted sum, in which a missing feature counts 0 and a feature without a weight nothing.

        Raises
        ------
        RankerError
            A weight is for none of the `features`.
        """
        if unknown := sorted(set(weights) - set(features)):
            raise RankerError(f"there are weights for {unknown}, but the features are {list(features)}")
        vector = np.array([weights.get(name, 0.0) for name in features])

        def known(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.nan_to_num(matrix.astype(np.float64), nan=0.0)

        def contribute(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.column_stack([known(matrix) * vector, np.zeros(len(matrix))])

        def predict(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(known(matrix) @ vector, dtype=np.float64)

        return cls(features, 0, predict, contribute)

    def read(self, candidates: Sequence[Candidate]) -> Features:
        """Features of `candidates` as this model takes them: float32, as in training, NaN where missing.

        Raises
        ------
        RequestError
            The features of a candidate are no object and no list, one of them is no finite number, or a list is not as
            long as the model has features.
        """
        return self._reader.read(candidates)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of the rows of `matrix`, float32 (n, features) with NaN for missing; float64 (n,), higher is better.

        Raises
        ------
        RankerError
            The matrix does not have these columns.
        """
        self._check(matrix)
        if len(matrix) == 0:
            return np.empty(0)
        return self._model(matrix)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each feature adds to the score of each row, float64 (n, features + 1); rows sum to the scores.

        The last column is what the model expects of any row. Of a LightGBM model they are Shapley values (Lundberg et
        al. 2018, arXiv 1802.03888).

        Raises
        ------
        RankerError
            The matrix does not have these columns.
        """
        self._check(matrix)
        if len(matrix) == 0:
            return np.empty((0, len(self.features) + 1))
        return self._contributions(matrix)

    def _check(self, matrix: NDArray[np.float32]) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise RankerError(f"a matrix of shape {matrix.shape} does not have {len(self.features)} features")


def _agree(one: _Model, other: _Model, matrix: NDArray[np.float32]) -> bool:
    return np.array_equal(one(matrix), other(matrix), equal_nan=True)


def _probes(trees: Trees, features: int) -> NDArray[np.float32]:
    """Rows of values near which the trees part them, and of missing ones."""
    near: list[list[float]] = [[0.0, np.nan] for _ in range(features)]
    for tree in trees.trees:
        rest_if_due()
        for feature, threshold in zip(tree.split, tree.thresholds, strict=True):
            near[feature].append(threshold)
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        at = np.column_stack([rng.choice(values, PROBES) for values in near]).astype(np.float32)
    beside = [np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate([at, *beside])


def rank(request: Request, scorer: Scorer) -> list[Ranked]:
    """Order the candidates of a request by falling score; equal scores keep the order of the request.

    A feature that the scorer does not know is ignored. No candidates, no ranks.

    Raises
    ------
    RequestError
        The features of a candidate cannot be read (`Scorer.read`).

    Examples
    --------
    >>> candidates = [Candidate.of(item, {"Q": q}) for item, q in [("a", 0.5), ("b", None), ("c", 0.75)]]
    >>> order = rank(Request(query_id="case-1", candidates=candidates), Scorer.from_linear({"Q": 1.0}, ["Q"]))
    >>> [(ranked.item_id, ranked.score) for ranked in order]
    [('c', 0.75), ('a', 0.5), ('b', 0.0)]
    """
    scores = scorer.score(scorer.read(request.candidates).matrix)
    values = scores.tolist()
    return [
        Ranked(item_id=request.candidates[row].item_id, score=values[row], rank=place)
        for place, row in enumerate(descending(scores), start=1)
    ]


def descending(scores: NDArray[np.float64]) -> list[int]:
    """Rows by falling score; equal scores keep their order."""
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order
