"""Score a public ranking file, to check this package's figures against published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.cli.console import console, print_json, print_table
from ltr_pipeline.mapping import MAX_RELEVANCE
from ltr_pipeline.metrics.quality import Estimate
from ltr_pipeline.ranker import letor
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.train import boost, label_gain
from ltr_pipeline.report.wording import figure

__all__ = ["evaluate"]

SEED = 0


def evaluate(test: Path, train: Path | None, as_json: bool) -> None:
    """Train on the training part of a public ranking set and print how its test part is scored."""
    with console.status("searching the grid on the training part"):
        report = letor.evaluate_letor(train or letor.training_part(test), test, _fit)
    if as_json:
        print_json(report)
        return
    rows = []
    for name, score in (("stated", report.stated), ("chosen on train", report.chosen)):
        m = score.metrics
        cells = [_cell(e) for e in (m.ndcg_at_5, m.linear_ndcg_at_5, m.mrr, m.hit_at_3)]
        rows.append((name, *cells, figure(score.cross_validated)))
    print_table(("Parameters", "nDCG@5 (95 % CI)", "linear nDCG@5", "MRR", "Hit@3", "cross-validated"), rows)
    ndcg = report.stated.metrics.ndcg_at_5
    console.print(
        f"\n{ndcg.n} eligible rankings, {ndcg.excluded} excluded; chosen: {report.chosen.parameters}", markup=False
    )


def _cell(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return figure(estimate.value)
    return f"{estimate.value:.4f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _fit(part: Rows, parameters: Mapping[str, Any]) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    booster = boost(part, dict(parameters) | {"label_gain": label_gain(MAX_RELEVANCE)}, seed=SEED)
    return lambda features: np.asarray(booster.predict(features, num_threads=1), dtype=np.float64)
