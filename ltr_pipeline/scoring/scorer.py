"""A loaded model, and the order in which it puts the candidates of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import lightgbm as lgb
import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring.forest import Forest
from ltr_pipeline.scoring.kernel import fastest
from ltr_pipeline.scoring.linear import Linear
from ltr_pipeline.scoring.requests import Candidate, Features, Ranked, Reader, Request
from ltr_pipeline.scoring.resting import rest_if_due
from ltr_pipeline.scoring.trees import Trees, read_trees

__all__ = ["Scorer", "descending", "rank"]

PROBES: Final = 64  # values of each feature by which the two ways to score a model are compared

log = structlog.get_logger(__name__)


class _Model(Protocol):
    def __call__(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]: ...


class Scorer:
    """A loaded model: candidates or a feature matrix in, scores out.

    Make one with `from_model`, `from_linear` or `from_standardised`; scoring changes nothing, so threads may share it.

    Attributes
    ----------
    features
        Names of the columns, in order.
    trees
        How many trees the model has; 0 for a linear one.
    used
        Features that its scores depend on; all, where nothing else is known.
    """

    def __init__(
        self,
        features: Sequence[str],
        trees: int,
        model: _Model,
        contributions: _Model,
        used: Iterable[str] | None = None,
    ) -> None:
        self.features = tuple(features)
        self.trees = trees
        self.used = frozenset(self.features if used is None else used)
        self._model = model
        self._contributions = contributions
        self._reader = Reader(self.features, fastest())

    @classmethod
    def from_model(cls, model_text: str, features: Sequence[str]) -> Scorer:
        """Make the scorer of a LightGBM model in its text form.

        Raises
        ------
        RankerError
            The text is no model, or one that was trained on other features or in another order of them.
        """
        model = _TreeModel(model_text, features)
        return cls(features, model.trees, model.score, model.contributions, model.used)

    @classmethod
    def from_linear(cls, weights: Mapping[str, float], features: Sequence[str]) -> Scorer:
        """Make the scorer of a weighted sum, to which a missing feature and one without a weight add nothing.

        Raises
        ------
        RankerError
            A weight is for none of the `features`.
        """
        if unknown := sorted(set(weights) - set(features)):
            raise RankerError(f"there are weights for {unknown}, but the features are {list(features)}")
        steepness = np.array([weights.get(name, 0.0) for name in features])
        model = _LinearModel(steepness, np.zeros(len(features)))
        used = (name for name, weight in weights.items() if weight)
        return cls(features, 0, model.score, model.contributions, used)

    @classmethod
    def from_standardised(cls, linear: Linear, features: Sequence[str]) -> Scorer:
        """Make the scorer of a weighted sum of standardised features, to which a missing one adds nothing.

        Raises
        ------
        RankerError
            A weight is missing, or is for none of the `features`.
        """
        if wrong := sorted(set(linear.weights).symmetric_difference(features)):
            raise RankerError(f"the linear weights and the features differ in {wrong}")
        steepness = np.array([linear.weights[name] / linear.scales[name] for name in features])
        model = _LinearModel(steepness, np.array([linear.means[name] for name in features]))
        used = (name for name, weight in linear.weights.items() if weight)
        return cls(features, 0, model.score, model.contributions, used)

    def read(self, candidates: Sequence[Candidate]) -> Features:
        """Read the features of `candidates` into a matrix for this model: float32, as in training, NaN where missing.

        Raises
        ------
        RequestError
            The features of a candidate are no object and no list, one of them is no finite number, or a list is not as
            long as the model has features.
        """
        return self._reader.read(candidates)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score the rows of `matrix`, float32 (n, features) with NaN for missing; float64 (n,), higher is better.

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
        """Return how much each feature adds to each row's score, float64 (n, features + 1); rows sum to the scores.

        The last column is the score that the model expects of any row. The contributions of a LightGBM model are
        Shapley values (Lundberg et al. 2018, arXiv 1802.03888).

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


class _LinearModel:
    """A weighted sum of how far each feature is from its centre; a missing one is there."""

    def __init__(self, weights: NDArray[np.float64], centres: NDArray[np.float64]) -> None:
        self._weights, self._centres = weights, centres

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(self._off_centre(matrix) @ self._weights, dtype=np.float64)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.column_stack([self._off_centre(matrix) * self._weights, np.zeros(len(matrix))])

    def _off_centre(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.nan_to_num(matrix.astype(np.float64) - self._centres, nan=0.0)


class _TreeModel:
    """A LightGBM model, scored by a forest where that agrees and pays, else by LightGBM itself."""

    def __init__(self, model_text: str, features: Sequence[str]) -> None:
        found = read_trees(model_text)
        try:
            self._booster = lgb.Booster(model_str=found.text)
        except lgb.basic.LightGBMError as error:
            raise RankerError(f"this is no LightGBM model: {error}; take it from a weights document again") from error
        if (trained := self._booster.feature_name()) != list(features):
            raise RankerError(f"the model was trained on the features {trained}, not {list(features)}")
        self.trees = self._booster.num_trees()
        splits = self._booster.feature_importance("split")
        self.used = [name for name, count in zip(features, splits, strict=True) if count]
        self._forest = self._forest_that_agrees(found, len(features))

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        if self._forest is None or not self._forest.pays(len(matrix)):
            return self._predict(matrix, raw_score=True)
        return self._forest.score(matrix)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._predict(matrix, pred_contrib=True)

    def _predict(self, matrix: NDArray[np.float32], **settings: bool) -> NDArray[np.float64]:
        return np.asarray(self._booster.predict(matrix, num_threads=1, **settings), dtype=np.float64)

    def _forest_that_agrees(self, found: Trees, features: int) -> Forest | None:
        """Return the forest of the trees; None where there is none, or it scores otherwise than LightGBM."""
        forest = Forest.of(found, fastest())
        if forest is None or len(found.trees) != self.trees:
            return None
        probes = _probes(found, features)
        if np.array_equal(forest.score(probes), self._predict(probes, raw_score=True), equal_nan=True):
            return forest
        log.warning("LightGBM scores by itself: the quick way gives other scores", lightgbm=lgb.__version__)
        return None


def _probes(trees: Trees, features: int) -> NDArray[np.float32]:
    """Return rows of values at and beside the thresholds of the trees, and of missing ones."""
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

    A feature that the scorer does not know is ignored. A request without candidates gives an empty list.

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
    """Return the rows by falling score; equal scores keep their order."""
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order
