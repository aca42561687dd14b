"""What was shown on a day and on the days it is compared with, out of the landed events, as arrays.

Two passes over the landed tables. The first reads no features and every event: what each list was, what was answered,
what was unavailable. The second reads the features of whole lists, drawn by a hash of what names them, as many of each
day as make `MOST_ROWS_A_DAY`; a day that is no larger is read whole.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Partitions
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from ltr_pipeline.dataset.build import joined_events, shown_features
from ltr_pipeline.dataset.features.asof import as_of, known
from ltr_pipeline.dataset.features.snapshot import frozen
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.dataset.labels import SHOWN_AT, Joined
from ltr_pipeline.dataset.windows import Span
from ltr_pipeline.errors import DatabaseError, DatasetError
from ltr_pipeline.mapping import FeatureTable, Mapping
from ltr_pipeline.metrics.drift import Rows
from ltr_pipeline.schema import (
    ACTION,
    AVAILABLE,
    ITEM_ID,
    LABEL,
    POSITION,
    QUERY_ID,
    RANKING_ID,
    RELEVANCE,
    TIME,
    USER_ID,
    feature_column,
)
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage

__all__ = ["MOST_ROWS_A_DAY", "Column", "Seen", "read_seen"]

log = structlog.get_logger(__name__)

MOST_ROWS_A_DAY: Final = 7_000
"""Of features; 28 days of them say more than a day can."""

_DAY: Final = "day"
_ASKER: Final = "asker"
_HASHES: Final = 2**32
_RANKING: Final = [QUERY_ID, RANKING_ID]
_CANDIDATE: Final = [QUERY_ID, RANKING_ID, ITEM_ID]


class Column(NamedTuple):
    """Values, float32 (n,), NaN = missing, with their days and clusters."""

    values: NDArray[np.float32]
    rows: Rows


@dataclass(frozen=True)
class Seen:
    """What was shown on some days.

    Attributes
    ----------
    names
        Features of the model, f of them.
    matrix
        Their values in a sample of n rows, float32 (n, f), NaN = missing; items that were available.
    rows
        Days and clusters of the sample.
    asker
        Who each row was shown to, or else its list: the same number on every day, int64 (n,).
    measures
        Columns beside the features, of all rows, lists or interactions, by name.
    totals
        Rows and lists of each day, by its ordinal.
    unreadable
        Features whose table could not be read, and why.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float32]
    rows: Rows
    asker: NDArray[np.int64]
    measures: Partitions[str, Column] = field(default_factory=dict)
    totals: Partitions[int, tuple[int, int]] = field(default_factory=dict)
    unreadable: Partitions[str, str] = field(default_factory=dict)

    @cached_property
    def days(self) -> list[int]:
        """The days with rows, as ordinals, ascending."""
        return [int(day) for day in self.rows.days]

    def began(self, column: int, otherwise: int) -> int:
        """Return the day, as an ordinal, of the first value of a feature in a column; `otherwise` where it has none."""
        return int(self.rows.day[~np.isnan(self.matrix[:, column])].min(initial=otherwise))


def read_seen(
    data: Storage,
    partitions: Partitions[str, str],
    mapping: Mapping,
    days: Iterable[dt.date],
    *,
    lookback: int = 3,
    sources: Sources | None = None,
    skew_seconds: float = 0.0,
) -> Seen:
    """Read what was shown on some days (UTC); the same landed tables give the same again.

    A list belongs to the day it began on. Its labels are by what was answered before that day was over: so all days are
    seen at the same age, however old they are by now. An interaction belongs to the day it happened on.

    Parameters
    ----------
    partitions
        Folders of landed tables, and the SHA-256 of the manifest of each; empty = any.
    days
        Which ones; others are not kept.
    lookback
        Days before an interaction of which the impressions have to be at hand, for it to count in ``joined_share``.
    sources
        How feature tables are reached. They are read as they are now and joined as of the moment each list was shown,
        as in training, so that what they learnt since changes nothing.

    Raises
    ------
    DatasetError
        A partition has not landed whole, or a landed table cannot be read or was altered. A feature table that cannot
        be read is no error: its features are `Seen.unreadable`.
    """
    wanted = sorted(set(days))
    counted = _count(data, partitions, mapping, wanted, lookback, skew_seconds)
    rows, unreadable = _features(data, partitions, mapping, wanted, counted, sources or Sources())
    names = mapping.model_features
    matrix = rows.select(map(feature_column, names)).to_numpy().astype(np.float32, copy=False)
    return Seen(
        names=names,
        matrix=np.ascontiguousarray(matrix).reshape(rows.height, len(names)),
        rows=_rows(rows),
        asker=rows[_ASKER].rank("dense").cast(pl.Int64).to_numpy(),
        measures=_measures(counted),
        totals=_totals(counted),
        unreadable=unreadable,
    )


