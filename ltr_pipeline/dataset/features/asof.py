"""The as-of join: to each row the newest value that was known strictly before its moment."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from ltr_pipeline.dataset.features.source import ENTITY, SINCE, telling
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import FeatureTable
from ltr_pipeline.schema import TIME, feature_column

__all__ = ["Joined", "as_of", "known", "refuse_repeated"]

_ROW = "/row"


class Joined(NamedTuple):
    """Rows with the features of a table, and how many of them have no value of it.

    Attributes
    ----------
    rows
        In their order; of a row without a value, and where the value is missing in the table, the features are NaN.
    without
        Rows for which the table has nothing: of another entity, not yet known, or older than the tolerance.
    """

    rows: pl.DataFrame
    without: int


def known(path: Path, table: FeatureTable, entities: pl.Series) -> pl.DataFrame:
    """Read all that a snapshot knows of some entities, in order of entity and time; in memory is little else.

    Raises
    ------
    DatasetError
        Two rows of one entity have one time, or the file cannot be read.
    """
    wanted = pl.LazyFrame({ENTITY: entities.drop_nulls().unique()})
    with telling(table):
        found = pl.scan_parquet(path).join(wanted, on=ENTITY, how="semi").collect(engine="streaming")
    refuse_repeated(found, table)
    return found.sort(ENTITY, SINCE)


def refuse_repeated(values: pl.DataFrame, table: FeatureTable) -> None:
    """Raise DatasetError where two rows have one entity and one time: nothing says which of them is right."""
    repeated = values.filter(pl.struct(ENTITY, SINCE).is_duplicated()).sort(ENTITY, SINCE)
    if len(repeated):
        entity, since = repeated.row(0)[:2]
        count = repeated.select(ENTITY, SINCE).n_unique()
        raise DatasetError(
            f"feature table {table.name} has several rows for {table.entity} {entity} at {since.isoformat()}"
            f"{f', and for {count - 1} more pairs of id and time' if count > 1 else ''}: nothing says which of them "
            "holds; keep one"
        )


def as_of(rows: pl.DataFrame, values: pl.DataFrame, table: FeatureTable) -> Joined:
    """Join the features of a table to rows, as of the time of each row.

    A row gets the newest values of its entity that were known *strictly* before its time, by no more than the
    tolerance, inclusive. What becomes known at the very moment a list is shown may be its consequence, and was not at
    hand when the list was made. A value that is null in the newest row is missing: it is not looked for in older rows.

    Parameters
    ----------
    rows
        With `TIME` and the column of the table's entity, in any order.
    values
        Columns `ENTITY`, `SINCE` and the features, in any order; one row for each entity and time (`known`).
    """
    columns = {name: feature_column(name) for name in table.features}
    right = values.select(
        pl.col(ENTITY).alias(table.column),
        SINCE,
        pl.col(SINCE).alias(TIME),
        *(pl.col(a).alias(b) for a, b in columns.items()),
    ).sort(TIME)
    joined = (
        rows.select(table.column, TIME)
        .with_row_index(_ROW)
        .sort(TIME)
        .join_asof(
            right,
            on=TIME,
            by=table.column,
            strategy="backward",
            allow_exact_matches=False,
            tolerance=table.tolerance,
            check_sortedness=False,  # both are sorted above, which polars cannot see with `by`
        )
        .sort(_ROW)
    )
    features = joined.select(pl.col(name).fill_null(float("nan")) for name in columns.values())
    return Joined(rows.hstack(features), joined[SINCE].null_count())
