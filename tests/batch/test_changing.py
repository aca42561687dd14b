"""Features that change are joined to rows that are scored, as a night would join them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
from msgspec.structs import replace

from ltr_pipeline.batch.changing import Changing
from ltr_pipeline.batch.score import score
from ltr_pipeline.database.engine import Database
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.mapping import FeatureTable
from support.databases import JOB, model, run, users

NOW = dt.datetime(2025, 7, 14, 5, 15, tzinfo=dt.UTC)


def test_the_newest_value_before_the_run_is_joined_by_id(database: Database, tmp_path: Path) -> None:
    users(database, 3)
    known = [
        ("1", NOW - dt.timedelta(hours=2), 0.1),
        ("1", NOW - dt.timedelta(hours=1), 0.2),
        ("1", NOW, 0.9),  # of the same instant: not known before it
        ("2", NOW - dt.timedelta(days=8), 0.9),  # too old
    ]
    pl.DataFrame(known, schema=["user_id", "at", "A"], orient="row").write_parquet(tmp_path / "activity.parquet")
    table = FeatureTable(
        name="activity",
        address=str(tmp_path / "activity.parquet"),
        entity="user",
        time="at",
        features=("A",),
        tolerance_days=7,
    )
    job = replace(JOB, features={"S": "s"}, ids={"user_id": "id"})
    changing = Changing([table], job.all_ids, job.features, NOW, Sources())
    assert score(database, "lead_score", job, model(), size=2, changing=changing).rows == 3
    found = dict(run(database, "SELECT id, lead_score FROM users"))
    assert found == {1: 20.0, 2: 0.0, 3: 0.0}


def test_a_table_whose_feature_the_job_gives_itself_is_not_read() -> None:
    table = FeatureTable(
        name="gone", address="/nowhere.parquet", entity="user", time="at", features=("A",), tolerance_days=7
    )
    changing = Changing([table], {"user_id": "id"}, ["A"], NOW, Sources())
    assert (changing.ids, changing.names, changing.of({})) == ({}, (), [])
    assert Changing([table], {"item_id": "id"}, [], NOW, Sources()).ids == {}
