"""The p95 of one model, alone and beside busy loops: as the gate measures it, and by the clock.

    python benchmarks/latency.py [--repeats 3] [--trees 200] [--candidates 20]

The same requests are ranked by the same model on this machine, without and with as many and twice as many busy loops as
it has processors. Prints the p95 that `ltr_latency_p95_max_ms` is held against, the p95 of all calls by the clock, the
same of the linear ranker that stands beside them, and the processor time that the measurement takes; medians of the
repeats and their range.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parents[1]))

import lightgbm as lgb
import numpy as np

from ltr_pipeline.scoring.latency import Latency, measure_latency
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer
from support.busy import busy

FEATURES = [f"F{number:02}" for number in range(30)]
REQUESTS = 1000


def model(trees: int) -> Scorer:
    rng = np.random.default_rng(1)
    matrix = rng.random((10_000, len(FEATURES)))
    relevance = np.digitize(matrix[:, :5].sum(axis=1) + rng.normal(0, 0.5, len(matrix)), [2, 2.5, 3])
    data = lgb.Dataset(matrix, relevance, group=[50] * 200, feature_name=FEATURES)
    parameters = {"objective": "lambdarank", "num_leaves": 31, "num_threads": 1, "verbose": -1}
    return Scorer.from_model(lgb.train(parameters, data, trees).model_to_string(), FEATURES)


def requests(candidates: int) -> list[Request]:
    rng = np.random.default_rng(2)
    values = rng.random((REQUESTS, candidates, len(FEATURES)))
    return [
        Request(
            query_id=str(number),
            candidates=[
                Candidate.of(str(place), dict(zip(FEATURES, row.tolist(), strict=True)))
                for place, row in enumerate(rows)
            ],
        )
        for number, rows in enumerate(values)
    ]


def timed(scorer: Scorer, asked: list[Request]) -> tuple[Latency, float]:
    begin = time.process_time()
    return measure_latency(scorer, asked), time.process_time() - begin


def spread(values: list[float], digits: int = 2) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=20)
    options = parser.parse_args()
    scorer, asked = model(options.trees), requests(options.candidates)
    heads = (
        "busy loops",
        "p95 judged, ms",
        "by the clock, ms",
        "linear ranker judged, ms",
        "by the clock, ms",
        "cost, s",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|")
    found: dict[int, list[tuple[Latency, float]]] = {}
    levels = [0, multiprocessing.cpu_count(), 2 * multiprocessing.cpu_count()]
    for _ in range(options.repeats):  # in turns: what the machine does otherwise is then in all of them
        for loops in levels:
            with busy(loops):
                found.setdefault(loops, []).append(timed(scorer, asked))
    for loops, each in found.items():
        columns = [
            [latency.p95_ms for latency, _ in each],
            [latency.wall_p95_ms or 0.0 for latency, _ in each],
            [latency.reference_p95_ms or 0.0 for latency, _ in each],
            [latency.reference_wall_p95_ms or 0.0 for latency, _ in each],
            [seconds for _, seconds in each],
        ]
        print(f"| {loops or 'none'} | {' | '.join(map(spread, columns))} |")
    turns = found[0][0][0].turns
    print(f"\n{options.trees} trees, {options.candidates} candidates, {turns} turns of {REQUESTS:,} requests")


if __name__ == "__main__":
    main()
