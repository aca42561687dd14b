"""A part of a built dataset, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.dataset.labels import impression_types
from ltr_pipeline.dataset.manifest import DatasetManifest, Part
from ltr_pipeline.dataset.windows import Span, Windows
from ltr_pipeline.errors import DatasetError
from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.schema import (
    AS_SERVED,
    ITEM_ID,
    MAX_GROUP_ROWS,
    POSITION,
    PROPENSITY,
    PROTECTED_GROUP,
    QUERY_ID,
    RANKING_ID,
    RELEVANCE,
    TIME,
    USER_ID,
    feature_column,
)
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.digest import file_sha256

__all__ = ["IDS", "UNKNOWN_POSITION", "Dataset", "PartName", "load_part", "thinned"]

IDS: Final = (QUERY_ID, RANKING_ID, ITEM_ID, USER_ID, TIME, PROTECTED_GROUP, AS_SERVED)
UNKNOWN_POSITION: Final = MAX_GROUP_ROWS + 1
"""Where an item was shown when nobody logged it: below every place there is."""

PartName = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Dataset:
    """Rankings one after the other, as arrays of `n` rows.

    Attributes
    ----------
    features
        float32 (n, features), row-major; NaN = missing.
    feature_names
        Names of the columns.
    relevance
        int8 (n,).
    group
        Rows of each ranking, int32 (rankings,).
    position
        Where each item was shown, int32 (n,), 1-based; `UNKNOWN_POSITION` where it was not logged, None when it never
        was. It is never a feature.
    ids
        The columns of `IDS` that were asked for, n rows.
    propensity
        Probability of the place each item was shown at, float32 (n,); NaN where it was not logged, None when it never
        was.
    weight
        What each ranking counts for in training, float32 (rankings,), by the calendar; None when all count alike.
    """

    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    relevance: NDArray[np.int8]
    group: NDArray[np.int32]
    position: NDArray[np.int32] | None
    ids: pl.DataFrame
    propensity: NDArray[np.float32] | None = None
    weight: NDArray[np.float32] | None = None


def load_part(
    data: Storage, folder: str, manifest: DatasetManifest, part: PartName, ids: Sequence[str] = IDS
) -> Dataset:
    """Load one part of a built dataset as arrays; beside them only one bucket is in memory at a time.

    Parameters
    ----------
    folder
        Where `build` wrote the labelled tables.
    ids
        Which columns of `IDS` to load; training mostly needs none.

    Raises
    ------
    DatasetError
        A labelled table is missing, unreadable, or not the one the manifest was written for.
    """
    span: Part = getattr(manifest, part)
    names = [feature_column(name) for name in manifest.features]
    features = np.empty((span.rows, len(names)), dtype=np.float32)
    columns = list(dict.fromkeys([QUERY_ID, RANKING_ID, TIME, RELEVANCE, POSITION, PROPENSITY, *ids]))
    narrow, groups, days, filled = [], [], [], 0
    for file, sha256 in manifest.tables.items():
        table = _rows(data, f"{folder}/{file}", sha256, span, [*columns, *names])
        features[filled : filled + table.height] = table.select(names).to_numpy()
        filled += table.height
        narrow.append(table.select(RELEVANCE, POSITION, PROPENSITY, *ids))
        groups.append(_run_lengths(table.select(pl.struct(QUERY_ID, RANKING_ID).rle_id()).to_series()))
        days.append(table[TIME].dt.date().gather(starts(groups[-1])))
    rest = pl.concat(narrow, rechunk=True)
    return Dataset(
        features=features,
        feature_names=tuple(manifest.features),
        relevance=rest[RELEVANCE].to_numpy(),
        group=np.concatenate(groups),
        position=_positions(rest[POSITION]),
        ids=rest.select(ids),
        propensity=_propensities(rest[PROPENSITY]),
        weight=_weights(pl.concat(days), manifest.windows),
    )


def thinned(data: Dataset, rows: int) -> Dataset:
    """Return at most about so many rows: every n-th ranking."""
    step = -(-len(data.relevance) // rows)
    if step <= 1:
        return data
    chosen = np.arange(len(data.group)) % step == 0
    kept = np.repeat(chosen, data.group)
    return Dataset(
        features=data.features[kept],
        feature_names=data.feature_names,
        relevance=data.relevance[kept],
        group=data.group[chosen],
        position=None if data.position is None else data.position[kept],
        ids=data.ids.filter(pl.Series(kept)),
        propensity=None if data.propensity is None else data.propensity[kept],
        weight=None if data.weight is None else data.weight[chosen],
    )


def _rows(data: Storage, key: str, sha256: str, span: Span, columns: Sequence[str]) -> pl.DataFrame:
    with data.local_file(key) as path:
        if file_sha256(path) != sha256:
            raise DatasetError(
                f"{data.uri(key)} is not the table the manifest was written for; build the dataset again"
            )
        rows = pl.scan_parquet(path, hive_partitioning=False)
        there, types = set(rows.collect_schema().names()), impression_types(())
        # A table that a former release wrote has no column that was declared since.
        chosen = [pl.col(name) if name in there else pl.lit(None, types[name]).alias(name) for name in columns]
        return rows.filter(pl.col(TIME).is_between(span.start, span.end, closed="left")).select(chosen).collect()


def _run_lengths(run: pl.Series) -> NDArray[np.int32]:
    return np.bincount(run.to_numpy()).astype(np.int32)


def _positions(logged: pl.Series) -> NDArray[np.int32] | None:
    if logged.null_count() == len(logged):
        return None
    return logged.fill_null(UNKNOWN_POSITION).to_numpy()


def _weights(days: pl.Series, windows: Windows) -> NDArray[np.float32] | None:
    """Return what each ranking counts for, by its day."""
    weights = {day: windows.weight(day) for day in days.unique()}
    if all(weight == 1 for weight in weights.values()):
        return None
    return days.replace_strict(weights, return_dtype=pl.Float32).to_numpy()


def _propensities(logged: pl.Series) -> NDArray[np.float32] | None:
    return None if logged.is_nan().all() else logged.to_numpy()
