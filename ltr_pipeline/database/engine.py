"""An open database: its transactions, its tables by the names that they have there, and its errors in plain words."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from ltr_pipeline.database.address import CONNECTION, VARIABLE, Address
from ltr_pipeline.errors import DatabaseError, DatabaseUnavailableError

try:
    from sqlalchemy import URL, Connection, Engine, MetaData, Table, create_engine, event
    from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
except ModuleNotFoundError as error:
    raise DatabaseError(
        f"the database needs the package {error.name}: pip install 'ltr-pipeline[database]' (in a checkout: make setup)"
    ) from None

__all__ = ["Database"]

SOURCE: Final = f"{VARIABLE}, or in Airflow the Connection {CONNECTION}"
CONNECT_SECONDS: Final = 10
LOCKED_SECONDS: Final = 60  # SQLite has one writer at a time: the others wait

REFUSED: Final = {
    "password authentication failed": "refuses the login: check user and password",
    "sasl authentication failed": "refuses the login: check user and password",  # PgBouncer's words
    "no password supplied": "asks for a password",
    "fe_sendauth": "asks for a password",
    "does not exist": "knows no such database or user: {said}; check its name",
    "no pg_hba.conf entry": "does not let this user in from this machine: {said}; its administrator has to allow it",
    "certificate": "cannot be trusted: {said}; check sslmode and sslrootcert",
    "does not support ssl": "does not speak TLS, but sslmode demands it",
    "permission denied": "does not let this user in: {said}",
    "invalid connection option": "is given an option that PostgreSQL does not have: {said}",
}
"""By a part of what the driver says when it could not connect: the sentence of an error that time does not heal."""

AWAY: Final = ("08", "57P", "53")  # connection, shutdown, no resources
IN_THE_WAY: Final = ("40", "55P")  # deadlock or serialization failure, a lock not had in time
"""Beginnings of SQLSTATE codes of PostgreSQL after which the same again may work."""


class Database:
    """A database that can be reached; it connects with the first transaction.

    Raises
    ------
    DatabaseError
        The driver is not installed.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.engine = _engine(address)
        self._placed: dict[int, MetaData] = {}

    @property
    def is_postgresql(self) -> bool:
        """Tell whether this is PostgreSQL; else it is SQLite."""
        return self.address.kind == "postgresql"

    @contextlib.contextmanager
    def begin(self, *, write: bool = True) -> Iterator[Connection]:
        """Hold a transaction: committed at the end, rolled back after an error. One that writes is SQLite's only one.

        Raises
        ------
        DatabaseUnavailableError
            The database cannot be reached, has gone away, or another session was in the way: the transaction left
            nothing, and the whole of it may be tried again.
        DatabaseError
            Anything else that the database refuses.
        """
        engine = self.engine.execution_options(ltr_write=write)
        with told(self.address), engine.begin() as connection:
            yield connection

    def execute_alone(self, statement: str) -> None:
        """Execute a statement that PostgreSQL takes in no transaction."""
        with told(self.address), self.engine.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            alone.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def table(self, declared: Table) -> Table:
        """Return a declared table as it is named here: SQLite has no schemas, there they begin the name.

        ``config.segment_levels`` is ``config_segment_levels`` in SQLite.
        """
        return declared if self.is_postgresql else self.metadata(declared.metadata).tables[placed_name(declared)]

    def metadata(self, declared: MetaData) -> MetaData:
        """Return declared tables as they are named here."""
        if self.is_postgresql:
            return declared
        if id(declared) not in self._placed:
            placed = MetaData()
            for table in declared.sorted_tables:
                table.to_metadata(placed, schema=None, name=placed_name(table))  # type: ignore[arg-type] # none of its own
            self._placed[id(declared)] = placed
        return self._placed[id(declared)]

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def placed_name(table: Table) -> str:
    """Return the name of a table in SQLite."""
    return f"{table.schema}_{table.name}" if table.schema else table.name


