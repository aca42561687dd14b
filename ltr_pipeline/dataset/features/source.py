"""Feature tables wherever they are: Parquet and CSV files, on disk or S3, and tables of the database."""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from glob import glob
from pathlib import Path
from typing import Any, Final

import polars as pl

from ltr_pipeline.database.address import VARIABLE, Address
from ltr_pipeline.errors import DatabaseError, DatasetError, NotFoundError
from ltr_pipeline.mapping import FeatureTable
from ltr_pipeline.names import misspelt
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage

__all__ = ["ENTITY", "PROBLEM", "SINCE", "Sources", "checked", "opened", "telling"]

ENTITY: Final = "/entity"
SINCE: Final = "/since"
PROBLEM: Final = "/problem"
"""Columns of an opened table: the entity's id, as text; from when on the row is known, in UTC; what cannot be read in
the row, null where all can. Its features stand between them, float32 by their names, of which none has a slash."""

SQL: Final = "sql:"
CHUNK: Final = 50_000  # rows of the database held at a time

_UTC: Final = pl.Datetime("us", "UTC")
_TABLE: Final = re.compile(r"\w+(\.\w+)?")


@dataclass(frozen=True)
class Sources:
    """How what the mapping only names is reached.

    Attributes
    ----------
    s3
        Options of S3, for addresses ``s3://…``.
    database
        The database, for addresses ``sql:…``.
    """

    s3: S3Options = field(default_factory=S3Options)
    database: Address | None = None


def checked(table: FeatureTable, sources: Sources) -> None:
    """Open a table and look at its columns alone; DatasetError as in `opened`."""
    with _raw(table, sources, look=True) as found:
        _typed(table, found)


@contextmanager
def opened(table: FeatureTable, sources: Sources) -> Iterator[pl.LazyFrame]:
    """Yield a table as a query of the columns `ENTITY`, `SINCE` and its features; rows in any order, as they are.

    What was not read yet when the ``with`` ends cannot be read any more.

    Raises
    ------
    DatasetError
        There is no such table, it lacks a column, or a column has another type. What the query raises when it is run,
        `telling` makes one of these.
    DatabaseError
        The database cannot be read.
    """
    with _raw(table, sources) as found:
        yield _typed(table, found)


@contextmanager
def telling(table: FeatureTable) -> Iterator[None]:
    """Turn what polars raises while it reads a table into a DatasetError that names it."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise DatasetError(f"feature table {table.name} cannot be read: {said} ({table.address})") from error


@contextmanager
def _raw(table: FeatureTable, sources: Sources, *, look: bool = False) -> Iterator[pl.LazyFrame]:
    """Yield a table as it is; from the database only the columns that are needed, and without rows for a mere look."""
    if table.address.startswith(SQL):
        with tempfile.TemporaryDirectory() as scratch:
            _fetch(table, sources, Path(scratch), look)
            yield pl.scan_parquet(Path(scratch))
    elif table.address.startswith("s3://"):
        folder, _, name = table.address.rpartition("/")
        with ExitStack() as held:
            try:
                path = held.enter_context(open_storage(folder, sources.s3).local_file(name))
            except NotFoundError as error:
                raise DatasetError(f"feature table {table.name}: {error}; check its address in the mapping") from error
            yield _scanned(table, [path])
    else:
        yield _scanned(table, _paths(table))


def _fetch(table: FeatureTable, sources: Sources, folder: Path, look: bool) -> None:
    """Write the rows of a table of the database to files of `CHUNK` rows each, at least one."""
    if sources.database is None:
        raise DatasetError(f"feature table {table.name} is one of the database, but there is none; set {VARIABLE}")
    from ltr_pipeline.database.engine import Database  # only here: its package is one that most do without

    needed = (table.key_column, table.time, *table.features)
    statement = table.address.removeprefix(SQL).strip().rstrip(";")
    rows = statement if _TABLE.fullmatch(statement) else f"({statement}\n) AS feature_rows"
    try:
        with Database(sources.database) as database, database.begin(write=False) as connection:
            read = connection.execution_options(no_parameters=True, stream_results=True).exec_driver_sql
            there = list(read(f"SELECT * FROM {rows} WHERE 1 = 0").keys())  # noqa: S608 - the mapping is our user's
            _check_columns(table, needed, there)
            quoted = ", ".join(map(connection.dialect.identifier_preparer.quote, needed))
            found = read(f"SELECT {quoted} FROM {rows}{' WHERE 1 = 0' if look else ''}")  # noqa: S608
            _frame(table, []).write_parquet(folder / "0.parquet")
            for number, chunk in enumerate(found.partitions(CHUNK), start=1):
                _frame(table, chunk).write_parquet(folder / f"{number}.parquet")
    except DatabaseError as error:
        raise type(error)(f"feature table {table.name}: {error}") from error


def _frame(table: FeatureTable, rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Return rows of the database in columns of few types."""
    keys, times, *features = zip(*rows, strict=True) if rows else [()] * (2 + len(table.features))
    types: dict[str, Any] = {table.key_column: pl.String, table.time: _UTC}
    columns = {
        table.key_column: [_id(table, key) for key in keys],
        table.time: [_moment(table, time) for time in times],
        **{
            name: [_number(table, name, x) for x in values]
            for name, values in zip(table.features, features, strict=True)
        },
    }
    return pl.DataFrame(columns, types | dict.fromkeys(table.features, pl.Float64))


