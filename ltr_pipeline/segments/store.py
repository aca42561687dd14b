"""Parameters, models and the cube in the database: each function is a part of a transaction that its caller holds."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
import polars as pl
from sqlalchemy import Connection, Table, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import SegmentError
from ltr_pipeline.segments.comparison import Comparison
from ltr_pipeline.segments.engagement import FEATURES, PERIOD
from ltr_pipeline.segments.model import SegmentModel, decoded, encoded
from ltr_pipeline.segments.parameters import LevelParameters, Parameters
from ltr_pipeline.segments.tables import CUBE, LABELS, LEVELS, MODELS, PARAMETERS, WORDS

__all__ = [
    "CubeRow",
    "Stored",
    "add_model",
    "counts",
    "is_there",
    "labels_of",
    "lock_models",
    "model_in_use",
    "model_of",
    "read_parameters",
    "replace_cube",
    "segments_of_users",
    "use_model",
    "user_periods",
]

T = TypeVar("T")

_WRITTEN: Final = 50_000  # rows that go to the database at a time
_MEND: Final = "correct the row, or delete the tables of segments and run `ltr segments init`"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its version in the database, a whole number that counts by level."""

    version: int
    model: SegmentModel


class CubeRow(msgspec.Struct, frozen=True, kw_only=True):
    """How many entities of a level have a label in a period."""

    level: str
    granularity: str
    period: dt.date
    centroid_id: int
    label: str
    entities: int
    model_version: int
    classified_at: dt.datetime


def read_parameters(database: Database, connection: Connection) -> Parameters:
    """Read what people have configured.

    Raises
    ------
    SegmentError
        A row is missing, or what it says cannot be used.
    """
    chosen = _rows(database, connection, PARAMETERS)
    if len(chosen) != 1:
        raise SegmentError(f"{PARAMETERS.fullname} has {len(chosen)} rows, but needs one; {_MEND}")
    wording: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in _rows(database, connection, WORDS):
        wording[row["language"]].append((row["place"], row["label"]))
    levels = [_level(row) for row in sorted(_rows(database, connection, LEVELS), key=_by_level) if row["active"]]
    fields = {name: value for name, value in chosen[0].items() if name != "id"}
    words = {language: [label for _, label in sorted(labels)] for language, labels in wording.items()}
    return _converted(fields | {"levels": levels, "wording": words}, Parameters, PARAMETERS.fullname)


def model_in_use(database: Database, connection: Connection, level: str) -> Stored | None:
    """Return the model of a level that classifies; None while there is none."""
    models = database.table(MODELS)
    found = connection.execute(
        select(models.c.version, models.c.model).where(models.c.level == level, models.c.in_use)
    ).all()
    if len(found) > 1:
        raise SegmentError(f"{MODELS.fullname}: {len(found)} models of level {level} are in use; choose one")
    return _stored(level, *found[0]) if found else None


def model_of(database: Database, connection: Connection, level: str, version: int) -> Stored:
    """Return a model of a level; SegmentError where there is none of that version."""
    models = database.table(MODELS)
    content = connection.scalar(select(models.c.model).where(models.c.level == level, models.c.version == version))
    if content is None:
        raise SegmentError(f"{MODELS.fullname} has no version {version} of level {level}; train again")
    return _stored(level, version, content)


def use_model(database: Database, connection: Connection, level: str, version: int, because: str) -> None:
    """Put a model that was kept beside the one in use in its place, and add why to its reason."""
    models = database.table(MODELS)
    of_level = models.c.level == level
    connection.execute(update(models).where(of_level).values(in_use=False))
    chosen = update(models).where(of_level, models.c.version == version)
    connection.execute(chosen.values(in_use=True, reason=models.c.reason + f"; {because}"))


def _stored(level: str, version: int, content: object) -> Stored:
    where = f"{MODELS.fullname}, level {level}, version {version}"
    return Stored(version=version, model=decoded(_as_text(content), where))


def add_model(
    database: Database, connection: Connection, model: SegmentModel, comparison: Comparison | None, *, use: bool
) -> Stored:
    """Keep a new model with its labels, and with `use` put it in the place of the one in use."""
    models, labels = database.table(MODELS), database.table(LABELS)
    of_level = models.c.level == model.level
    version = (connection.scalar(select(func.max(models.c.version)).where(of_level)) or 0) + 1
    if use:
        connection.execute(update(models).where(of_level).values(in_use=False))
    against = comparison or Comparison(former=0)
    connection.execute(
        insert(models).values(
            level=model.level,
            version=version,
            in_use=use,
            created_at=model.created_at,
            model=json.loads(encoded(model)) if database.is_postgresql else encoded(model),
            former_version=against.former or None,
            ari=against.ari,
            kept_label=against.kept_label,
            old_to_new=json.dumps(against.old_to_new),
            reason=against.reason,
        )
    )
    rows = [
        {"level": model.level, "model_version": version, "language": language, "centroid_id": index, "label": label}
        for language, words in model.labels.items()
        for index, label in enumerate(words)
    ]
    connection.execute(insert(labels), rows)
    return Stored(version=version, model=model)


def labels_of(database: Database, connection: Connection, level: str, version: int, language: str) -> dict[int, str]:
    """Return the label of each centroid of a model.

    Raises
    ------
    SegmentError
        It has none in that language.
    """
    labels = database.table(LABELS)
    wanted = (labels.c.level == level, labels.c.model_version == version)
    found = connection.execute(select(labels.c.language, labels.c.centroid_id, labels.c.label).where(*wanted)).all()
    named = {index: label for said, index, label in found if said == language}
    if not named:
        known = ", ".join(sorted({said for said, _, _ in found})) or "none"
        raise SegmentError(
            f"{LABELS.fullname}: version {version} of level {level} has labels in {known}, but "
            f"{PARAMETERS.fullname} asks for {language}; `ltr segments train` makes them"
        )
    return named


