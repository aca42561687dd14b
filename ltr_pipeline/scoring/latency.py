"""The time that ranking a request takes, measured on the path that the service runs.

A neighbour on the machine stops a call in the middle, and its time by the clock is then the neighbour's. So what counts
is the processor time of the thread, and of several calls for the same request, made in turns with all others, the
lowest: what a user would feel on a free core. The time by the clock stands beside it, and so does a reference, a linear
ranker that ranked some of the requests in the same minute: if that became slower, the machine did.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring.requests import Request
from ltr_pipeline.scoring.scorer import Scorer, rank

__all__ = ["Latency", "cpu_name", "measure_latency"]

MIN_CALLS: Final = 1000
WARM_UP_CALLS: Final = 50

TURNS: Final = 4
"""Each request is ranked so often, as far as `MORE_SECONDS` allow."""

MORE_SECONDS: Final = 0.6
"""Processor time that turns after the first `MIN_CALLS` calls may take."""

REFERENCE_EVERY: Final = 10
"""The reference ranks one of so many requests."""

FINE_NS: Final = 100_000
"""A processor clock with larger steps cannot time a call; the wall clock then does."""

_LOOKS: Final = 5  # at a step, as work of the system's own may make one seem large


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time that `rank` takes on one warm thread, in ms, and the requests, model and processor it was measured on.

    Attributes
    ----------
    p50_ms, p95_ms, p99_ms
        Over requests, of the lowest time of each; of a former release (`wall_p95_ms` is None), over all calls.
    requests
        How many calls were measured.
    candidates_p50, candidates_max
        Items per measured call.
    trees
        How many trees the model has; 0 for a linear one.
    cpu
        The processor's name.
    turns
        How often each request was ranked.
    clock
        What the lowest times are of: ``cpu``, the thread's processor time, or ``wall`` where there is no fine clock of
        it.
    wall_p50_ms, wall_p95_ms, wall_p99_ms
        Over all calls, by the wall clock: with whatever else the machine did. None in documents of former releases.
    reference_p95_ms, reference_wall_p95_ms
        The same of a linear ranker with as many features; None in documents of former releases.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    requests: int
    candidates_p50: float
    candidates_max: int
    trees: int
    cpu: str
    turns: int = 1
    clock: Literal["cpu", "wall"] = "wall"
    wall_p50_ms: float | None = None
    wall_p95_ms: float | None = None
    wall_p99_ms: float | None = None
    reference_p95_ms: float | None = None
    reference_wall_p95_ms: float | None = None


def measure_latency(scorer: Scorer, requests: Sequence[Request], *, repeats: int = MIN_CALLS) -> Latency:
    """Measure `rank` on each of `requests` in turn, over and over, at least `repeats` times.

    The first calls only warm caches and are not counted.

    Raises
    ------
    RankerError
        There is no request to measure.
    """
    if not requests:
        raise RankerError("latency needs at least one request to measure; there is no test ranking")
    reference = Scorer.from_linear(dict.fromkeys(scorer.features, 1.0), scorer.features)
    for call in range(WARM_UP_CALLS):
        rank(requests[call % len(requests)], scorer)
        rank(requests[call % len(requests)], reference)
    clock = _Clock.finest()
    own, others = _Times(), _Times()
    fewest, more = -(-repeats // len(requests)), 0.0
    while own.turns < fewest or (own.turns < TURNS and more + own.last_seconds <= MORE_SECONDS):
        own.turn(requests, scorer, clock)
        others.turn(requests[::REFERENCE_EVERY], reference, clock)
        more += own.last_seconds if own.turns > fewest else 0.0
    lowest, calls = own.lowest(), own.walls()
    sizes = np.array([len(request.candidates) for request in requests])
    return Latency(
        p50_ms=lowest[0],
        p95_ms=lowest[1],
        p99_ms=lowest[2],
        requests=own.turns * len(requests),
        candidates_p50=float(np.median(sizes)),
        candidates_max=int(sizes.max()),
        trees=scorer.trees,
        cpu=cpu_name(),
        turns=own.turns,
        clock=clock.name,
        wall_p50_ms=calls[0],
        wall_p95_ms=calls[1],
        wall_p99_ms=calls[2],
        reference_p95_ms=others.lowest()[1],
        reference_wall_p95_ms=others.walls()[1],
    )


class _Clock(NamedTuple):
    """Tells how long a thread has worked, in ns."""

    name: Literal["cpu", "wall"]
    now: Callable[[], int]

    @classmethod
    def finest(cls) -> _Clock:
        """Return the clock of the thread's processor time, or the wall clock where that one goes by large steps."""
        fine = any(0 < _step() < FINE_NS for _ in range(_LOOKS))
        return cls("cpu", time.thread_time_ns) if fine else cls("wall", time.perf_counter_ns)


def _step() -> int:
    """Return a step of the clock of the thread's processor time in ns, 0 when it did not go on for long."""
    begin = end = time.thread_time_ns()
    give_up = time.perf_counter_ns() + 100 * FINE_NS
    while end == begin and time.perf_counter_ns() < give_up:
        end = time.thread_time_ns()
    return end - begin


class _Times:
    """Times of the same requests, turn after turn."""

    def __init__(self) -> None:
        self._worked: list[list[int]] = []
        self._walls: list[list[int]] = []

    @property
    def turns(self) -> int:
        """How many turns were made."""
        return len(self._worked)

    @property
    def last_seconds(self) -> float:
        """Time that the last turn took."""
        return sum(self._worked[-1]) / 1e9

    def turn(self, requests: Sequence[Request], scorer: Scorer, clock: _Clock) -> None:
        """Rank each request once."""
        worked, walls, now = [], [], clock.now
        for request in requests:
            wall, begin = time.perf_counter_ns(), now()
            rank(request, scorer)
            worked.append(now() - begin)
            walls.append(time.perf_counter_ns() - wall)
        self._worked.append(worked)
        self._walls.append(walls)

    def lowest(self) -> list[float]:
        """Return p50, p95 and p99 over requests, of the lowest time that each took to work, in ms."""
        return _percentiles_ms(np.min(self._worked, axis=0))

    def walls(self) -> list[float]:
        """Return p50, p95 and p99 over all calls, in ms of the wall clock."""
        return _percentiles_ms(np.ravel(self._walls))


def _percentiles_ms(times: NDArray[np.int64]) -> list[float]:
    found: list[float] = np.percentile(times / 1e6, [50, 95, 99]).tolist()
    return found


def cpu_name() -> str:
    """Return the name of the processor; `platform` knows it everywhere but on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
