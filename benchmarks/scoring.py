"""The library's ways to score trees against LightGBM's own.

    python benchmarks/scoring.py [--repeats 7]

``Booster.predict(matrix, num_threads=1)`` walks down each tree for each row; numpy and the compiled kernel, here of
each width that this processor has, rule leaves out by bit vectors. All score the same rows in turns, other ones in each
call (a processor that sees the same few rows again remembers how LightGBM branched), and the scores are compared to the
last bit. Printed are microseconds by the wall clock, the median and the 95th percentile of all calls; and how many
times as fast as ``predict`` each is: by the thread's processor time and by the wall clock the median of the turns with
its range, and then of the 95th percentiles.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.forest import Forest
from ltr_pipeline.scoring.kernel import Kernel, fastest
from ltr_pipeline.scoring.latency import cpu_name
from ltr_pipeline.scoring.trees import read_trees

CASES = [(rows, 200, 30) for rows in (1, 5, 10, 20, 100, 1000)] + [(100, 500, 30), (100, 200, 7), (10, 20, 30)]
CALLS = 50

Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Times(NamedTuple):
    """Seconds of each call, (turns, calls)."""

    cpu: NDArray[np.float64]
    wall: NDArray[np.float64]


def train(trees: int, features: int) -> lgb.Booster:
    rng = np.random.default_rng(1)
    matrix = rng.random((10_000, features))
    relevance = np.digitize(matrix[:, :5].sum(axis=1) + rng.normal(0, 0.5, len(matrix)), [2, 2.5, 3])
    parameters = {"objective": "lambdarank", "num_leaves": 31, "num_threads": 1, "verbose": -1}
    return lgb.train(parameters, lgb.Dataset(matrix, relevance, group=[50] * 200), trees)


def ways(booster: lgb.Booster) -> dict[str, Score]:
    """Every way to score that this machine has, by its name; LightGBM's own first."""
    found: dict[str, Score] = {"predict": lambda matrix: booster.predict(matrix, num_threads=1)}
    trees = read_trees(booster.model_to_string())
    widest = kernel.lanes if (kernel := fastest()) else 0
    kernels = {"numpy": None} | {f"{lanes} lanes": Kernel(lanes) for lanes in (4, 8, 16) if lanes <= widest}
    for name, kernel in kernels.items():
        if forest := Forest.of(trees, kernel):
            found[name] = forest.score
    return found


def measure(score: Score, matrices: list[NDArray[np.float32]]) -> list[tuple[float, float]]:
    times = []
    for matrix in matrices:
        wall, cpu = time.perf_counter(), time.thread_time()
        score(matrix)
        times.append((time.thread_time() - cpu, time.perf_counter() - wall))
    return times


def compare(rows: int, trees: int, features: int, repeats: int) -> None:
    found = ways(train(trees, features))
    matrices = list(np.random.default_rng(3).random((CALLS, rows, features)).astype(np.float32))
    for matrix in matrices:
        (_, expected), *others = [(name, score(matrix).tobytes()) for name, score in found.items()]
        if different := [name for name, scores in others if scores != expected]:
            raise SystemExit(f"other scores than LightGBM's: {different}")
    measured: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in found}
    for _ in range(repeats):
        for name, score in found.items():
            measured[name].append(measure(score, matrices))
    times = {name: Times(*np.moveaxis(np.array(taken), 2, 0)) for name, taken in measured.items()}
    for name, own in times.items():
        p50, p95 = np.percentile(own.wall * 1e6, [50, 95])
        p95s = np.percentile(times["predict"].wall, 95) / np.percentile(own.wall, 95)
        ratios = f"{ratio(times['predict'].cpu, own.cpu)}  {ratio(times['predict'].wall, own.wall)}  {p95s:5.2f}"
        print(f"{rows:5} {trees:6} {features:9}  {name:9} {p50:8.0f} {p95:8.0f}  {ratios}")


def ratio(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> str:
    each = np.median(theirs, axis=1) / np.median(ours, axis=1)
    return f"{np.median(each):5.2f} ({each.min():5.2f} to {each.max():5.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(f"{cpu_name()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {repeats} turns of {CALLS} calls")
    print(" rows  trees  features  way            p50      p95  by CPU                  by wall                  p95")
    for rows, trees, features in CASES:
        compare(rows, trees, features, repeats)


if __name__ == "__main__":
    main()
