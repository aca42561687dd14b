"""Tables of people's own: named as they are, and looked at before anything is done to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnClause, Connection, TableClause, column, func, inspect, select, table, text
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import UserDefinedType

from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError
from ltr_pipeline.names import did_you_mean, misspelt

__all__ = ["Found", "TypeName", "check_key", "check_rights", "find", "named", "ordered"]

TEXTS: Final = ("char", "text", "citext", "name")
_TRY: Final = ": `table` in LTR_SCORING says which it is; `ltr simulate --database` makes a table users, to try"
_PART: Final = re.compile(r'"((?:[^"]|"")+)"|([^."]+)')


class TypeName(UserDefinedType[Any]):
    """A type by the name that the database gives it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True)
class Found:
    """A table that is there, with columns that are there.

    Attributes
    ----------
    clause
        The table, to be used in statements.
    types
        Type of each column that was asked for, as the database names it.
    """

    clause: TableClause
    types: Mapping[str, str]

    def __getitem__(self, name: str) -> ColumnClause[Any]:
        found: ColumnClause[Any] = self.clause.c[name]
        return found


def named(name: str) -> tuple[str | None, str]:
    """Return schema and name of a table; dots inside quotation marks are part of a name.

    >>> named("crm.users"), named('"a.b"')
    (('crm', 'users'), (None, 'a.b'))
    """
    parts = [quoted.replace('""', '"') or plain for quoted, plain in _PART.findall(name)]
    if not 1 <= len(parts) <= 2:
        raise ScoringError(f"{name!r} is no name of a table: write table or schema.table")
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def find(
    database: Database, connection: Connection, job: str, name: str, columns: Sequence[str], *, views: bool = False
) -> Found:
    """Look for a table, or where `views` are fine a view, and columns of it.

    Raises
    ------
    ScoringError
        The table or a column is not there, or it is a view: which, and what was probably meant.
    """
    schema, plain = named(name)
    look = inspect(connection)
    where = f"job {job}: {database.address}"
    tables, shown = look.get_table_names(schema), look.get_view_names(schema)
    if database.is_postgresql:
        shown = [*shown, *look.get_materialized_view_names(schema)]
    if plain not in [*tables, *(shown if views else ())]:
        if plain in shown:
            raise ScoringError(f"{where}: {name} is a view, whose rows cannot be locked: name the table that it shows")
        raise ScoringError(f"{where} has no table {name}{did_you_mean(plain, tables) or _TRY}")
    types = _types(database, connection, plain, schema)
    if lacking := [one for one in columns if one not in types]:
        raise ScoringError(
            f"{where}: the table {name} has no column {misspelt(lacking, list(types))}; its columns are "
            f"{', '.join(types)}"
        )
    used: list[ColumnClause[Any]] = [column(_exact(one)) for one in columns]
    clause = table(_exact(plain), *used, schema=_exact(schema) if schema else None)
    return Found(clause=clause, types={one: types[one] for one in columns})


def ordered(database: Database, column: ColumnClause[Any], type_name: str) -> Any:  # noqa: ANN401 - SQLAlchemy's own
    """Return a column as keys are paged by: texts by their bytes, as every server sorts these alike."""
    if not database.is_postgresql:
        return column.collate("BINARY")
    return column.collate("C") if any(one in type_name.lower() for one in TEXTS) else column


def check_key(database: Database, connection: Connection, job: str, found: Found, key: str, name: str) -> None:
    """Raise ScoringError unless a column tells every row of a table apart."""
    schema, plain = named(name)
    look = inspect(connection)
    primary = look.get_pk_constraint(plain, schema)["constrained_columns"]
    if primary == [key] and database.is_postgresql:  # SQLite lets a primary key be null
        return
    unique: list[Sequence[str | None]] = [primary]
    unique += [one["column_names"] for one in look.get_unique_constraints(plain, schema)]
    unique += [
        one["column_names"]
        for one in look.get_indexes(plain, schema)
        if one["unique"] and not one.get("dialect_options", {}).get("postgresql_where")
    ]
    column = found[key]
    if [key] not in unique:
        several = select(column).where(column.is_not(None)).group_by(column).having(func.count() > 1).limit(1)
        if connection.execute(several).first():
            raise ScoringError(
                f"job {job}: {database.address}: {key} of {name} is not unique, so rows cannot be told apart by it: "
                "name the column that is"
            )
    if connection.execute(select(column).where(column.is_(None)).limit(1)).first():
        raise ScoringError(
            f"job {job}: {database.address}: {key} of {name} is null in some rows; name a column that never is"
        )


def check_rights(
    database: Database, connection: Connection, job: str, name: str, reads: Iterable[str], writes: Sequence[str]
) -> None:
    """Raise ScoringError where the user may not read or write columns; it says what has to be granted."""
    if not database.is_postgresql:
        return
    quote = database.engine.dialect.identifier_preparer.quote
    whole = ".".join(quote(part) for part in named(name) if part)
    asked = [(one, "SELECT") for one in reads] + [(one, "UPDATE") for one in writes]
    query = text("SELECT has_column_privilege(CAST(:t AS regclass), CAST(:c AS text), :p)")
    lacking = [(one, right) for one, right in asked if not connection.scalar(query, {"t": whole, "c": one, "p": right})]
    if lacking:
        user = connection.scalar(select(func.current_user()))
        by_right = {right: [quote(one) for one, lacks in lacking if lacks == right] for _, right in lacking}
        rights = [f"{right} ({', '.join(of)})" for right, of in by_right.items()]
        raise ScoringError(
            f"job {job}: {database.address}: the user {user} may not do this: GRANT {', '.join(rights)} ON {whole} TO "
            f"{quote(str(user))}"
        )


def _types(database: Database, connection: Connection, name: str, schema: str | None) -> dict[str, str]:
    if not database.is_postgresql:
        return {one["name"]: str(one["type"]) for one in inspect(connection).get_columns(name, schema)}
    query = text(
        "SELECT attname, format_type(atttypid, -1) AS type FROM pg_attribute "
        "JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE relname = :name AND attnum > 0 AND NOT attisdropped "
        "AND nspname = coalesce(:schema, current_schema()) ORDER BY attnum"
    )
    return {row.attname: row.type for row in connection.execute(query, {"name": name, "schema": schema})}


def _exact(name: str) -> quoted_name:
    """Return a name that is always written in quotation marks."""
    return quoted_name(name, quote=True)