class _Counted(NamedTuple):
    """Every impression (`AVAILABLE`, `POSITION`, `RELEVANCE`), list (``size``) and interaction (``joined``).

    Each has `_DAY`, an ordinal, and `_ASKER`, a hash.
    """

    impressions: pl.DataFrame
    lists: pl.DataFrame
    answers: pl.DataFrame


def _count(
    data: Storage,
    partitions: Partitions[str, str],
    mapping: Mapping,
    days: Sequence[dt.date],
    lookback: int,
    skew_seconds: float,
) -> _Counted:
    found: list[_Counted] = []
    for span in _stretches(days, lookback):
        buckets, shown = [], []
        for events in joined_events(data, partitions, mapping, span, skew_seconds):
            buckets.append(_counted(events, mapping, days, span.start + dt.timedelta(days=lookback)))
            shown.append(events.shown.group_by(_ordinal(pl.col(TIME).dt.date()).alias(_DAY)).len())
        known_from = _first_full_day(pl.concat(shown)) + lookback
        found += [one._replace(answers=one.answers.filter(pl.col(_DAY) >= known_from)) for one in buckets]
    return _Counted(*(pl.concat(tables) for tables in zip(*found, strict=True)))


def _first_full_day(shown: pl.DataFrame) -> int:
    """Return the first day with more than late impressions: what is answered earlier may belong to lists of before."""
    by_day = shown.group_by(_DAY).agg(pl.col("len").sum()).sort(_DAY)
    full = by_day.filter(pl.col("len") >= _FULL * pl.col("len").median())
    return int(full[_DAY][0]) if len(full) else 0


def _stretches(days: Sequence[dt.date], lookback: int) -> list[Span]:
    """Return the stretches of time that hold the days and what came before them, without what lies between years."""
    spans: list[Span] = []
    for day in days:
        start = dt.datetime.combine(day, dt.time(), dt.UTC) - dt.timedelta(days=lookback)
        end = start + dt.timedelta(days=lookback + 1)
        if spans and spans[-1].end >= start:
            spans[-1] = Span(start=spans[-1].start, end=end)
        else:
            spans.append(Span(start=start, end=end))
    return spans


def _counted(events: Joined, mapping: Mapping, days: Sequence[dt.date], first: dt.datetime) -> _Counted:
    kept = pl.col(_DAY).is_in(list(days)) & (pl.col(TIME) >= first)
    shown = _with_day(events.shown).filter(kept)
    items = _with_relevance(shown.unique(_CANDIDATE, keep="first", maintain_order=True), events.answers, mapping)
    lists = items.filter(AVAILABLE).group_by(*_RANKING, _DAY, _ASKER).agg(pl.len().alias("size"))
    answers = events.answers.with_columns(pl.col(TIME).dt.date().alias(_DAY), _asker(), joined=_is_joined())
    ordinal = _ordinal(pl.col(_DAY))
    return _Counted(
        items.select(ordinal, _ASKER, AVAILABLE, POSITION, RELEVANCE),
        lists.select(ordinal, _ASKER, "size"),
        answers.filter(kept).select(ordinal, _ASKER, "joined"),
    )


_FULL: Final = 0.1  # of the impressions of a median day
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()


def _ordinal(day: pl.Expr) -> pl.Expr:
    return day.to_physical() + _EPOCH


def _with_day(shown: pl.DataFrame) -> pl.DataFrame:
    """Give impressions the day and the moment that their list began, and who asked for it."""
    began = pl.col(TIME).min().over(_RANKING)
    return shown.with_columns(began.alias(TIME), began.dt.date().alias(_DAY), _asker())


def _asker() -> pl.Expr:
    """Return a hash of the user, or where it is unknown, of the list."""
    listed = pl.struct(pl.lit("").alias(USER_ID), QUERY_ID, RANKING_ID).hash()
    return pl.when(pl.col(USER_ID).is_null()).then(listed).otherwise(pl.col(USER_ID).hash()).alias(_ASKER)


def _is_joined() -> pl.Expr:
    return pl.col(SHOWN_AT).is_not_null()


