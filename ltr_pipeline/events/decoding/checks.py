"""From a raw table to impressions and feedback: what a typed record must be to land.

Both readers end here, so a record is judged the same whichever read it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.raw import Columns, Raw, Refusal, blank_to_null, filtered
from ltr_pipeline.events.decoding.shape import HAS_FEATURES, IS_FEEDBACK, LINE, READ, Shape
from ltr_pipeline.events.decoding.times import UTC, parse_times
from ltr_pipeline.events.source import Block
from ltr_pipeline.mapping import TimeUnit
from ltr_pipeline.schema import (
    ACTION,
    FEEDBACK,
    IMPRESSIONS,
    ITEM_ID,
    ITEM_INDEX,
    LABEL,
    MAX_GROUP_ROWS,
    OFFSET,
    PARTITION,
    PLACES,
    POSITION,
    PROPENSITY,
    QUERY_ID,
    RANKING_ID,
    RATING,
    RATINGS,
    SOURCE,
    TIME,
    Column,
    columns_of,
)

__all__ = ["Checked", "check", "feedback_schema", "impression_schema"]

OLDEST: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
NEWEST: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
"""Times outside are a broken clock or another unit."""

_EXPECTED: Final[dict[TimeUnit, str]] = {
    "RFC 3339": "an RFC 3339 time with its offset from UTC",
    "seconds": "seconds since 1970",
    "milliseconds": "milliseconds since 1970",
}

_LANDED: Final[dict[str, pa.DataType]] = {
    "text": pa.string(),
    "time": UTC,
    "flag": pa.bool_(),
    "int8": pa.int8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
}


def impression_schema(shape: Shape) -> pa.Schema:
    """Return the columns of the landed impressions."""
    features = [(name, pa.float32()) for name in shape.feature_columns]
    return pa.schema([*_typed(columns_of(IMPRESSIONS)), *features, *_typed(PLACES)])


def feedback_schema() -> pa.Schema:
    """Return the columns of the landed feedback."""
    return pa.schema([*_typed(columns_of(FEEDBACK)), *_typed(PLACES)])


def _typed(columns: Iterable[Column]) -> list[tuple[str, pa.DataType]]:
    return [(column.name, _LANDED[column.landed]) for column in columns]


@dataclass(frozen=True, slots=True)
class Checked:
    """Records that may land, and those that may not.

    Attributes
    ----------
    impressions, feedback
        In the columns of `impression_schema` and `feedback_schema`.
    refused
        Records to quarantine.
    old
        How many were fine but older than the window.
    """

    impressions: pa.Table
    feedback: pa.Table
    refused: list[Refusal]
    old: int


def check(raw: Raw, shape: Shape, block: Block, since: dt.datetime | None) -> Checked:
    """Judge the records of a raw table; those before `since` are left out as too old."""
    columns = {name: _whole(raw.table[name]) for name in raw.table.column_names}
    columns = {name: values for name, values in columns.items() if values.null_count < len(values) or name == LINE}
    columns |= {name: blank_to_null(values) for name, values in columns.items() if values.type == pa.string()}
    answered = columns.get(IS_FEEDBACK, pa.array([], pa.bool_()))
    shown = _Judge(filtered(columns, pc.invert(answered)), shape, since)
    interactions = _Judge(filtered(columns, answered), shape, since)
    return Checked(
        impressions=shown.landed(_impressions(shown, shape), impression_schema(shape), block),
        feedback=interactions.landed(_feedback(interactions, shape), feedback_schema(), block),
        refused=sorted(shown.refused() + interactions.refused()),
        old=shown.old() + interactions.old(),
    )


class _Judge:
    """The requirements of records; the first one that a record fails is the reason why it is refused."""

    def __init__(self, columns: Columns, shape: Shape, since: dt.datetime | None) -> None:
        nothing = {name: pa.nulls(len(columns[LINE]), kind) for name, kind in shape.absent(columns)}
        self.records = records = columns | nothing
        self.verdict = np.zeros(len(records[LINE]), np.int16)
        self.findings: list[tuple[str, str, str]] = []
        self.unit = shape.mapping.time_unit
        self.times = _times(records[TIME], self.unit)
        self._require_common()
        late = pc.less(self.times, _instant(since)) if since else None
        self.late = _numpy(pc.fill_null(late, False)) if late is not None else np.zeros(len(self.verdict), bool)

    def require(self, holds: pa.Array, reason: str, column: str, expected: str) -> None:
        """Refuse records for which `holds` is false; null holds."""
        if pc.all(holds).as_py() is False:
            self.findings.append((reason, column, expected))
            self.verdict[~_numpy(pc.fill_null(holds, True)) & (self.verdict == 0)] = len(self.findings)

    def _require_common(self) -> None:
        for column, reason in ((QUERY_ID, reasons.MISSING_QUERY), (ITEM_ID, reasons.MISSING_ITEM)):
            self.require(pc.is_valid(self.records[column]), reason, column, "text")
        given = pc.is_valid(self.records[TIME])
        self.require(given, reasons.MISSING_TIME, TIME, _EXPECTED[self.unit])
        plausible = pc.and_(pc.greater_equal(self.times, _instant(OLDEST)), pc.less(self.times, _instant(NEWEST)))
        expected = f"{_EXPECTED[self.unit]}, {OLDEST.year} to {NEWEST.year - 1}"
        self.require(pc.or_(pc.fill_null(plausible, False), pc.invert(given)), reasons.BAD_TIME, TIME, expected)

    def refused(self) -> list[Refusal]:
        """Name what was found in each record that failed, and what was expected."""
        return [self._refusal(index) for index in np.flatnonzero(self.verdict).tolist()]

    def _refusal(self, index: int) -> Refusal:
        reason, column, expected = self.findings[self.verdict[index] - 1]
        value = self.records[column][index].as_py()
        number = isinstance(value, float)
        found = "missing" if value is None or value is False else f"{value:.15g}" if number else repr(value)
        line, item = self.records[LINE][index].as_py(), self.records[ITEM_INDEX][index].as_py()
        return Refusal(line, item, reason, f"{column} is {found}; expected {expected}")

    def old(self) -> int:
        """Return how many records are fine but too old."""
        return int(np.count_nonzero((self.verdict == 0) & self.late))

    def landed(self, columns: Columns, schema: pa.Schema, block: Block) -> pa.Table:
        """Give the records that are fine and recent."""
        line = self.records[LINE].to_numpy()
        placed = {
            SOURCE: pa.repeat(block.source, len(line)),
            PARTITION: pa.repeat(pa.scalar(block.partition, pa.int32()), len(line)),
            OFFSET: pa.array(block.offsets[line]),
        }
        columns = self.records | columns | {TIME: self.times} | placed
        table = pa.table([columns[name] for name in schema.names], schema=schema)
        fine = (self.verdict == 0) & ~self.late
        return table if fine.all() else table.filter(pa.array(fine))


def _impressions(judge: _Judge, shape: Shape) -> Columns:
    records = judge.records
    judge.require(records[HAS_FEATURES], reasons.MISSING_FEATURES, HAS_FEATURES, "an object of features")
    columns = {name: pc.cast(records[name], pa.float32()) for name in shape.feature_columns}
    for name in shape.feature_columns:
        judge.require(pc.is_finite(columns[name]), reasons.NOT_FINITE, name, "a finite number")
    return (
        {name: _missing_as_nan(values) for name, values in columns.items()}
        | _converted(judge, READ[IMPRESSIONS], shape)
        | {RANKING_ID: _ranking_ids(records, judge.times)}
    )


def _converted(judge: _Judge, columns: Iterable[Column], shape: Shape) -> Columns:
    """Convert numbers to their landed types, where they fit, and give absent flags their value."""
    numbers = [column for column in columns if column.wire in ("whole", "number")]
    for column in numbers:
        possible, expected = _possible(judge.records[column.name], column, shape)
        judge.require(possible, reasons.impossible(column.name), column.name, expected)
    fine = pa.array(judge.verdict == 0)
    landed = {column.name: _landed(judge.records[column.name], column, fine) for column in numbers}
    flags = {
        column.name: pc.fill_null(judge.records[column.name], column.absent)
        for column in columns
        if column.absent is not None
    }
    return landed | flags


def _possible(values: pa.Array, column: Column, shape: Shape) -> tuple[pa.Array, str]:
    """Tell which numbers a column can hold, and say so in words."""
    if column.name == PROPENSITY:
        return pc.and_(pc.greater(values, 0.0), pc.less_equal(values, 1.0)), "a number above 0, at most 1"
    if column.wire == "number":
        return pc.is_finite(pc.cast(values, _LANDED[column.landed])), "a finite number"
    low, high = _limits(column, shape)
    return _whole_within(values, low, high), f"a whole number from {low} to {high}"


def _limits(column: Column, shape: Shape) -> tuple[int, int]:
    """Return the lowest and the highest whole number of a column: what its type holds, if nothing more is known."""
    if column.name == POSITION:
        return 1, MAX_GROUP_ROWS
    if column.name == LABEL:
        return 0, shape.mapping.max_relevance
    if column.name == RATING:
        return RATINGS
    bits = min(_LANDED[column.landed].bit_width - 1, 53)  # a float64 holds every whole number up to 2^53
    return 1 - 2**bits, 2**bits - 1


def _landed(values: pa.Array, column: Column, fine: pa.Array) -> pa.Array:
    """Cast numbers to the landed type; whole ones that were not found fine cannot be cast and are null."""
    kind = _LANDED[column.landed]
    return _cast_where(fine, values, kind) if column.wire == "whole" else pc.cast(values, kind)


def _feedback(judge: _Judge, shape: Shape) -> Columns:
    # A rating says something by itself, whatever the action beside it means.
    action, rated = judge.records[ACTION], pc.is_valid(judge.records[RATING])
    judge.require(pc.or_(pc.is_valid(action), rated), reasons.MISSING_ACTION, ACTION, "text")
    known = pc.is_in(action, value_set=pa.array(list(shape.mapping.relevance), pa.string()))
    expected = "one of " + ", ".join(shape.mapping.relevance)
    judge.require(pc.or_(known, rated), reasons.UNKNOWN_ACTION, ACTION, expected)
    return _converted(judge, READ[FEEDBACK], shape)


def _times(values: pa.Array, unit: TimeUnit) -> pa.Array:
    """Return times as ``timestamp[us, UTC]``, null where a value is none."""
    if unit == "RFC 3339":
        return parse_times(values)
    micros = pc.round(pc.multiply(values, {"seconds": 1e6, "milliseconds": 1e3}[unit]))
    within = pc.less(pc.abs(micros), 2.0**53)  # also keeps out what is not finite; whole numbers are exact up to there
    return pc.if_else(within, micros, None).cast(pa.int64()).cast(UTC)


def _ranking_ids(records: Columns, times: pa.Array) -> pa.Array:
    """Name of the shown list; where there is none, the query and the day (UTC)."""
    given = records[RANKING_ID]
    if not given.null_count:
        return given
    days = times.cast(pa.date32()).dictionary_encode()
    days = days.dictionary.cast(pa.string()).take(days.indices)
    return pc.coalesce(given, pc.binary_join_element_wise(records[QUERY_ID], days, "|"))


def _whole_within(values: pa.Array, low: int, high: int) -> pa.Array:
    within = pc.and_(pc.greater_equal(values, float(low)), pc.less_equal(values, float(high)))
    return pc.and_(within, pc.equal(values, pc.floor(values)))


def _cast_where(fine: pa.Array, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast those that were found fine; the others, which cannot be cast, are null."""
    return pc.cast(values if pc.all(fine).as_py() else pc.if_else(fine, values, None), kind)


def _missing_as_nan(values: pa.Array) -> pa.Array:
    """Return float32 with NaN for "missing"; adding 0 makes 0 of -0, so that equal values have equal bytes."""
    return pc.fill_null(pc.add(values, pa.scalar(0.0, pa.float32())), pa.scalar(float("nan"), pa.float32()))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    chunks = column.combine_chunks()
    return pa.concat_arrays(chunks.chunks) if isinstance(chunks, pa.ChunkedArray) else chunks


def _numpy(values: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), np.bool_)


def _instant(time: dt.datetime) -> pa.Scalar:
    return pa.scalar(time, UTC)
