"""The table that a job scores: rows fetched by key and locked, scores written to those that are still as fetched."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    String,
    bindparam,
    cast,
    column,
    func,
    or_,
    select,
    table,
    text,
    true,
    update,
)

from ltr_pipeline.batch.changing import Changing
from ltr_pipeline.batch.columns import Found, TypeName, check_key, check_rights, find, ordered
from ltr_pipeline.batch.job import ScoreJob
from ltr_pipeline.batch.matrix import check_features
from ltr_pipeline.batch.runs import Mode
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError

__all__ = ["Columns", "Target", "moment"]

COPY_ABOVE: Final = 2000
"""Rows a batch above which PostgreSQL gets them by COPY and a temporary table, which cost more for few rows."""
SAMPLE: Final = 10_000
LOCK_SECONDS: Final = 60

Columns = list[tuple[str, Sequence[Any]]]
"""Feature, and its value by row."""


def moment(database: Database, type_name: str, at: dt.datetime) -> Any:  # noqa: ANN401 - as the column takes it
    """Return a moment, UTC, as a column of a type keeps it: in UTC, where it knows no time zone."""
    if not database.is_postgresql:
        return at.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")
    return at.replace(tzinfo=None) if "without time zone" in type_name else at


class Target:
    """A job's table, looked at: it has the columns, its keys are unique, and the user may do what is needed.

    Parameters
    ----------
    changing
        Features that are joined to the rows.
    mode
        Rows to score: those without a score, `all`, those that the version `again` scored, or also those that another
        version than `version` scored (`stale`).

    Raises
    ------
    ScoringError
        Something of this is not so.
    """

    def __init__(
        self,
        database: Database,
        connection: Connection,
        name: str,
        job: ScoreJob,
        version: str,
        mode: Mode = "unscored",
        again: str | None = None,
        changing: Changing | None = None,
    ) -> None:
        self.database, self.name, self.job, self.version = database, name, job, version
        self.changing = changing
        self._ids = list(changing.ids.values()) if changing else []
        self.mode: Mode = mode
        written = [one for one in (job.score, job.label, job.version, job.scored_at) if one]
        columns = list(dict.fromkeys([job.key, *written, *job.features.values(), *job.ids.values()]))
        self.table: Found = find(database, connection, name, job.table, columns)
        check_rights(database, connection, name, job.table, columns, written)
        check_key(database, connection, name, self.table, job.key, job.table)
        self.key = self.table[job.key]
        self._order = ordered(database, self.key, self.table.types[job.key])
        self._due = self._condition(mode, again)
        self._features_sql = self._aggregation()
        self._copies = database.is_postgresql and bool(
            connection.scalar(text("SELECT has_database_privilege(current_database(), 'TEMP')"))
        )

    def _condition(self, mode: Mode, again: str | None) -> ColumnElement[bool]:
        """Return the condition that a row is to be scored, which holds until it has been."""
        unscored = self.table[self.job.score].is_(None)
        if mode == "unscored":
            return unscored
        if mode == "all":
            return true()
        if not self.job.version:
            raise ScoringError(
                f"job {self.name}: which version scored a row is known only where the job names a column for it "
                '(version = "…")'
            )
        scored_by = self.table[self.job.version]
        return scored_by == again if mode == "again" else or_(unscored, scored_by.is_distinct_from(self.version))

    def last_key(self, connection: Connection) -> Any:  # noqa: ANN401 - of any type that a key may have
        """Return the highest key that is due; None without one. Rows that come later are the next run's."""
        query = select(self.key).where(self._due).order_by(self._order.desc()).limit(1)
        return connection.scalar(query)

    def count(self, connection: Connection, upto: Any) -> int:  # noqa: ANN401
        """Count the rows that are due, up to a key."""
        return (
            connection.scalar(select(func.count()).select_from(self.table.clause).where(self._due, self._order <= upto))
            or 0
        )

    def fetch(
        self,
        connection: Connection,
        after: Any,  # noqa: ANN401
        upto: Any,  # noqa: ANN401
        limit: int,
        *,
        wait: bool,
    ) -> tuple[list[Any], Columns]:
        """Lock the next rows that are due, and read them.

        Parameters
        ----------
        after, upto
            Keys between which they are; None = from the first.
        wait
            Whether to wait for rows that another session has locked; else they are passed over.

        Returns
        -------
        Keys in order, and the features' values of these rows.
        """
        if wait and self.database.is_postgresql:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        query = self._rows().where(self._due, self._order <= upto).order_by(self._order).limit(limit)
        if after is not None:
            query = query.where(self._order > after)
        # No more than an UPDATE of these columns locks: rows that refer to these may be inserted meanwhile.
        rows = connection.execute(query.with_for_update(key_share=True, skip_locked=not wait)).all()
        return self._read(connection, rows)

    def sample(self, connection: Connection) -> Columns:
        """Read the features of up to `SAMPLE` rows by chance, scored or not."""
        size = connection.scalar(select(func.count()).select_from(self.table.clause)) or 0
        share = min(1.0, SAMPLE / max(1, size))
        dice = (
            func.random() < share
            if self.database.is_postgresql
            else func.abs(func.random() % 1_000_000) < share * 1_000_000
        )
        query = self._rows() if share == 1 else self._rows().where(dice)
        return self._read(connection, connection.execute(query).all())[1]

    def write(
        self,
        connection: Connection,
        keys: Sequence[Any],
        scores: Sequence[float],
        labels: Sequence[str | None],
        at: dt.datetime,
    ) -> int:
        """Write the scores of rows that are still there and due, and return how many that were."""
        if not keys:
            return 0
        if not self.database.is_postgresql:
            return self._write_each(connection, keys, scores, labels, at)
        bound: dict[str, Any] = {}
        if self._copies and len(keys) > COPY_ABOVE:
            source = self._copied(connection, keys, scores, labels)
        else:
            source = self._unnested()
            bound = {"keys": list(keys), "scores": list(scores), "labels": list(labels)}
        changes = self._changes(source.c.score, source.c.label, at)
        statement = update(self.table.clause).where(self.key == source.c.key, self._due).values(changes)
        return connection.execute(statement, bound).rowcount

    def _changes(self, score: Any, label: Any, at: dt.datetime) -> dict[Any, Any]:  # noqa: ANN401
        changes = {self.table[self.job.score]: score}
        if self.job.label:
            changes[self.table[self.job.label]] = label
        if self.job.version:
            changes[self.table[self.job.version]] = self.version
        if self.job.scored_at:
            changes[self.table[self.job.scored_at]] = moment(self.database, self.table.types[self.job.scored_at], at)
        return changes

    def _unnested(self) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        """Return a table of the lists that `keys`, `scores` and `labels` are bound to."""
        kind = self.table.types[self.job.key]
        lists = [("keys", f"{kind}[]"), ("scores", "float8[]"), ("labels", "text[]")]
        arrays = [cast(bindparam(name), TypeName(of)) for name, of in lists]
        columns = column("key", TypeName(kind)), column("score", Float), column("label", String)
        return func.unnest(*arrays).table_valued(*columns).render_derived(name="scored")

    def _copied(
        self,
        connection: Connection,
        keys: Sequence[Any],
        scores: Sequence[float],
        labels: Sequence[str | None],
    ) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        kind = self.table.types[self.job.key]
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE ltr_scored (key {kind}, score float8, label text) ON COMMIT DROP"
        )
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy("COPY ltr_scored (key, score, label) FROM STDIN") as copy:
            for row in zip(keys, scores, labels, strict=True):
                copy.write_row(row)
        return table("ltr_scored", column("key"), column("score"), column("label"))

    def _write_each(
        self,
        connection: Connection,
        keys: Sequence[Any],
        scores: Sequence[float],
        labels: Sequence[str | None],
        at: dt.datetime,
    ) -> int:
        changes = self._changes(bindparam("new_score"), bindparam("new_label"), at)
        statement = update(self.table.clause).where(self.key == bindparam("row_key"), self._due).values(changes)
        rows = [
            {"row_key": key, "new_score": score} | ({"new_label": label} if self.job.label else {})
            for key, score, label in zip(keys, scores, labels, strict=True)
        ]
        return connection.execute(statement, rows).rowcount

    def _rows(self) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        # Each under a name of its own, as one column may be several of these.
        names = (*self.job.features.values(), *self._ids)
        values = [self.table[name].label(f"ltr_{at}") for at, name in enumerate(names)]
        return select(self.key.label("ltr_key"), *values)

    def _read(self, connection: Connection, rows: Sequence[Any]) -> tuple[list[Any], Columns]:
        keys = [row[0] for row in rows]
        given: Columns = [(name, [row[at] for row in rows]) for at, name in enumerate(self.job.features, 1)]
        if self._features_sql is not None:
            given = self._aggregated(connection, keys)
        if self.changing:
            first = 1 + len(self.job.features)
            ids = {name: [row[at] for row in rows] for at, name in enumerate(self.changing.ids, first)}
            given += self.changing.of(ids)
        return keys, given

    def _aggregation(self) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        """Return the job's own SELECT, with the keys of a batch as a list that each database takes."""
        written = self.job.features_sql
        if written is None:
            return None
        if self.database.is_postgresql:  # one array, however many keys there are
            kind = self.table.types[self.job.key]
            asked = written.replace("IN :keys", "= ANY(:keys)").replace("in :keys", "= ANY(:keys)")
            return text(asked.replace(":keys", f"CAST(:keys AS {kind}[])"))
        return text(written).bindparams(bindparam("keys", expanding=True))

    def _aggregated(self, connection: Connection, keys: Sequence[Any]) -> Columns:
        """Read the features that the job's SELECT gives for keys; a key that it leaves out has none."""
        if not keys:
            return []
        found = connection.execute(self._features_sql, {"keys": list(keys)})
        names = list(found.keys())
        if self.job.key not in names:
            raise ScoringError(
                f"job {self.name}: features_sql gives {', '.join(names)}, but not the key {self.job.key}"
            )
        at = names.index(self.job.key)
        by_key: dict[Any, Any] = {}
        for row in found:
            if row[at] in by_key:
                raise ScoringError(
                    f"job {self.name}: features_sql gives several rows for one {self.job.key}: it needs a GROUP BY"
                )
            by_key[row[at]] = row
        return [
            (name, [by_key[key][place] if key in by_key else None for key in keys])
            for place, name in enumerate(names)
            if place != at
        ]

    def missing_index(self, connection: Connection) -> list[str]:
        """Return the statement for an index on the keys of rows without a score; none where there is one."""
        name = f"ltr_unscored_{self.name}"
        known = text(
            "SELECT 1 FROM pg_indexes WHERE indexname = :name AND schemaname = coalesce(:schema, current_schema())"
        )
        if connection.scalar(known, {"name": name, "schema": self.table.clause.schema}):
            return []
        quote = self.database.engine.dialect.identifier_preparer.quote
        table_name = self.database.engine.dialect.identifier_preparer.format_table(self.table.clause)
        collated = ' COLLATE "C"' if self._order is not self.key else ""
        return [
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quote(name)} ON {table_name} ({quote(self.job.key)}{collated}) "
            f"WHERE {quote(self.job.score)} IS NULL"
        ]

    def check_features(self, connection: Connection, known: Sequence[str]) -> None:
        """Raise ScoringError when the job gives a feature that the version does not have, or none at all."""
        given = [*self.job.features, *(self.changing.names if self.changing else ())]
        if self._features_sql is not None:
            keys = [row[0] for row in connection.execute(select(self.key).limit(1))]
            given += [name for name, _ in self._aggregated(connection, keys)]
            if not keys:
                return
        check_features(given, known, self.name)
