"""A database that cannot be had is told in a sentence: which host and user, never the password."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.native.postgres import PostgresServer
from ltr_pipeline.airflow import runtime
from ltr_pipeline.database.address import Address, postgresql_url
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseError, DatabaseUnavailableError, SettingsError
from ltr_pipeline.local.ports import free_port
from support.databases import on_postgresql, opened, run

SECRET = "hunter2-&%"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(user=TEXT, password=TEXT, name=TEXT, port=st.none() | st.integers(1, 65535))
def test_an_address_keeps_its_parts_whatever_signs_they_have(
    user: str, password: str, name: str, port: int | None
) -> None:
    url = postgresql_url(
        host="db.example", port=port, user=user, password=password, name=name, options={"sslmode": "require"}
    )
    found = Address.parse(url)
    assert (found.user, found.password, found.name, found.port) == (user, password, name, port)
    assert (found.host, found.options) == ("db.example", {"sslmode": "require"})


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ltr:{SECRET}@db/sales",
        f"postgresql:/ltr:{SECRET}@db/sales",
        f"postgresql://ltr:{SECRET}@db:port/sales",
        f"postgresql://ltr:{SECRET}@[db/sales",
        f"sqlite://{SECRET}",
        SECRET,
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="LTR_DATABASE_URL") as caught:
        Address.parse(url)
    assert "hunter2" not in str(caught.value)


def test_an_address_does_not_show_its_password() -> None:
    address = Address.parse(f"postgres://ltr:{SECRET.replace('%', '%25').replace('&', '%26')}@db:5432/sales")
    assert address.password == SECRET
    assert "hunter2" not in f"{address} {address!r}"


def refused(url: str) -> DatabaseError:
    with Database(Address.parse(url)) as database, pytest.raises(DatabaseError) as caught, database.begin():
        pass
    found: DatabaseError = caught.value
    assert found.__suppress_context__
    return found


def test_a_wrong_password_names_host_user_and_variable(postgres: PostgresServer) -> None:
    error = refused(f"postgresql://airflow:hunter2@127.0.0.1:{postgres.port}/airflow")
    assert type(error) is DatabaseError  # time does not heal it
    assert str(error) == (
        f"PostgreSQL database airflow at 127.0.0.1:{postgres.port}, user airflow refuses the login: "
        "check user and password (LTR_DATABASE_URL, or in Airflow the Connection ltr_database)"
    )


def test_an_unknown_database_or_host_or_closed_port_is_named(postgres: PostgresServer) -> None:
    error = refused(f"postgresql://airflow:{postgres.password}@127.0.0.1:{postgres.port}/sales")
    assert type(error) is DatabaseError
    assert 'database "sales" does not exist' in str(error)
    error = refused("postgresql://ltr:hunter2@no-such-host.invalid/sales")
    assert isinstance(error, DatabaseUnavailableError)
    assert "no-such-host.invalid" in str(error)
    error = refused(f"postgresql://ltr:hunter2@127.0.0.1:{free_port()}/sales")
    assert isinstance(error, DatabaseUnavailableError)
    assert "cannot be reached" in str(error)
    assert "hunter2" not in str(error)


def test_an_error_in_a_statement_shows_no_values(database_url: str) -> None:
    with opened(database_url, tables=False) as database, pytest.raises(DatabaseError) as caught:
        run(database, "INSERT INTO nowhere VALUES (:secret)", secret="hunter2")
    assert "nowhere" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def cut_off(database: Database, other: Database) -> None:
    with database.begin() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        run(other, "SELECT pg_terminate_backend(:pid)", pid=pid)
        connection.exec_driver_sql("SELECT 1")


def test_a_server_that_goes_away_in_a_transaction_is_unavailable(postgres: PostgresServer) -> None:
    with opened(on_postgresql(postgres), tables=False) as database, opened(on_postgresql(postgres)) as other:
        with pytest.raises(DatabaseUnavailableError, match=r"has gone away|cannot be reached"):
            cut_off(database, other)
        assert run(database, "SELECT 1") == [(1,)]  # the next transaction has a new connection


@pytest.mark.parametrize("package", ["sqlalchemy", "psycopg"])
def test_a_driver_that_is_missing_is_named_with_the_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from ltr_pipeline.cli.main import main\n"
        "sys.argv = ['ltr', 'database', 'init', '--dry-run']; main()"
    )
    environment = {"LTR_DATABASE_URL": "postgresql://ltr:hunter2@127.0.0.1:1/sales", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'ltr-pipeline[database]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_connection_of_airflow_replaces_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTR_DATABASE_URL", "sqlite:///other.db")
    monkeypatch.setenv("AIRFLOW_CONN_LTR_DATABASE", "postgres://ltr:a%2Fb@db:6543/sales?sslmode=require&weird=1")
    found = runtime.run_settings().database
    assert (found.user, found.password, found.host, found.port, found.name) == ("ltr", "a/b", "db", 6543, "sales")
    assert found.options == {"sslmode": "require"}


def test_sqlite_has_one_writer_and_readers_beside_it(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'test.db'}"
    with opened(url, tables=False) as database, opened(url, tables=False) as other:
        run(database, "CREATE TABLE t (n integer)")
        with database.begin() as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            with other.begin(write=False) as reader:
                assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
        with contextlib.suppress(ZeroDivisionError), database.begin() as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
        assert run(database, "SELECT n FROM t") == [(1,)]