@contextlib.contextmanager
def told(address: Address) -> Iterator[None]:
    """Turn what driver and SQLAlchemy raise into this package's errors, which have no password and no value in them."""
    try:
        yield
    except DBAPIError as error:
        raise _diagnosed(address, error) from None
    except SQLAlchemyError as error:
        raise DatabaseError(f"{address}: {_line(address, error)}") from None


def _engine(address: Address) -> Engine:
    try:
        return _postgresql(address) if address.kind == "postgresql" else _sqlite(address)
    except (ModuleNotFoundError, ImportError, NoSuchModuleError):
        raise DatabaseError(
            f"{address} needs a driver: pip install 'ltr-pipeline[database]' (in a checkout: make setup)"
        ) from None


def _postgresql(address: Address) -> Engine:
    url = URL.create(
        "postgresql+psycopg",
        username=address.user or None,
        password=address.password or None,
        host=address.host or None,
        port=address.port,
        database=address.name or None,
        query=dict(address.options),
    )
    # Nothing is prepared: behind a pooler the next transaction may be in another session.
    given: dict[str, Any] = {"prepare_threshold": None, "application_name": "ltr-pipeline"}
    if "connect_timeout" not in address.options:
        given["connect_timeout"] = CONNECT_SECONDS
    return create_engine(url, connect_args=given, pool_pre_ping=True, hide_parameters=True)


def _sqlite(address: Address) -> Engine:
    if address.file:
        try:
            address.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{address}: its folder cannot be made ({error.strerror}); check {SOURCE}") from error
    engine = create_engine(
        URL.create("sqlite", database=address.name), connect_args={"timeout": LOCKED_SECONDS}, hide_parameters=True
    )
    event.listen(engine, "connect", _left_to_us)
    event.listen(engine, "begin", _begun)
    return engine


def _left_to_us(connection: sqlite3.Connection, _record: object) -> None:
    """Let the driver begin no transaction by itself, which it does too late."""
    connection.isolation_level = None


def _begun(connection: Connection) -> None:
    write = connection.get_execution_options().get("ltr_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _diagnosed(address: Address, error: DBAPIError) -> DatabaseError:
    """Return the error that says best what went wrong."""
    said = _line(address, error.orig)
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if address.kind == "sqlite":
        return _of_sqlite(address, said)
    if state.startswith(AWAY):
        return DatabaseUnavailableError(f"{address} has gone away ({said}); try again")
    if state.startswith(IN_THE_WAY):
        return DatabaseUnavailableError(f"{address}: another session was in the way ({said}); try again")
    if state == "42501":
        return DatabaseError(f"{address}: {said}; have the right granted to {_user(address)}")
    if state:
        return DatabaseError(f"{address}: {said}")
    return _unconnected(address, said)


def _unconnected(address: Address, said: str) -> DatabaseError:
    """Return the error for a connection that was not made or has broken off, for which there is no code."""
    for part, sentence in REFUSED.items():
        if part in said.lower():
            return DatabaseError(f"{address} {sentence.format(said=said)} ({SOURCE})")
    if "resolve" in said or "translate host" in said or "not known" in said:
        return DatabaseUnavailableError(f"{address}: there is no host of that name ({said}); check {SOURCE}")
    return DatabaseUnavailableError(f"{address} cannot be reached: {said}; is it running? ({SOURCE})")


def _of_sqlite(address: Address, said: str) -> DatabaseError:
    if "locked" in said or "busy" in said:
        return DatabaseUnavailableError(
            f"{address} is used by another process for more than {LOCKED_SECONDS} s; try again"
        )
    if "unable to open" in said:
        return DatabaseError(f"{address} cannot be opened; check the path and its permissions ({SOURCE})")
    return DatabaseError(f"{address}: {said}")


def _user(address: Address) -> str:
    return f"the user {address.user}" if address.user else "the default user"


def _line(address: Address, error: object) -> str:
    """Return what an error says, as one line without the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    more = next((line for line in lines if "FATAL" in line), "")
    said = more.partition("FATAL:")[2].strip() or said
    return said.replace(address.password, "…") if address.password else said
