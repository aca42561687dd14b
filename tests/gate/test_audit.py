"""From the parts of a dataset to what every feature looks like."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.gate import audit
from ltr_pipeline.gate.audit import inspect
from ltr_pipeline.metrics.audit import Gains

START = dt.datetime(2025, 7, 1, 9, tzinfo=dt.UTC)
A_DAY, ITEMS = 40, 5


def days(first: int, last: int, *, zero_on: int | None = None, served: float = 0.0) -> Dataset:
    """Rankings of days in which A is worth and Z knows 70 % of what something came of; some the service has logged."""
    rng = np.random.default_rng(first)
    rankings = (last - first) * A_DAY
    rows = rankings * ITEMS
    worth = rng.normal(size=rows)
    relevance = (worth + rng.normal(size=rows) > 1).astype(np.int8)
    knows = relevance * (rng.random(rows) < 0.7)
    day = first + np.repeat(np.arange(rankings) // A_DAY, ITEMS)
    time = pl.Series([START + dt.timedelta(days=int(one)) for one in day])
    return Dataset(
        features=np.column_stack([np.where(day == zero_on, 0, worth), knows]).astype(np.float32),
        feature_names=("A", "Z"),
        relevance=relevance,
        group=np.full(rankings, ITEMS, np.int32),
        position=None,
        ids=pl.DataFrame(
            {
                "time": time,
                "user_id": [f"u{row // ITEMS % 90}" for row in range(rows)],
                "as_served": [row // ITEMS < served * rankings or None for row in range(rows)],
            }
        ),
    )


PARTS = days(0, 10), days(10, 12), days(12, 15, zero_on=14)


def test_every_feature_of_all_parts_is_looked_at() -> None:
    worth, leak = inspect(*PARTS, Gains(now={"A": 0.3, "Z": 0.7}, before={"A": 1.0}, vouched=["A"]))
    assert (worth.name, worth.vouched, worth.was, worth.told) == ("A", True, 1.0, None)
    assert [one.day for one in worth.changes] == [dt.date(2025, 7, day) for day in range(11, 16)]
    assert [one.distance > one.limit for one in worth.changes] == [False] * 4 + [True]
    assert leak.told is not None
    assert leak.told.low > 0.9
    assert (leak.was, leak.gain) == (0, 0.7)


def test_of_many_rows_a_sample_of_every_day_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_MOST_ROWS", 1000)
    worth, leak = inspect(*PARTS, Gains(now={}))
    assert len(worth.changes) == 5
    assert worth.was is None
    assert leak.told is not None
    assert 0 < leak.told.impressions < 60


def test_test_days_without_a_ranking_say_nothing() -> None:
    whole = days(12, 13)
    rows = {name: getattr(whole, name)[:0] for name in ("features", "relevance", "group", "ids")}
    empty = Dataset(feature_names=whole.feature_names, position=None, **rows)
    worth, leak = inspect(*PARTS[:2], empty, Gains(now={}))
    assert (worth.alone, leak.told) == (None, None)


def test_what_the_service_logged_when_it_answered_is_trusted() -> None:
    parts = days(0, 10, served=1), days(10, 12, served=1), days(12, 15, served=1)
    worth, leak = inspect(*parts, Gains(now={}))
    assert (worth.as_served, leak.as_served, leak.known_before) == (1.0, 1.0, True)
    (joined,) = inspect(*parts, Gains(now={}), joined={"Z"})[1:]
    assert (joined.as_served, joined.known_before) == (0.0, False), "of a joined feature the service logged nothing"


def test_a_list_of_which_a_row_is_not_as_served_is_not() -> None:
    whole = days(0, 1, served=1)
    mixed = whole.ids.with_columns(as_served=pl.Series([row % ITEMS != 2 for row in range(len(whole.relevance))]))
    assert not audit._as_served(replace(whole, ids=mixed)).any()
    assert audit._as_served(whole).all()
