"""The as-of join against a loop that anybody can check: strictly before, within the tolerance, for each entity."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.dataset.features.asof import as_of, known
from ltr_pipeline.dataset.features.source import ENTITY, SINCE
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import FeatureTable

START = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
TOLERANCE = 5  # seconds
TABLE = FeatureTable(
    name="prices",
    address="prices.parquet",
    entity="item",
    time="at",
    features=("price", "rating"),
    tolerance_days=TOLERANCE / 86_400,
)
MISSING = None

entities = st.sampled_from(["a", "b", "ä"])
seconds = st.integers(0, 12)  # few, so that equal times and the edge of the tolerance come often
numbers = st.none() | st.floats(-100, 100, width=32)
rows_of = st.lists(st.tuples(entities | st.none(), seconds), max_size=25)
values_of = st.dictionaries(st.tuples(entities, seconds), st.tuples(numbers, numbers), max_size=25)


def rows(shown: list[tuple[str | None, int]]) -> pl.DataFrame:
    types: dict[str, Any] = {"item_id": pl.String, "time": pl.Datetime("us", "UTC"), "n": pl.Int64}
    found = [(item, START + second * SECOND, n) for n, (item, second) in enumerate(shown)]
    return pl.DataFrame(found, types, orient="row")


def values(table: dict[tuple[str, int], tuple[float | None, float | None]]) -> pl.DataFrame:
    types: dict[str, Any] = {ENTITY: pl.String, SINCE: pl.Datetime("us", "UTC")}
    types |= dict.fromkeys(TABLE.features, pl.Float32)
    found = [(entity, START + second * SECOND, *both) for (entity, second), both in table.items()]
    return pl.DataFrame(found, types, orient="row")


def naive(shown: list[tuple[str | None, int]], table: dict[tuple[str, int], Any]) -> list[Any]:
    """Look through the whole table for each row."""
    found = []
    for item, moment in shown:
        best = None
        for entity, since in table:
            fits = entity == item and since < moment and moment - since <= TOLERANCE
            if fits and (best is None or since > best):
                best = since
        found.append(None if best is None else table[str(item), best])
    return found


@given(rows_of, values_of, st.randoms(use_true_random=False))
def test_it_is_what_a_naive_loop_finds(shown: list[Any], table: dict[Any, Any], chance: Any) -> None:
    pairs = list(table.items())
    chance.shuffle(pairs)
    joined = as_of(rows(shown), values(dict(pairs)), TABLE)
    expected = naive(shown, table)
    assert joined.rows["n"].to_list() == list(range(len(shown)))
    assert joined.without == expected.count(None)
    for place, name in enumerate(TABLE.features):
        wanted = [np.nan if row is None or row[place] is None else row[place] for row in expected]
        np.testing.assert_array_equal(joined.rows[f"feature_{name}"].to_numpy(), np.array(wanted, np.float32))


@pytest.mark.parametrize(
    ("since", "price"),
    [(9, 1.0), (10, MISSING), (11, MISSING), (5, 1.0), (4, MISSING)],
    ids=["a second before", "the same instant", "later", "at the tolerance", "beyond it"],
)
def test_a_value_is_joined_from_the_instant_after_it_to_its_tolerance(since: int, price: float | None) -> None:
    joined = as_of(rows([("a", 10)]), values({("a", since): (1.0, 2.0)}), TABLE)
    assert joined.without == (price is MISSING)
    (found,) = joined.rows["feature_price"]
    assert found == price if price else np.isnan(found)


def test_a_microsecond_before_is_before() -> None:
    shown = rows([("a", 10)]).with_columns(pl.col("time") + pl.duration(microseconds=1))
    assert as_of(shown, values({("a", 10): (1.0, 2.0)}), TABLE).rows["feature_price"].to_list() == [1.0]


def test_what_is_missing_in_the_newest_row_is_not_looked_for_in_an_older_one() -> None:
    joined = as_of(rows([("a", 9)]), values({("a", 7): (1.0, 2.0), ("a", 8): (None, 3.0)}), TABLE)
    assert joined.without == 0
    assert joined.rows.select(f"feature_{name}" for name in TABLE.features).fill_nan(None).row(0) == (None, 3.0)


def snapshot(folder: Path, table: pl.DataFrame) -> Path:
    table.write_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def test_only_the_entities_that_are_wanted_are_read(tmp_path: Path) -> None:
    path = snapshot(tmp_path, values({("b", 2): (1.0, 1.0), ("a", 3): (2.0, 2.0), ("a", 1): (3.0, 3.0)}))
    found = known(path, TABLE, pl.Series(["a", None, "a", "c"], dtype=pl.String))
    assert found.select(ENTITY, "price").rows() == [("a", 3.0), ("a", 2.0)]
    assert len(known(path, TABLE, pl.Series([None], dtype=pl.String))) == 0


def test_two_rows_of_one_entity_and_time_are_refused_with_their_place(tmp_path: Path) -> None:
    twice = pl.concat([values({("a", 3): (2.0, 2.0), ("b", 1): (1.0, 1.0)})] * 2)
    path = snapshot(tmp_path, twice)
    with pytest.raises(
        DatasetError, match=r"item a at 2025-07-01T00:00:03\+00:00, and for 1 more pairs of id and time"
    ):
        known(path, TABLE, pl.Series(["a", "b"]))
    with pytest.raises(DatasetError, match=r"for item b at 2025-07-01T00:00:01\+00:00: nothing says"):
        known(path, TABLE, pl.Series(["b"]))


def test_a_snapshot_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DatasetError, match="feature table prices cannot be read"):
        known(tmp_path / "rows.parquet", TABLE, pl.Series(["a"]))
