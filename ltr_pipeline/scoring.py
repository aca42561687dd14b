"""From a request to an order: the one path that the latency check, golden requests and a service all take."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import RankerError

__all__ = ["Candidate", "Latency", "Ranked", "Request", "Scorer", "matrix", "measure_latency", "rank"]

MIN_CALLS: Final = 1000
WARM_UP_CALLS: Final = 50


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item to rank; a feature that is null or not there is missing."""

    item_id: str
    features: dict[str, float | None]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked, and the items to rank for it."""

    query_id: str
    items: list[Candidate]


class Ranked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item in its place; `rank` is 1-based."""

    item_id: str
    score: float
    rank: int


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time of `rank` on one warm thread, in ms, and what it was measured on.

    Attributes
    ----------
    requests
        Measured calls.
    candidates_p50, candidates_max
        Items per measured call.
    trees
        Of the model; 0 for a linear one.
    cpu
        The processor's name.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    requests: int
    candidates_p50: float
    candidates_max: int
    trees: int
    cpu: str


class _Model(Protocol):
    def __call__(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]: ...


class Scorer:
    """A loaded model: a feature matrix in, scores out.

    Make one with `from_model` or `from_linear`; scoring changes nothing, so threads may share it.

    Attributes
    ----------
    features
        Names of the columns, in order.
    trees
        Of the model; 0 for a linear one.
    """

    def __init__(self, features: Sequence[str], trees: int, model: _Model) -> None:
        self.features = tuple(features)
        self.trees = trees
        self._model = model

    @classmethod
    def from_model(cls, model_text: str, features: Sequence[str]) -> Scorer:
        """Scorer of a LightGBM model in its text form.

        Raises
        ------
        RankerError
            The text is no model, or one that was trained on other features or another order of them.
        """
        try:
            booster = lgb.Booster(model_str=model_text)
        except lgb.basic.LightGBMError as error:
            raise RankerError(f"this is no LightGBM model: {error}; take it from a weights document again") from error
        if (trained := booster.feature_name()) != list(features):
            raise RankerError(f"the model was trained on the features {trained}, not {list(features)}")

        def predict(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(booster.predict(matrix, raw_score=True, num_threads=1), dtype=np.float64)

        return cls(features, booster.num_trees(), predict)

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

        def predict(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(np.nan_to_num(matrix.astype(np.float64), nan=0.0) @ vector, dtype=np.float64)

        return cls(features, 0, predict)

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of the rows of `matrix`, float32 (n, features) with NaN for missing; float64 (n,), higher is better.

        Raises
        ------
        RankerError
            The matrix does not have these columns.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise RankerError(f"a matrix of shape {matrix.shape} does not have {len(self.features)} features")
        if len(matrix) == 0:
            return np.empty(0)
        return self._model(matrix)


def rank(request: Request, scorer: Scorer) -> list[Ranked]:
    """Order the items of a request by falling score; equal scores keep the order of the request.

    Features become float32, as in training; one that the scorer does not know is ignored. No items, no ranks.

    Examples
    --------
    >>> items = [Candidate(item_id=i, features={"Q": q}) for i, q in [("a", 0.5), ("b", None), ("c", 0.75)]]
    >>> order = rank(Request(query_id="case-1", items=items), Scorer.from_linear({"Q": 1.0}, ["Q"]))
    >>> [(ranked.item_id, ranked.score) for ranked in order]
    [('c', 0.75), ('a', 0.5), ('b', 0.0)]
    """
    scores = scorer.score(matrix(request, scorer.features))
    order = np.argsort(-scores, kind="stable").tolist()
    values = scores.tolist()
    return [
        Ranked(item_id=request.items[row].item_id, score=values[row], rank=place)
        for place, row in enumerate(order, start=1)
    ]


def matrix(request: Request, features: Sequence[str]) -> NDArray[np.float32]:
    """Feature matrix of a request, float32 (items, features); NaN where a feature is missing."""
    rows = [[item.features.get(name) for name in features] for item in request.items]
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(features))  # None becomes NaN


def measure_latency(scorer: Scorer, requests: Sequence[Request], *, repeats: int = MIN_CALLS) -> Latency:
    """Time `rank` on each of `requests` in turn, over and over, at least `repeats` times.

    The first calls only warm caches and are not counted. Percentiles are of single calls, wall-clock.

    Raises
    ------
    RankerError
        There is no request to measure.
    """
    if not requests:
        raise RankerError("latency needs at least one request to measure; there is no test ranking")
    for call in range(WARM_UP_CALLS):
        rank(requests[call % len(requests)], scorer)
    measured = [requests[call % len(requests)] for call in range(max(repeats, len(requests)))]
    sizes = np.array([len(request.items) for request in measured])
    p50, p95, p99 = np.percentile([_time_ms(request, scorer) for request in measured], [50, 95, 99]).tolist()
    return Latency(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        requests=len(measured),
        candidates_p50=float(np.median(sizes)),
        candidates_max=int(sizes.max()),
        trees=scorer.trees,
        cpu=_cpu(),
    )


def _time_ms(request: Request, scorer: Scorer) -> float:
    start = time.perf_counter_ns()
    rank(request, scorer)
    return (time.perf_counter_ns() - start) / 1e6


def _cpu() -> str:
    """Name of the processor; `platform` knows it everywhere but on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
