"""The database for scores beside Airflow's, as the compose file's `postgres-init` makes it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from deploy.native.compose import Compose
from deploy.native.postgres import PostgresServer, make_databases
from ltr_pipeline.database.address import Address
from support.commands import ltr


@pytest.fixture
def compose(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """The compose file on the tests' server."""
    monkeypatch.setenv("POSTGRES_PORT", str(postgres.port))
    found = Compose(tmp_path, "http://127.0.0.1:8080")
    secret = found.folder / "postgres" / "password"
    secret.parent.mkdir(parents=True)
    secret.write_text(postgres.password)
    return found


def asked(url: str, query: str) -> list[Any]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_scores_have_a_database_and_a_user_who_reads_nothing_of_airflows(
    compose: Compose, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with contextlib.closing(postgres.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS of_airflow (password text)")
    for _ in range(2):  # run again, it changes nothing
        make_databases(compose.environment("postgres-init"), postgres.port)
    url = compose.environment("airflow-scheduler")["LTR_DATABASE_URL"]
    address = Address.parse(url)
    assert (address.name, address.user, address.host, address.port) == ("ltr", "ltr", "127.0.0.1", postgres.port)
    assert asked(url, "SELECT current_user, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'ltr'") == [
        ("ltr", False, False)
    ]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        asked(f"{url.removesuffix('ltr')}airflow", "SELECT * FROM of_airflow")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTR_DATABASE_URL", compose.environment("ltr-database-init")["LTR_DATABASE_URL"])
    assert compose.command("ltr-database-init") == ("ltr", "database", "init")
    made = ltr("database", "init")
    assert made.code == 0, made.err
    assert ("score_runs",) in asked(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert address.password not in made.out + made.err


def test_a_password_that_changes_counts(compose: Compose, postgres: PostgresServer) -> None:
    given = compose.environment("postgres-init")
    signs = "it's; \\ \"$(a)` :b"
    make_databases(given | {"POSTGRES_LTR_PASSWORD": signs}, postgres.port)
    with contextlib.closing(
        psycopg2.connect(host="127.0.0.1", port=postgres.port, user="ltr", password=signs, dbname="ltr")
    ):
        pass
