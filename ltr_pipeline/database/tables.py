"""Tables that a room declares: created, and brought up to date from any former release, by statements one can read.

Fresh tables are created as they are declared now. Tables of a former release pass through the steps that came since.
Which step each room's tables are at stands in the table ``ltr_tables``. All of it is one transaction, for which others
who do the same wait: it is done whole, or not at all, and once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from sqlalchemy import Column, Connection, Executable, Integer, MetaData, String, Table, insert, inspect, select, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from ltr_pipeline import __version__
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.types import Utc
from ltr_pipeline.errors import DatabaseError

__all__ = ["Statement", "Step", "Tables", "pending", "ready", "rendered", "upgrade"]

Statement: TypeAlias = Executable | ExecutableDDLElement | str
Statements: TypeAlias = Callable[[Database], Iterable[Statement]]

LOCK: Final = 0x6C74725F  # of everybody who creates or upgrades these tables, in PostgreSQL

_METADATA = MetaData()
LTR_TABLES = Table(
    "ltr_tables",
    _METADATA,
    Column("name", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_at", Utc, nullable=False),
    Column("changed_by", String, nullable=False),
)
"""By the name of `Tables`: the version that they are at in this database."""


@dataclass(frozen=True)
class Step:
    """A change between two releases: the statements that bring tables to `version` from the one before.

    Attributes
    ----------
    keeps_views
        Whether views need not be dropped for it, as columns are only added, to tables and at the end of views. Then
        PostgreSQL's stay, with the rights that were granted on them and the views of others that read them.
    """

    version: int
    statements: Statements
    keeps_views: bool = False


@dataclass(frozen=True)
class Tables:
    """Tables, views and first rows that belong together.

    Attributes
    ----------
    name
        Name in ``ltr_tables``.
    metadata
        The tables as they are now. Their schema, if any, is made in PostgreSQL, and begins the name in SQLite.
    views
        SELECT by the name of each view, in the order in which they are made.
    rows
        Statements that give fresh tables their first rows.
    steps
        Changes since the first release, oldest first; the first leads to version 2.
    """

    name: str
    metadata: MetaData
    views: Mapping[str, str] = field(default_factory=dict)
    rows: Statements = lambda _: ()
    steps: Sequence[Step] = ()

    @property
    def version(self) -> int:
        """Version that this library works with."""
        return self.steps[-1].version if self.steps else 1


def upgrade(database: Database, tables: Sequence[Tables]) -> list[str]:
    """Create what is missing, bring up to date what is older, and return the statements that did it.

    Raises
    ------
    DatabaseError
        The tables are those of a newer release, or the database refuses a statement.
    """
    with database.begin() as connection:
        if database.is_postgresql:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        done = _pending(database, connection, tables)
        for statement in done:
            if isinstance(statement, str):
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})  # a % is a %
            else:
                connection.execute(statement)
    return [rendered(database, statement) for statement in done]


def pending(database: Database, tables: Sequence[Tables]) -> list[str]:
    """Return the statements that `upgrade` would execute now; none, where all is up to date."""
    with database.begin(write=False) as connection:
        return [rendered(database, statement) for statement in _pending(database, connection, tables)]


def ready(database: Database, tables: Sequence[Tables]) -> None:
    """See to it that tables are there and up to date: SQLite's are made, for PostgreSQL's somebody has to be asked.

    Raises
    ------
    DatabaseError
        PostgreSQL lacks them or has older ones, or they are those of a newer release.
    """
    with database.begin(write=False) as connection:
        behind = [one.name for one in tables if _version(connection, one) < one.version]
    if not behind:
        return
    if database.is_postgresql:
        raise DatabaseError(
            f"{database.address} lacks tables of this release ({', '.join(behind)}): `ltr database init` makes them, "
            "with --dry-run it prints the statements"
        )
    upgrade(database, tables)


def rendered(database: Database, statement: Statement) -> str:
    """Return a statement as text, with its values."""
    if isinstance(statement, str):
        return statement.strip()
    options = {} if isinstance(statement, ExecutableDDLElement) else {"literal_binds": True}
    kind = cast("type[DefaultDialect]", type(database.engine.dialect))
    dialect = kind(paramstyle="named")  # the driver's own has each % twice
    return str(statement.compile(dialect=dialect, compile_kwargs=options)).strip()  # type: ignore[attr-defined]


def _pending(database: Database, connection: Connection, tables: Sequence[Tables]) -> list[Statement]:
    statements: list[Statement] = []
    if not inspect(connection).has_table(LTR_TABLES.name):
        statements.append(CreateTable(LTR_TABLES))
    for one in tables:
        version = _version(connection, one)
        if version > one.version:
            raise DatabaseError(
                f"{database.address}: the tables of {one.name} are at version {version}, this release of ltr-pipeline "
                f"({__version__}) knows {one.version}; use the newer release"
            )
        if version < one.version:
            statements += _created(database, one) if not version else _stepped(database, one, version)
    return statements


def _created(database: Database, tables: Tables) -> Iterable[Statement]:
    if database.is_postgresql:
        for schema in sorted({table.schema for table in tables.metadata.tables.values() if table.schema}):
            yield f"CREATE SCHEMA IF NOT EXISTS {_quoted(database, schema)}"
    for table in database.metadata(tables.metadata).sorted_tables:
        yield CreateTable(table)
        yield from (CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))
    yield from _views(database, tables)
    yield from tables.rows(database)
    yield insert(LTR_TABLES).values(name=tables.name, version=tables.version, **_mark())


def _stepped(database: Database, tables: Tables, version: int) -> Iterable[Statement]:
    due = [step for step in tables.steps if step.version > version]
    kept = database.is_postgresql and all(step.keeps_views for step in due)
    if not kept:  # a view may stand in the way of a change of its table
        yield from (f"DROP VIEW IF EXISTS {_quoted(database, name)}" for name in [*tables.views][::-1])
    for step in due:
        yield from step.statements(database)
    yield from _views(database, tables, "CREATE OR REPLACE" if kept else "CREATE")
    yield LTR_TABLES.update().where(LTR_TABLES.c.name == tables.name).values(version=tables.version, **_mark())


def _views(database: Database, tables: Tables, make: str = "CREATE") -> Iterable[Statement]:
    yield from (f"{make} VIEW {_quoted(database, name)} AS\n{body}" for name, body in tables.views.items())


def _mark() -> dict[str, object]:
    return {"changed_at": dt.datetime.now(dt.UTC), "changed_by": f"ltr-pipeline {__version__}"}


def _version(connection: Connection, tables: Tables) -> int:
    """Return the version that tables are at; 0 where there are none."""
    if not inspect(connection).has_table(LTR_TABLES.name):
        return 0
    query = select(LTR_TABLES.c.version).where(LTR_TABLES.c.name == tables.name)
    return connection.scalar(query) or 0


def _quoted(database: Database, name: str) -> str:
    return database.engine.dialect.identifier_preparer.quote(name)
