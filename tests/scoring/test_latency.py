"""The ranker is timed, and not what else the machine does."""

from __future__ import annotations

import multiprocessing
import time

import msgspec
import numpy as np
import pytest

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring import latency
from ltr_pipeline.scoring.latency import MIN_CALLS, TURNS, Latency, measure_latency
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer
from support.busy import busy

NAMES = ("A", "S")


def request(*values: float) -> Request:
    return Request(query_id="q", candidates=[Candidate.of(str(n), {"A": value}) for n, value in enumerate(values)])


def taking(milliseconds: float) -> Scorer:
    """A ranker that works so long on a request."""

    def score(matrix: np.ndarray) -> np.ndarray:
        end = time.thread_time() + milliseconds / 1000
        while time.thread_time() < end:
            pass
        return np.zeros(len(matrix))

    return Scorer(NAMES, 7, score, score)


def test_it_says_what_it_was_measured_on() -> None:
    scorer = Scorer.from_linear({"A": 1.0}, NAMES)
    found = measure_latency(scorer, [request(1.0), request(1.0, 0.0, 0.5)])
    assert (found.requests, found.turns) == (MIN_CALLS, MIN_CALLS // 2)
    assert (found.candidates_p50, found.candidates_max, found.trees) == ((1 + 3) / 2, 3, 0)
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms
    assert found.wall_p50_ms <= found.wall_p95_ms <= found.wall_p99_ms
    assert 0 < found.reference_p95_ms <= found.reference_wall_p95_ms
    assert found.cpu
    with pytest.raises(RankerError, match="at least one request"):
        measure_latency(scorer, [])


def test_each_request_is_ranked_again_while_that_costs_little() -> None:
    asked = [request(1.0, 0.5)] * 1000
    assert measure_latency(Scorer.from_linear({"A": 1.0}, NAMES), asked).turns == TURNS
    assert measure_latency(taking(1.0), asked).turns == 1  # a second a turn


def test_the_p95_is_that_of_requests_at_their_best() -> None:
    """Nine in ten calls of each request take 0.2 ms, the others 2 ms; one request in ten always takes 1 ms."""
    calls = 0

    def score(matrix: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        end = time.thread_time() + (1.0 if len(matrix) == 3 else 2.0 if calls % 11 == 0 else 0.2) / 1000
        while time.thread_time() < end:
            pass
        return np.zeros(len(matrix))

    requests = [request(*[0.5] * (3 if n % 10 == 0 else 2)) for n in range(100)]
    found = measure_latency(Scorer(NAMES, 1, score, score), requests, repeats=500)
    assert 0.2 <= found.p50_ms < 0.5
    assert 1.0 <= found.p95_ms < 1.5


@pytest.mark.parametrize("milliseconds", [0.2, 5.0])
def test_neighbours_are_not_held_against_a_ranker(milliseconds: float) -> None:
    """By the clock a call takes longer beside two busy loops; a long one is stopped in any of its repetitions."""
    requests = [request(1.0, 0.5)] * 20
    with busy(multiprocessing.cpu_count()):
        found = measure_latency(taking(milliseconds), requests, repeats=20 if milliseconds > 1 else 1000)
    assert found.clock == "cpu"
    assert milliseconds <= found.p95_ms < 1.5 * milliseconds
    assert found.wall_p99_ms > 1.5 * milliseconds


def test_a_coarse_clock_of_processor_time_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency.time, "thread_time_ns", lambda: time.perf_counter_ns() // 10_000_000 * 10_000_000)
    found = measure_latency(Scorer.from_linear({"A": 1.0}, NAMES), [request(1.0, 0.5)])
    assert found.clock == "wall"
    assert 0 < found.p50_ms <= found.wall_p50_ms


def test_what_a_former_release_measured_is_still_read() -> None:
    former = {"p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3, "requests": 1000, "candidates_p50": 9.0}
    found = msgspec.convert(former | {"candidates_max": 20, "trees": 53, "cpu": "a former machine"}, Latency)
    assert (found.clock, found.turns, found.wall_p95_ms) == ("wall", 1, None)
