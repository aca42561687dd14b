"""Features that change, from the mapping's feature tables: as of the moment a run began, as a night would join them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ltr_pipeline.dataset.features.moment import FeaturesAt
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.mapping import FeatureTable

__all__ = ["Changing"]


class Changing:
    """The values that entities have at a moment, from those tables whose ids a job knows.

    Parameters
    ----------
    tables
        Of the mapping.
    ids
        Column of the job's rows by id: ``item_id``, ``user_id``, ``query_id``.
    given
        Features that the job takes from elsewhere; a table with one of them is not joined.

    Attributes
    ----------
    ids
        Of `ids`, what is needed.
    """

    def __init__(
        self,
        tables: Sequence[FeatureTable],
        ids: Mapping[str, str],
        given: Collection[str],
        moment: dt.datetime,
        sources: Sources,
    ) -> None:
        joined = [table for table in tables if table.column in ids and not set(table.features) & set(given)]
        self.ids = {name: column for name, column in ids.items() if name in {table.column for table in joined}}
        self._features = FeaturesAt(joined, moment, sources) if joined else None

    @property
    def names(self) -> tuple[str, ...]:
        """Features that are joined."""
        return self._features.names if self._features else ()

    def of(self, ids: Mapping[str, Sequence[Any]]) -> list[tuple[str, Sequence[Any]]]:
        """Return each feature's values for rows with these ids; None = missing."""
        if self._features is None:
            return []
        texts = {name: [None if one is None else str(one) for one in values] for name, values in ids.items()}
        matrix = self._features.of(texts)
        missing = np.isnan(matrix)
        columns = matrix.astype(object)
        columns[missing] = None
        return [(name, columns[:, place].tolist()) for place, name in enumerate(self.names)]