def _id(table: FeatureTable, key: object) -> str | None:
    if isinstance(key, float | Decimal):
        raise DatasetError(f"feature table {table.name}: {table.key_column} is {key!r}; ids are text or whole numbers")
    return None if key is None else str(key)


def _moment(table: FeatureTable, time: object) -> dt.datetime | None:
    try:
        if isinstance(time, str):
            time = dt.datetime.fromisoformat(time)
        if isinstance(time, dt.date) and not isinstance(time, dt.datetime):
            time = dt.datetime.combine(time, dt.time())
        if isinstance(time, dt.datetime):
            return time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except ValueError:
        pass
    if time is None:
        return None
    raise DatasetError(f"feature table {table.name}: {table.time} is {time!r}; give a timestamp")


def _number(table: FeatureTable, name: str, value: Any) -> float | None:  # noqa: ANN401 - whatever the driver gives
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"feature table {table.name}: {name} is {value!r}; features are numbers") from None


def _paths(table: FeatureTable) -> list[Path]:
    address = table.address
    found = [Path(path) for path in sorted(glob(address))]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found or not all(path.is_file() for path in found):
        raise DatasetError(
            f"feature table {table.name}: there is no file {address}; check its address in the mapping, which is taken "
            "from the folder that the pipeline runs in"
        )
    return found


def _scanned(table: FeatureTable, paths: list[Path]) -> pl.LazyFrame:
    name = table.address.lower()
    with telling(table):
        if name.endswith(".parquet"):
            return pl.scan_parquet(paths, hive_partitioning=False)
        if name.endswith((".csv", ".csv.gz")):
            return pl.scan_csv(paths, infer_schema=False)
    raise DatasetError(
        f"feature table {table.name}: {table.address} is of no form that is read; give a .parquet, .csv or .csv.gz "
        f"file, or {SQL} and a SELECT"
    )


def _typed(table: FeatureTable, found: pl.LazyFrame) -> pl.LazyFrame:
    """Give a table its columns' names and types, and say of each row what cannot be read."""
    with telling(table):
        types = found.collect_schema()
    _check_columns(table, (table.key_column, table.time, *table.features), list(types))
    read = {
        ENTITY: _entity(table, types[table.key_column]),
        SINCE: _since(table, types[table.time]),
        **{name: _feature(table, name, types[name]) for name in table.features},
    }
    wrong = {table.time: _lost(table.time, read[SINCE], types)}
    wrong |= {name: _lost(name, read[name], types) | read[name].is_infinite() for name in table.features}
    problems = [
        pl.when(bad).then(pl.format("{} is {}", pl.lit(name), pl.col(name).cast(pl.String)))
        for name, bad in wrong.items()
    ]
    return found.select(*(value.alias(name) for name, value in read.items()), pl.coalesce(problems).alias(PROBLEM))


def _check_columns(table: FeatureTable, needed: Sequence[str], there: Sequence[str]) -> None:
    if lacking := [name for name in needed if name not in there]:
        raise DatasetError(
            f"feature table {table.name} has no column {misspelt(lacking, there)}; there are {', '.join(there)}"
        )


def _lost(name: str, read: pl.Expr, types: pl.Schema) -> pl.Expr:
    """Tell where text has become no value."""
    return read.is_null() & (pl.col(name).str.strip_chars() != "") if types[name] == pl.String else pl.lit(value=False)


def _entity(table: FeatureTable, kind: pl.DataType) -> pl.Expr:
    column = pl.col(table.key_column)
    if kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return column.cast(pl.String)
    raise DatasetError(
        f"feature table {table.name}: the key {table.key_column} is {kind}; ids are text or whole numbers"
    )


def _since(table: FeatureTable, kind: pl.DataType) -> pl.Expr:
    column = pl.col(table.time)
    if isinstance(kind, pl.Datetime):
        zoned = column.dt.convert_time_zone("UTC") if kind.time_zone else column.dt.replace_time_zone("UTC")
        return zoned.cast(_UTC)
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if kind == pl.String:
        return _parsed(column)
    if kind == pl.Null:
        return column.cast(_UTC)
    raise DatasetError(
        f"feature table {table.name}: the time {table.time} is {kind}; give a timestamp, a date, or text such as "
        "2025-07-15T10:30:00Z"
    )


def _parsed(column: pl.Expr) -> pl.Expr:
    """Read times that are text: RFC 3339, also with a space for the T or without a zone, or a date."""
    text = column.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T").str.replace(r"[Zz]$", "+00:00")
    zoned, naive, day = (
        text.str.to_datetime(form, strict=False, time_unit="us")
        for form in ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")
    )
    return pl.coalesce(zoned, pl.coalesce(naive, day).dt.replace_time_zone("UTC"))


def _feature(table: FeatureTable, name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind == pl.String:
        return column.str.strip_chars().cast(pl.Float32, strict=False)
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return column.cast(pl.Float32, strict=False)
    raise DatasetError(f"feature table {table.name}: the feature {name} is {kind}; features are numbers")
