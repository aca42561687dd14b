"""Feature tables of the database: SQLite, and a real PostgreSQL with its types."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.native.postgres import PostgresServer
from deploy.native.server import NoServerError
from ltr_pipeline.database.address import Address
from ltr_pipeline.dataset.features import source
from ltr_pipeline.dataset.features.moment import FeaturesAt
from ltr_pipeline.dataset.features.source import Sources, checked
from ltr_pipeline.errors import DatabaseError, DatabaseUnavailableError, DatasetError
from ltr_pipeline.mapping import FeatureTable
from support import servers

NOON = dt.datetime(2025, 7, 10, 12, tzinfo=dt.UTC)
TABLE = FeatureTable(
    name="prices", address="sql:prices", entity="item", key="Sku", time="at", features=("price",), tolerance_days=5
)
SKUS = ["a", "b", "c", "d"]
FOUND = [[9.5], [2.0], [None], [None]]  # of the rows below: the newest before noon; c has none, d is of noon itself


@pytest.fixture
def sqlite(tmp_path: Path) -> Sources:
    """Text for times, as programs write it there."""
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute('CREATE TABLE prices ("Sku" TEXT, at TEXT, price NUMERIC, "100% sure" INTEGER)')
        rows = [
            ("a", "2025-07-09", 1.0),
            ("a", "2025-07-10 11:59:59", 9.5),
            ("b", "2025-07-10T12:00:00+02:00", 2),
            ("c", "2025-07-04T11:00:00Z", 3.0),
            ("d", "2025-07-10 12:00:00.000000", 4.0),
            (None, "2025-07-10", 5.0),
        ]
        connection.executemany("INSERT INTO prices VALUES (?, ?, ?, 1)", rows)
    return Sources(database=Address.parse(f"sqlite:///{tmp_path}/shop.db"))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="ltr-tests-postgres-"))  # PostgreSQL does not run as root
    server = PostgresServer(folder)
    try:
        server.start()
        servers.used("PostgreSQL", server.version())
        yield server
    except NoServerError as error:
        servers.missing("PostgreSQL", str(error))
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def postgresql(server: PostgresServer) -> Sources:
    """Times with a zone, exact numbers."""
    with contextlib.closing(server.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA shop")
        cursor.execute('CREATE TABLE shop.prices ("Sku" text, at timestamptz, price numeric(9, 2), "100% sure" int)')
        cursor.execute(
            "INSERT INTO shop.prices VALUES ('a', '2025-07-09Z', 1, 1), ('a', '2025-07-10 11:59:59Z', 9.5, 1), "
            "('b', '2025-07-10 12:00+02', 2, 1), ('c', '2025-07-04 11:00Z', 3, 1), ('d', '2025-07-10 12:00Z', 4, 1), "
            "(NULL, '2025-07-10Z', 5, 1)"
        )
        cursor.execute("CREATE TABLE plain (id uuid, at timestamp, day date, n bigint, flag boolean, price real)")
        cursor.execute(
            "INSERT INTO plain VALUES ('00000000-0000-0000-0000-00000000000a', '2025-07-10 11:00', '2025-07-10', 7, "
            "true, 'NaN'), (NULL, NULL, NULL, NULL, NULL, NULL)"
        )
    return Sources(database=Address.parse(server.url))


def values(table: FeatureTable, sources: Sources, ids: list[str]) -> list[list[float | None]]:
    found = FeaturesAt([table], NOON, sources).of({"item_id": ids})
    return [[None if math.isnan(value) else value for value in row] for row in found.tolist()]


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "statement",
    [
        "{table}",
        'SELECT "Sku", at, price FROM {table} WHERE "100% sure" = 1 AND price::text <> \':x\';',
        'SELECT *, 1 AS ":y" FROM {table} -- all of them\n',
    ],
)
@pytest.mark.parametrize("chunk", [1, 50_000])
def test_a_table_or_a_select_is_read(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str, statement: str, chunk: int
) -> None:
    monkeypatch.setattr(source, "CHUNK", chunk)
    sources: Sources = request.getfixturevalue(name)
    statement = statement.format(table="shop.prices" if name == "postgresql" else "prices")
    table = replace(TABLE, address=f"sql:{statement if name == 'postgresql' else statement.replace('::text', '')}")
    checked(table, sources)
    assert values(table, sources, SKUS) == FOUND


@pytest.mark.parametrize(("time", "column", "value"), [("at", "n", 7), ("day", "flag", 1), ("at", "price", None)])
def test_uuids_dates_whole_numbers_and_flags_are_read(postgresql: Sources, time: str, column: str, value: Any) -> None:
    table = replace(TABLE, address="sql:plain", key="id", time=time, features=(column,))
    assert values(table, postgresql, ["00000000-0000-0000-0000-00000000000a"]) == [[value]]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"address": "sql:nowhere"}, "feature table prices: SQLite file .*: no such table: nowhere"),
        ({"address": "sql:SELEKT 1"}, "feature table prices: SQLite file .*: near"),
        (
            {"features": ("prise",)},
            r"has no column prise \(did you mean price\?\); there are Sku, at, price, 100% sure",
        ),
    ],
)
def test_what_the_database_does_not_have_is_said(sqlite: Sources, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises((DatabaseError, DatasetError), match=problem):
        checked(replace(TABLE, **changes), sqlite)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("at", "'yesterday'", "prices: at is 'yesterday'; give a timestamp"),
        ("at", "1751500000", "prices: at is '?1751500000'?; give a timestamp"),
        ("price", "'1,5'", "prices: price is '1,5'; features are numbers"),
        ("price", "9e999", "prices: price is inf, which cannot be read"),
        ("Sku", "1.5", "prices: Sku is 1.5; ids are text or whole numbers"),
    ],
)
def test_a_value_that_cannot_be_read_is_said(sqlite: Sources, column: str, value: str, problem: str) -> None:
    others = ", ".join(f'"{name}"' for name in ("Sku", "at", "price") if name != column)
    table = replace(TABLE, address=f'sql:SELECT {others}, {value} AS "{column}" FROM prices')
    with pytest.raises(DatasetError, match=problem):
        FeaturesAt([table], NOON, sqlite)


def test_a_database_that_is_away_may_be_tried_again_and_its_password_is_not_told() -> None:
    away = Sources(database=Address.parse("postgresql://ltr:hunter2@127.0.0.1:1/shop"))
    with pytest.raises(DatabaseUnavailableError, match="feature table prices: PostgreSQL database shop") as caught:
        checked(TABLE, away)
    assert "hunter2" not in str(caught.value)
