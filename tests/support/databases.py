"""Databases of both kinds, each empty, and a table of users in them that counts how often a row is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from sqlalchemy import text

from deploy.native.postgres import PostgresServer
from ltr_pipeline.batch.job import ScoreJob
from ltr_pipeline.batch.model import Model
from ltr_pipeline.batch.tables import TABLES
from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import upgrade
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.scorer import Scorer

VERSION = "20250714_0215"
JOB = ScoreJob(
    table="users",
    key="id",
    score="lead_score",
    label="lead_label",
    version="model_version",
    scored_at="scored_at",
    features={"A": "a", "S": "s"},
)


def model(version: str = VERSION, *, calibrated: bool = True, weight: float = 1.0) -> Model:
    """A model whose score is feature A, and whose probability is A, too."""
    line = Calibration(positive=2, x=[0.0, 1.0], y=[0.0, 1.0], error=0.01)
    return Model(
        version=version,
        scorer=Scorer.from_linear({"A": weight}, ["A", "S"]),
        calibration=line if calibrated else None,
    )


def on_sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'test.db'}"


def on_postgresql(server: PostgresServer) -> str:
    """URL of a new database."""
    name = f"test_{uuid4().hex[:12]}"
    with contextlib.closing(server.connect()) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
    return f"postgresql://airflow:{server.password}@127.0.0.1:{server.port}/{name}"


@contextlib.contextmanager
def opened(url: str, *, tables: bool = True) -> Iterator[Database]:
    with Database(Address.parse(url)) as database:
        if tables:
            upgrade(database, [TABLES])
        yield database


def run(database: Database, statement: str, **values: Any) -> list[Any]:
    """Rows that a statement returns, if any."""
    with database.begin() as connection:
        done = connection.execute(text(statement), values)
        return list(done.all()) if done.returns_rows else []


def users(database: Database, count: int, *, key: str = "INTEGER", id_of: Callable[[int], Any] = int) -> None:
    """Make the table; feature `a` of row n is n modulo 100, in hundredths, `writes` counts how often it was scored."""
    float8 = "double precision"
    run(
        database,
        f"CREATE TABLE users (id {key} PRIMARY KEY, a {float8}, s {float8}, lead_score {float8}, "
        "lead_label text, model_version text, scored_at timestamp, writes integer NOT NULL DEFAULT 0)",
    )
    if count:
        rows = [{"id": id_of(n), "a": n % 100 / 100} for n in range(1, count + 1)]
        with database.begin() as connection:
            cast = "CAST(:id AS uuid)" if key == "uuid" and database.is_postgresql else ":id"
            connection.execute(text(f"INSERT INTO users (id, a) VALUES ({cast}, :a)"), rows)
    if not database.is_postgresql:
        run(
            database,
            "CREATE TRIGGER counted AFTER UPDATE OF lead_score ON users WHEN NEW.lead_score IS NOT NULL "
            "BEGIN UPDATE users SET writes = OLD.writes + 1 WHERE id = OLD.id; END",
        )
        return
    run(
        database,
        "CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.writes := OLD.writes + 1; RETURN NEW; END'",
    )
    run(
        database,
        "CREATE TRIGGER counted BEFORE UPDATE OF lead_score ON users FOR EACH ROW "
        "WHEN (NEW.lead_score IS NOT NULL) EXECUTE FUNCTION counted()",
    )


def wrong(database: Database, version: str = VERSION) -> list[Any]:
    """Rows that are not as one scoring by the `model` leaves them."""
    found = run(database, "SELECT id, a, lead_score, model_version, writes FROM users")
    return [
        row
        for row in found
        if row.lead_score is None
        or abs(row.lead_score - round(100 * float(np.float32(row.a)), 2)) > 1e-9
        or row.model_version != version
        or row.writes != 1
    ]
