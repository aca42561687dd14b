"""Of a person that is forgotten, no run keeps a table or an example."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ltr_pipeline.report.artefacts import EXAMPLES
from ltr_pipeline.runs.forget import forget_in_runs
from support.small import artefacts, simulate, small_settings, up_to


def test_tables_and_examples_of_the_runs_that_hold_a_user_are_deleted(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    up_to("evaluate_ranker", settings)
    before = artefacts(settings)
    tables = [name for name in before if name.endswith(".parquet")]
    users = pl.read_parquet(before[tables[0]])["user_id"].unique().sort()
    assert forget_in_runs(settings.data, "nobody") == 0
    assert artefacts(settings) == before
    gone = forget_in_runs(settings.data, users[0])
    assert gone >= 1
    left = artefacts(settings)
    assert len(before.keys() - left.keys()) == gone + 1
    assert EXAMPLES.name in before.keys() - left.keys()
