"""Feature tables from files: every form of id, time and number, and what is refused, by which sentence."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec.structs import replace

from deploy.native.minio import BUCKET
from ltr_pipeline.dataset.features.moment import FeaturesAt
from ltr_pipeline.dataset.features.snapshot import Snapshot, frozen
from ltr_pipeline.dataset.features.source import ENTITY, SINCE, Sources, checked
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import FeatureTable
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options

START, END = (dt.datetime(2025, 7, day, tzinfo=dt.UTC) for day in (3, 15))
TABLE = FeatureTable(
    name="prices", address="", entity="item", key="sku", time="at", features=("price", "stars"), tolerance_days=2
)


def at(path: Path | str) -> FeatureTable:
    return replace(TABLE, address=str(path))


def kept(table: FeatureTable, folder: Path, sources: Sources | None = None) -> tuple[Snapshot, pl.DataFrame]:
    """The snapshot of a table and its rows."""
    data = LocalStorage(folder / "data")
    snapshot = frozen(table, sources or Sources(), data, "dataset", START, END)
    with snapshot.local(data) as path:
        return snapshot, pl.read_parquet(path)


def parquet(folder: Path, **columns: Any) -> FeatureTable:
    ok = {"sku": ["a"], "at": [START], "price": [1.5], "stars": [4]}
    pl.DataFrame(ok | columns).write_parquet(folder / "prices.parquet")
    return at(folder / "prices.parquet")


def csv(folder: Path, *lines: str, name: str = "prices.csv") -> FeatureTable:
    (folder / name).write_text("\n".join(["sku,at,price,stars,note", *lines, ""]))
    return at(folder / name)


def test_rows_outside_of_the_window_are_counted_and_left_out(tmp_path: Path) -> None:
    times = [
        START - dt.timedelta(days=2, microseconds=1),
        START - dt.timedelta(days=2),
        START,
        END,
        END + (END - START),
    ]
    table = parquet(tmp_path, sku=list("abcde"), at=times, price=[1.0] * 5, stars=[1] * 5)
    snapshot, rows = kept(table, tmp_path)
    assert (snapshot.rows, snapshot.kept, snapshot.future, snapshot.unplaced) == (5, 2, 2, 0)
    assert rows[ENTITY].to_list() == ["b", "c"]
    assert rows.schema == {
        ENTITY: pl.String,
        SINCE: pl.Datetime("us", "UTC"),
        "price": pl.Float32,
        "stars": pl.Float32,
    }


def test_rows_without_id_or_time_are_counted_and_left_out(tmp_path: Path) -> None:
    table = parquet(tmp_path, sku=["a", None, "c"], at=[START, START, None], price=[1.0] * 3, stars=[1] * 3)
    snapshot, rows = kept(table, tmp_path)
    assert (snapshot.unplaced, rows[ENTITY].to_list()) == (2, ["a"])


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/Sao_Paulo"])
def test_a_timestamp_without_a_zone_is_utc(tmp_path: Path, unit: Any, zone: str | None) -> None:
    noon = pl.Series(["2025-07-03 12:00"]).str.to_datetime(time_unit=unit).dt.replace_time_zone(zone)
    _, rows = kept(parquet(tmp_path, at=noon), tmp_path)
    assert rows[SINCE].to_list() == [dt.datetime(2025, 7, 3, 15 if zone and "/" in zone else 12, tzinfo=dt.UTC)]


def test_a_date_is_its_first_moment_in_utc(tmp_path: Path) -> None:
    _, rows = kept(parquet(tmp_path, at=[dt.date(2025, 7, 4)]), tmp_path)
    assert rows[SINCE].to_list() == [dt.datetime(2025, 7, 4, tzinfo=dt.UTC)]


@pytest.mark.parametrize(
    "text",
    [
        "2025-07-04T10:00:00Z",
        "2025-07-04 10:00:00+00:00",
        "2025-07-04T12:00:00.000+02:00",
        "2025-07-04 10:00:00",
        " 2025-07-04T10:00:00.0 ",
    ],
)
def test_times_of_csv_are_read_in_the_usual_forms(tmp_path: Path, text: str) -> None:
    _, rows = kept(csv(tmp_path, f"12,{text},1.5, 4,", f"13,{text},,,x"), tmp_path)
    assert rows.rows() == [(sku, dt.datetime(2025, 7, 4, 10, tzinfo=dt.UTC), *both) for sku, *both in VALUES]


VALUES = (("12", 1.5, 4.0), ("13", None, None))


def test_a_compressed_file_and_many_files_are_read(tmp_path: Path) -> None:
    csv(tmp_path, "a,2025-07-04,1,1,", name="one.csv")
    (tmp_path / "two.csv.gz").write_bytes(gzip.compress((tmp_path / "one.csv").read_bytes().replace(b"\na", b"\nb")))
    assert kept(at(tmp_path / "two.csv.gz"), tmp_path)[1][ENTITY].to_list() == ["b"]
    csv(tmp_path, "c,2025-07-04,1,1,", name="three.csv")
    assert kept(at(tmp_path / "*.csv"), tmp_path)[1][ENTITY].to_list() == ["a", "c"]


def test_whole_numbers_are_ids_as_their_text(tmp_path: Path) -> None:
    assert kept(parquet(tmp_path, sku=[12]), tmp_path)[1][ENTITY].to_list() == ["12"]


def test_flags_and_numbers_are_features_and_nan_is_missing(tmp_path: Path) -> None:
    _, rows = kept(parquet(tmp_path, price=[float("nan")], stars=[True]), tmp_path)
    assert rows["stars"].to_list() == [1.0]
    found = FeaturesAt([parquet(tmp_path, price=[float("nan")])], END, Sources())
    assert found.of({"item_id": ["a"]}).shape == (1, 2)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"sku": [1.5]}, "the key sku is Float64; ids are text or whole numbers"),
        ({"at": [1_751_500_000]}, "the time at is Int64; give a timestamp, a date, or text such as"),
        ({"at": ["yesterday"]}, "prices: at is yesterday, which cannot be read; give a finite number"),
        ({"price": ["1,5"]}, "prices: price is 1,5, which cannot be read;"),
        ({"price": [float("inf")]}, "prices: price is inf, which cannot be read"),
        ({"price": [1e39]}, r"prices: price is 1e\+39, which cannot be read"),
        (
            {"sku": ["a"] * 3, "at": [START] * 3, "price": ["1", "x", "y"], "stars": [1] * 3},
            "prices: price is x, which cannot be read, nor can something in 1 more rows;",
        ),
        ({"price": [[1.0]]}, r"the feature price is List\(Float64\); features are numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_with_column_and_value(
    tmp_path: Path, columns: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DatasetError, match=problem):
        kept(parquet(tmp_path, **columns), tmp_path)
    with pytest.raises(DatasetError, match=problem):
        FeaturesAt([parquet(tmp_path, **columns)], END, Sources())


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            replace(TABLE, address="nowhere/prices.parquet"),
            "prices: there is no file nowhere/prices.parquet; check its",
        ),
        (replace(TABLE, address="nowhere/*.csv"), r"there is no file nowhere/\*.csv"),
        (
            replace(TABLE, address="sql:prices"),
            "prices is one of the database, but there is none; set LTR_DATABASE_URL",
        ),
    ],
)
def test_a_table_that_is_not_there_is_found_by_a_look(table: FeatureTable, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        checked(table, Sources())


def test_a_look_finds_a_wrong_column_with_the_one_that_was_meant(tmp_path: Path) -> None:
    table = parquet(tmp_path)
    checked(table, Sources())
    with pytest.raises(
        DatasetError, match=r"has no column prise \(did you mean price\?\); there are sku, at, price, st"
    ):
        checked(replace(table, features=("prise",)), Sources())
    (tmp_path / "prices.txt").write_text("sku")
    with pytest.raises(DatasetError, match=r"prices\.txt is of no form that is read"):
        checked(at(tmp_path / "prices.txt"), Sources())
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="feature table prices cannot be read: "):
        checked(at(tmp_path / "cut.parquet"), Sources())


def test_a_table_on_s3_is_read_like_one_on_disk(tmp_path: Path, s3_storage: Any, s3_options: S3Options) -> None:
    path = parquet(tmp_path).address
    s3_storage.put_file("tables/prices.parquet", Path(path))
    table, sources = at(s3_storage.uri("tables/prices.parquet")), Sources(s3=s3_options)
    assert table.address.startswith(f"s3://{BUCKET}/")
    assert kept(table, tmp_path, sources)[1].rows() == kept(at(path), tmp_path / "other")[1].rows()
    with pytest.raises(DatasetError, match=r"prices: s3://.*/tables/none\.parquet does not exist"):
        checked(at(s3_storage.uri("tables/none.parquet")), sources)


def test_a_retry_joins_what_the_first_try_read(tmp_path: Path) -> None:
    first, rows = kept(parquet(tmp_path), tmp_path)
    parquet(tmp_path, price=[9.0])
    again, same = kept(at(tmp_path / "prices.parquet"), tmp_path)
    assert again == first
    assert same.equals(rows)
    other, changed = kept(replace(at(tmp_path / "prices.parquet"), features=("price",)), tmp_path)
    assert other.key != first.key
    assert changed["price"].to_list() == [9.0]


def test_a_snapshot_that_was_altered_is_refused(tmp_path: Path) -> None:
    snapshot, _ = kept(parquet(tmp_path), tmp_path)
    data = LocalStorage(tmp_path / "data")
    data.put(snapshot.key, b"other")
    with pytest.raises(DatasetError, match="was altered since it was written"), snapshot.local(data):
        pass
    data.delete(snapshot.key)
    with pytest.raises(DatasetError, match="does not exist"), snapshot.local(data):
        pass
