"""Values of a moment are what the nightly build joins to a list shown then."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltr_pipeline.dataset.features.asof import as_of, known
from ltr_pipeline.dataset.features.moment import FeaturesAt
from ltr_pipeline.dataset.features.snapshot import frozen
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import FeatureTable
from ltr_pipeline.storage.local import LocalStorage

START = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
IDS = [*"abcz", None]


def table(folder: Path, name: str = "prices", entity: Any = "item", features: tuple[str, ...] = ("price",)) -> Any:
    return FeatureTable(
        name=name,
        address=str(folder / f"{name}.parquet"),
        entity=entity,
        key="id",
        time="at",
        features=features,
        tolerance_days=5 / 24,
    )


def write(of: FeatureTable, found: dict[tuple[str, int], float | None]) -> None:
    columns = {
        "id": pl.Series([entity for entity, _ in found], dtype=pl.String),
        "at": pl.Series([START + hour * HOUR for _, hour in found], dtype=pl.Datetime("us", "UTC")),
        **{name: pl.Series(list(found.values()), dtype=pl.Float64) for name in of.features},
    }
    pl.DataFrame(columns).write_parquet(of.address)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9)), st.none() | st.floats(0, 9, width=32), max_size=20
    ),
    st.integers(0, 10),
)
def test_it_is_the_as_of_join_of_that_moment(tmp_path: Path, found: dict[Any, Any], hour: int) -> None:
    prices, moment = table(tmp_path), START + hour * HOUR
    write(prices, found)
    data = LocalStorage(tmp_path / f"data-{hour}-{abs(hash(frozenset(found.items())))}")
    rows = pl.DataFrame({"item_id": IDS, "time": moment}, {"item_id": pl.String, "time": pl.Datetime("us", "UTC")})
    with frozen(prices, Sources(), data, "d", START, START + 24 * HOUR).local(data) as path:
        joined = as_of(rows, known(path, prices, rows["item_id"]), prices)
    now = FeaturesAt([prices], moment, Sources())
    np.testing.assert_array_equal(now.of({"item_id": IDS})[:, 0], joined.rows["feature_price"].to_numpy())
    assert now.future == {"prices": sum(since >= hour for _, since in found)}


def test_several_tables_give_columns_in_the_models_order(tmp_path: Path) -> None:
    prices, budgets = table(tmp_path), table(tmp_path, "budgets", "user", ("budget", "age"))
    write(prices, {("a", 1): 10.0, ("b", 2): None})
    write(budgets, {("u", 3): 7.0})
    now = FeaturesAt([prices, budgets], START + 4 * HOUR, Sources())
    assert now.names == ("price", "budget", "age")
    found = now.of({"item_id": ["b", "a", None], "user_id": ["u", None, "u"], "query_id": ["q"] * 3})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[np.nan, 7, 7], [10, np.nan, np.nan], [np.nan, 7, 7]])
    np.testing.assert_array_equal(now.of({"item_id": [], "user_id": []}), np.empty((0, 3)))
    with pytest.raises(DatasetError, match="feature table budgets needs the user_id of each row"):
        now.of({"item_id": ["a"]})


def test_without_tables_there_are_no_columns() -> None:
    assert FeaturesAt([], START, Sources()).of({"item_id": ["a", "b"]}).shape == (2, 0)


def test_two_newest_rows_of_one_time_are_refused(tmp_path: Path) -> None:
    prices = table(tmp_path)
    write(prices, {("a", 1): 10.0})
    pl.concat([pl.read_parquet(prices.address)] * 2).write_parquet(prices.address)
    with pytest.raises(DatasetError, match="prices has several rows for item a at"):
        FeaturesAt([prices], START + 2 * HOUR, Sources())
