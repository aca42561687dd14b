"""The time that ranking a request takes, measured on the path that the service runs."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring.requests import Request
from ltr_pipeline.scoring.scorer import Scorer, rank

__all__ = ["Latency", "measure_latency"]

MIN_CALLS: Final = 1000
WARM_UP_CALLS: Final = 50


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time that `rank` takes on one warm thread, in ms, and the requests, model and processor it was measured on.

    Attributes
    ----------
    requests
        How many calls were measured.
    candidates_p50, candidates_max
        Items per measured call.
    trees
        How many trees the model has; 0 for a linear one.
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


def measure_latency(scorer: Scorer, requests: Sequence[Request], *, repeats: int = MIN_CALLS) -> Latency:
    """Measure `rank` on each of `requests` in turn, over and over, at least `repeats` times.

    The first calls only warm caches and are not counted. Percentiles are over single calls, in wall-clock time.

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
    """Return the name of the processor; `platform` knows it everywhere but on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