def replace_cube(database: Database, connection: Connection, cube: Sequence[pl.DataFrame], now: dt.datetime) -> int:
    """Empty the cube and fill it again, and return its number of rows; readers see the former until this is committed.

    Rows are deleted and the table is not truncated, which readers would see at once; a second writer waits.

    Parameters
    ----------
    cube
        Columns of the table but ``classified_at``, and the features instead of ``features``.
    """
    table = database.table(CUBE)
    if database.is_postgresql:
        connection.execute(text(f"LOCK TABLE {CUBE.schema}.{CUBE.name} IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(delete(table))
    columns = [column.name for column in CUBE.columns]
    for part in cube:
        for rows in part.iter_slices(_WRITTEN):
            prepared = rows.with_columns(_features(), pl.lit(_moment(database, now)).alias("classified_at"))
            _insert(database, connection, table, prepared.select(columns))
    return sum(part.height for part in cube)


def counts(database: Database, connection: Connection) -> list[CubeRow]:
    """Count the cube by level, period and label, in the order of engagement."""
    cube = database.table(CUBE)
    keys = [
        cube.c[name]
        for name in ("level", "granularity", "period", "centroid_id", "label", "model_version", "classified_at")
    ]
    counted = select(*keys, func.count().label("entities")).group_by(*keys).order_by(cube.c.level.desc(), *keys[1:4])
    return [CubeRow(**row) for row in connection.execute(counted).mappings()]


def is_there(database: Database, connection: Connection) -> bool:
    """Tell whether there is a cube at all."""
    table = database.table(CUBE)
    return inspect(connection).has_table(table.name, schema=table.schema)


def user_periods(database: Database, connection: Connection) -> list[tuple[str, dt.date]]:
    """Return the periods in which users were classified: granularity and first day."""
    cube = database.table(CUBE)
    found = select(cube.c.granularity, cube.c.period).where(cube.c.level == "user").distinct()
    return [(row.granularity, row.period) for row in connection.execute(found)]


def lock_models(database: Database, connection: Connection) -> None:
    """Let no other training change the models until the transaction ends; SQLite has one writer anyway."""
    if database.is_postgresql:
        connection.execute(text(f"LOCK TABLE {MODELS.schema}.{MODELS.name} IN SHARE ROW EXCLUSIVE MODE"))


def segments_of_users(
    database: Database, connection: Connection, period: dt.date, granularity: str
) -> Iterator[tuple[str, int, str]]:
    """Yield user, centroid and label of a period."""
    cube = database.table(CUBE)
    wanted = (cube.c.level == "user", cube.c.granularity == granularity, cube.c.period == period)
    for row in connection.execute(select(cube.c.entity, cube.c.centroid_id, cube.c.label).where(*wanted)):
        yield row.entity, row.centroid_id, row.label


def _rows(database: Database, connection: Connection, table: Table) -> list[dict[str, Any]]:
    try:
        found = connection.execute(select(database.table(table))).mappings()
        return [{str(name): value for name, value in row.items()} for row in found]
    except (TypeError, ValueError) as error:  # SQLite keeps what it is given, of whatever type
        raise SegmentError(f"{table.fullname} holds a value of another type: {error}; {_MEND}") from error


def _level(row: dict[str, Any]) -> LevelParameters:
    where = f"{LEVELS.fullname}, level {row['level']}"
    lists = {}
    for name in ("features", "weights"):
        try:
            lists[name] = json.loads(row[name])
        except (TypeError, ValueError) as error:
            form = '["lists", "days"]' if name == "features" else '{"lists": 1, "days": 2}'
            raise SegmentError(f"{where}: {name} is no JSON such as {form}: {error}; correct the row") from error
    return _converted({"level": row["level"], "k": row["k"], **lists}, LevelParameters, where)


def _converted(fields: dict[str, Any], kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise SegmentError(f"{where}: {error}; correct the row") from error


def _by_level(row: dict[str, Any]) -> tuple[bool, str]:
    return row["level"] != "user", row["level"]  # users first


def _features() -> pl.Expr:
    """Return the JSON object of all features of a row, as text."""
    return pl.struct(*FEATURES).struct.json_encode().alias("features")


def _moment(database: Database, now: dt.datetime) -> str:
    """Return a moment as the driver's own type would write it."""
    utc = now.astimezone(dt.UTC)
    return utc.isoformat() if database.is_postgresql else f"{utc:%Y-%m-%d %H:%M:%S.%f}"


def _insert(database: Database, connection: Connection, table: Table, rows: pl.DataFrame) -> None:
    """Write rows as fast as the database takes them: COPY, or many INSERTs of one statement."""
    names = ", ".join(rows.columns)
    if not database.is_postgresql:
        places = ", ".join("?" * rows.width)
        plain = rows.with_columns(pl.col(PERIOD).cast(pl.String)).rows()
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({places})", plain)  # noqa: S608 - ours
        return
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor().copy(f"COPY {table.schema}.{table.name} ({names}) FROM STDIN WITH (FORMAT csv)") as copy:
            copy.write(rows.write_csv(include_header=False, quote_style="non_numeric").encode())
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError("COPY", None, error) from error


def _as_text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)
