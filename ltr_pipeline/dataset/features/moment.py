"""The values of feature tables at one moment, for rows that are scored then."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.dataset.features.asof import refuse_repeated
from ltr_pipeline.dataset.features.snapshot import count
from ltr_pipeline.dataset.features.source import ENTITY, PROBLEM, SINCE, Sources, opened, telling
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import FeatureTable

__all__ = ["FeaturesAt"]


class FeaturesAt:
    """The newest values of every entity that were known strictly before a moment, within each table's tolerance.

    For a moment, they are what `asof.as_of` joins to a list shown then, so that rows scored now get the features
    that the nightly build will give them. It reads each table once, and holds one row of each entity; ask it for
    as many batches as there are.

    Parameters
    ----------
    tables
        Of the mapping.
    moment
        When the rows are scored, with a time zone.

    Attributes
    ----------
    names
        Features of all tables, in the model's order.
    future
        Rows of the moment or later, by table; none of them is used.

    Raises
    ------
    DatasetError
        A table cannot be read, or two of its newest rows have one id and one time.
    """

    def __init__(self, tables: Sequence[FeatureTable], moment: dt.datetime, sources: Sources) -> None:
        self.names = tuple(name for table in tables for name in table.features)
        self.future: dict[str, int] = {}
        self._tables = tables
        self._newest = {table.name: self._read(table, moment, sources) for table in tables}

    def _read(self, table: FeatureTable, moment: dt.datetime, sources: Sources) -> pl.DataFrame:
        with opened(table, sources) as found:
            _, self.future[table.name], _ = count(found, table, moment)
            fits = pl.col(ENTITY).is_not_null() & (pl.col(SINCE) < moment) & (pl.col(SINCE) >= moment - table.tolerance)
            fitting = found.filter(fits).drop(PROBLEM)
            last = fitting.group_by(ENTITY).agg(pl.col(SINCE).max())
            with telling(table):
                newest = fitting.join(last, on=[ENTITY, SINCE], how="semi").collect(engine="streaming")
        refuse_repeated(newest, table)
        return newest

    def of(self, ids: Mapping[str, Sequence[str | None]]) -> NDArray[np.float32]:
        """Return the features of some rows, float32 (rows, `names`), NaN = missing.

        Parameters
        ----------
        ids
            Of the rows, by column: ``item_id``, ``user_id``, ``query_id``, as many of them as the tables need, all of
            the same length. A row without an id, null, has no values of it.

        Raises
        ------
        DatasetError
            The ids that a table needs are not given.
        """
        columns = []
        for table in self._tables:
            if table.column not in ids:
                raise DatasetError(f"feature table {table.name} needs the {table.column} of each row")
            rows = pl.DataFrame({ENTITY: ids[table.column]}, {ENTITY: pl.String})
            joined = rows.join(self._newest[table.name], on=ENTITY, how="left", maintain_order="left")
            columns.append(joined.select(pl.col(table.features).fill_null(float("nan"))).to_numpy())
        count = len(next(iter(ids.values()), ()))
        return np.column_stack(columns) if columns else np.empty((count, 0), np.float32)
