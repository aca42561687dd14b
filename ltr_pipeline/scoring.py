"""From a request to an order: the one path that the latency check, golden requests and a service all take.

A candidate's features stay as they came, in JSON, until a model asks for them: names and order are the model's. Read
straight into a row of the matrix they cost less than maps by name, and what was served can be logged as it was.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import lightgbm as lgb
import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import RankerError, RequestError
from ltr_pipeline.forest import Forest
from ltr_pipeline.pace import breathe
from ltr_pipeline.trees import Trees, read_trees

__all__ = [
    "Candidate",
    "Features",
    "Latency",
    "Ranked",
    "Request",
    "Scorer",
    "descending",
    "is_list",
    "measure_latency",
    "rank",
]

MIN_CALLS: Final = 1000
LONGEST_NAME: Final = 256  # characters of a feature's name
OPENING_BRACKET: Final = ord("[")
FEW: Final = 1500  # rows times trees up to which LightGBM is the faster one
PROBES: Final = 64  # rows by which the two ways to score a model are compared
WARM_UP_CALLS: Final = 50

log = structlog.get_logger(__name__)


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An item to rank.

    Attributes
    ----------
    features
        JSON: an object of numbers by name, or a list of numbers in the model's order. One that is null or not there is
        missing.
    """

    item_id: str
    features: msgspec.Raw

    @classmethod
    def of(cls, item_id: str, features: Mapping[str, float | None] | Sequence[float | None]) -> Candidate:
        """Candidate with these features."""
        return cls(item_id=item_id, features=msgspec.Raw(msgspec.json.encode(features)))


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked, and the items to rank for it."""

    query_id: str
    candidates: Sequence[Candidate]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """Features of some candidates, read for one model.

    Attributes
    ----------
    matrix
        float32 (candidates, features); NaN = missing.
    unknown
        Names that candidates gave and the model does not have, sorted.
    """

    matrix: NDArray[np.float32]
    unknown: tuple[str, ...]


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
        self._reader = _Reader(self.features)

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
        breathe()
        for feature, threshold in zip(tree.split, tree.thresholds, strict=True):
            near[feature].append(threshold)
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        at = np.column_stack([rng.choice(values, PROBES) for values in near]).astype(np.float32)
    beside = [np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate([at, *beside])


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises at JSON that it does not take."""


class _Reader:
    """From JSON to a row, for the features of one model."""

    def __init__(self, features: Sequence[str]) -> None:
        self._names = features
        self._by_name = _row_decoder(features, array_like=False)
        self._in_order = _row_decoder(features, array_like=True)
        self._any = msgspec.json.Decoder(dict[str, float | None]).decode
        self._list = msgspec.json.Decoder(list[float | None]).decode

    def read(self, candidates: Sequence[Candidate]) -> Features:
        unknown: set[str] = set()
        decode = self._in_order if candidates and is_list(candidates[0].features) else self._by_name
        values = msgspec.structs.astuple
        rows: list[Sequence[float | None]] = []
        for candidate in candidates:
            try:
                rows.append(values(decode(candidate.features)))
            except _UNREADABLE:
                rows.append(self._carefully(candidate, len(rows), unknown))
        matrix = _float32(rows, len(self._names))
        if np.isinf(matrix).any():
            row, column = np.argwhere(np.isinf(matrix))[0]
            raise RequestError(
                f"{_place(candidates[row], row)}: feature {self._names[column]} is beyond a 32-bit float; give a "
                "finite number, or null where it is missing"
            )
        return Features(matrix=matrix, unknown=tuple(sorted(unknown)))

    def _carefully(self, candidate: Candidate, row: int, unknown: set[str]) -> Sequence[float | None]:
        """Row of a candidate that gives names that the model does not have, something wrong, or not what others do."""
        place = _place(candidate, row)
        try:
            if is_list(candidate.features):
                values = self._list(candidate.features)
                if len(values) != len(self._names):
                    raise RequestError(
                        f"{place}: {len(values)} features, but the model has the {len(self._names)} features "
                        f"{', '.join(self._names)}; give these in this order, or send features by name"
                    )
                return values
            by_name = self._any(candidate.features)
        except _UNREADABLE as error:
            raise RequestError(f"{place}: {_what(error, candidate)}") from None
        if (strange := by_name.keys() - set(self._names)) and (longest := max(map(len, strange))) > LONGEST_NAME:
            raise RequestError(f"{place}: a feature's name has {longest} characters; it may have {LONGEST_NAME}")
        unknown.update(strange)
        return [by_name.get(name) for name in self._names]


def is_list(features: msgspec.Raw) -> bool:
    """Whether features are given as a list in the model's order."""
    return memoryview(features)[0] == OPENING_BRACKET


def _row_decoder(features: Sequence[str], *, array_like: bool) -> Callable[[msgspec.Raw], msgspec.Struct]:
    """Reads the features of a candidate; in an array all of them must be there, of an object none."""
    columns = {f"f{column}": name for column, name in enumerate(features)}
    row: Any = msgspec.defstruct(
        "_Row",
        [(column, float | None) if array_like else (column, float | None, np.nan) for column in columns],
        rename=columns,
        array_like=array_like,
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(row).decode


def _float32(rows: Sequence[Sequence[float | None]], width: int) -> NDArray[np.float32]:
    """Matrix of the rows; None becomes NaN, what float32 cannot hold infinite."""
    with np.errstate(over="ignore"):
        try:
            flat = np.fromiter(chain.from_iterable(rows), np.float32, len(rows) * width)
        except TypeError:  # a null; np.array takes it, but needs twice the time
            flat = np.array(rows, dtype=np.float32)
    return flat.reshape(len(rows), width)


def _place(candidate: Candidate, row: int) -> str:
    return f"candidate {row} (item_id {candidate.item_id!r})"


def _what(error: Exception, candidate: Candidate) -> str:
    """Which feature is wrong and why: msgspec does not name the key of a map."""
    try:
        features = msgspec.json.decode(candidate.features)
    except _UNREADABLE:
        return f"features: {error}"
    if not isinstance(features, dict | list):
        return "features must be an object of numbers by name, or a list of numbers in the model's order"
    named: Iterable[tuple[object, object]] = features.items() if isinstance(features, dict) else enumerate(features)
    for name, value in named:
        if isinstance(value, bool) or not isinstance(value, float | int | None):
            return (
                f"feature {name!s:.{LONGEST_NAME}} is not a number; give a finite number, or null where it is missing"
            )
    return "a feature is beyond a 64-bit float; give a finite number, or null where it is missing"


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
    sizes = np.array([len(request.candidates) for request in measured])
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