def _with_relevance(items: pl.DataFrame, answers: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Give items their largest relevance by what was answered on the list's own day, and say which are available."""
    worth = pl.col(ACTION).replace_strict(dict(mapping.relevance), default=None, return_dtype=pl.Int8)
    same_day = pl.col("answered").dt.date() == pl.col(_DAY)
    best = (
        answers.filter(_is_joined())
        .select(*_CANDIDATE, pl.col(TIME).alias("answered"), worth.alias(RELEVANCE))
        .join(items.select(*_CANDIDATE, _DAY), on=_CANDIDATE)
        .filter(same_day)
        .group_by(_CANDIDATE)
        .agg(pl.col(RELEVANCE).max())
    )
    return items.join(best, on=_CANDIDATE, how="left").with_columns(
        pl.max_horizontal(RELEVANCE, LABEL, pl.lit(0, pl.Int8)).alias(RELEVANCE),
        pl.col(AVAILABLE).fill_null(value=True),
    )


def _measures(counted: _Counted) -> dict[str, Column]:
    """Return the columns beside the features; scores are not among them."""
    items, available = counted.impressions, counted.impressions.filter(AVAILABLE)
    return {
        "labels": _column(available, RELEVANCE),
        "positions": _column(available, POSITION),
        "list_length": _column(counted.lists, "size"),
        "unavailable_share": _column(items.with_columns(unavailable=~pl.col(AVAILABLE)), "unavailable"),
        "joined_share": _column(counted.answers, "joined"),
    }


def _column(table: pl.DataFrame, name: str) -> Column:
    values = table[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return Column(values, _rows(table))


def _rows(table: pl.DataFrame) -> Rows:
    day = table[_DAY].cast(pl.Int64).to_numpy()
    return Rows(day=day, cluster=table[_ASKER].rank("dense").cast(pl.Int64).to_numpy())


def _totals(counted: _Counted) -> dict[int, tuple[int, int]]:
    rows = counted.impressions.filter(AVAILABLE).group_by(_DAY).agg(rows=pl.len())
    lists = counted.lists.group_by(_DAY).agg(lists=pl.len())
    return {day: (rows, lists) for day, rows, lists in rows.join(lists, on=_DAY).sort(_DAY).iter_rows()}


def _features(
    data: Storage,
    partitions: Partitions[str, str],
    mapping: Mapping,
    days: Sequence[dt.date],
    counted: _Counted,
    sources: Sources,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return a sample of available items with all features, and which features cannot be read, and why."""
    wanted = _drawn(days, counted)
    available = pl.col(AVAILABLE).fill_null(value=True)
    rows = pl.concat(
        _with_day(found)
        .filter(available & pl.col(_DAY).is_in(list(days)))
        .unique(_CANDIDATE, keep="first", maintain_order=True)
        for found in shown_features(data, partitions, mapping, wanted)
    ).sort(TIME, *_CANDIDATE)
    rows = rows.with_columns(_ordinal(pl.col(_DAY)))
    unreadable: dict[str, str] = {}
    for table in mapping.feature_tables:
        rows, why = _with_table(rows, table, sources)
        unreadable |= dict.fromkeys(table.features, why) if why else {}
    return rows, unreadable


def _drawn(days: Sequence[dt.date], counted: _Counted) -> pl.Expr:
    """Tell which landed impressions are in the sample: of each day the lists whose hash is below a limit."""
    rows = dict(counted.impressions.group_by(_DAY).agg(pl.len()).iter_rows())
    share = {day: min(MOST_ROWS_A_DAY / max(rows.get(day.toordinal(), 1), 1), 1.0) for day in days}
    limits = {day: int(_HASHES * share[day]) for day in days}
    limit = pl.col(TIME).dt.date().replace_strict(limits, default=0, return_dtype=pl.UInt64)
    return pl.struct(_RANKING).hash(seed=_SEED) % _HASHES < limit


_SEED: Final = 15


def _with_table(rows: pl.DataFrame, table: FeatureTable, sources: Sources) -> tuple[pl.DataFrame, str]:
    """Join the features of a table; where it cannot be read they are missing, and the second says why."""
    if rows.is_empty():
        return rows.with_columns(pl.lit(None, pl.Float32).alias(feature_column(name)) for name in table.features), ""
    start, end = cast("dt.datetime", rows[TIME].min()), cast("dt.datetime", rows[TIME].max())
    try:
        with tempfile.TemporaryDirectory() as scratch:
            kept = LocalStorage(Path(scratch))
            snapshot = frozen(table, sources, kept, "table", start, end + dt.timedelta(seconds=1))
            with snapshot.local(kept) as path:
                return as_of(rows, known(path, table, rows[table.column]), table).rows, ""
    except (DatasetError, DatabaseError) as error:
        log.warning("the features of a table are not watched", table=table.name, error=str(error))
        nothing = pl.lit(float("nan"), pl.Float32)
        return rows.with_columns(nothing.alias(feature_column(name)) for name in table.features), str(error)
