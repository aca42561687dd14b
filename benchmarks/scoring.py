"""The library's way to score trees against LightGBM's own.

    python benchmarks/scoring.py [--repeats 7]

``Scorer.score`` looks all trees up in tables; ``Booster.predict(matrix, num_threads=1)`` walks down each tree for each
row. Both score the same rows in turns, and the scores are compared to the last bit. Printed are the medians in
microseconds and the median of each turn's ratio, with its range.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.scoring.scorer import Scorer

CASES = [(rows, trees, 30) for trees in (200, 500) for rows in (1, 10, 100, 1000)] + [(100, 200, 7)]
CALLS = 50


def train(trees: int, features: int) -> lgb.Booster:
    rng = np.random.default_rng(1)
    matrix = rng.random((10_000, features))
    relevance = np.digitize(matrix[:, :5].sum(axis=1) + rng.normal(0, 0.5, len(matrix)), [2, 2.5, 3])
    parameters = {"objective": "lambdarank", "num_leaves": 31, "num_threads": 1, "verbose": -1}
    return lgb.train(parameters, lgb.Dataset(matrix, relevance, group=[50] * 200), trees)


def microseconds(score: Callable[[], Any]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        score()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def compare(scorer: Scorer, booster: lgb.Booster, matrix: NDArray[np.float32], repeats: int) -> str:
    if not np.array_equal(scorer.score(matrix), booster.predict(matrix, num_threads=1)):
        raise SystemExit("the scores differ")
    pairs = [
        (
            microseconds(lambda: scorer.score(matrix)),
            microseconds(lambda: booster.predict(matrix, num_threads=1)),
        )
        for _ in range(repeats)
    ]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(first / second for first, second in pairs)
    return f"{ours:9.0f} {theirs:9.0f}  {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(" rows  trees  features     score   predict  ratio")
    for rows, trees, features in CASES:
        booster = train(trees, features)
        scorer = Scorer.from_model(booster.model_to_string(), booster.feature_name())
        matrix = np.random.default_rng(3).random((rows, features)).astype(np.float32)
        print(f"{rows:5} {trees:6} {features:9} {compare(scorer, booster, matrix, repeats)}")


if __name__ == "__main__":
    main()
