"""The strict reader: one line after the other, naming what is wrong with each.

It defines what a line means; the vectorised reader only gets there sooner.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
import pyarrow as pa

from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.lines import MAX_DEPTH, NOT_NUMBERS, Lines, is_deep, is_utf8
from ltr_pipeline.events.decoding.raw import Raw, Refusal
from ltr_pipeline.events.decoding.shape import (
    FROM_ITEM,
    HAS_FEATURES,
    IS_FEEDBACK,
    LINE,
    OF_LIST,
    READ,
    TYPES,
    FieldPath,
    Shape,
)
from ltr_pipeline.events.source import MAX_LINE_BYTES
from ltr_pipeline.schema import EVENT_ID, FEEDBACK, IMPRESSIONS, ITEM_INDEX, MAX_GROUP_ROWS, POSITION, feature_column

__all__ = ["read_strict", "unknown_features", "unknown_kinds"]

NO_KIND: Final = "(none)"
LONGEST_KIND: Final = 60

Fields = dict[str, Any]

_decode = msgspec.json.Decoder().decode


class _Refusal(Exception):  # noqa: N818 - a finding, not an error
    """A record is not what it should be."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class _Ignored(Exception):  # noqa: N818
    """A message does not concern us; its argument says why."""


def read_strict(lines: Lines, shape: Shape) -> Raw:
    """Read lines, whatever they are."""
    rows: list[Fields] = []
    refused: list[Refusal] = []
    ignored: Counter[str] = Counter()
    shadowed: Counter[str] = Counter()
    for number, line in zip(lines.number.tolist(), lines, strict=True):
        if line.isspace():
            continue
        try:
            message = _message(line)
            for index, record in enumerate(_records(message, shape)):
                if isinstance(record, _Refusal):
                    refused.append(Refusal(number, index, record.reason, record.detail))
                else:
                    rows.append({LINE: number, ITEM_INDEX: index, **record})
                    shadowed.update(_shadowed(record, message, shape))
        except _Refusal as error:
            refused.append(Refusal(number, 0, error.reason, error.detail))
        except _Ignored as why:
            ignored[str(why)] += 1
    columns = [pa.array([row.get(column.name) for row in rows], column.type) for column in shape.raw]
    table = pa.table(columns, schema=shape.raw)
    return Raw(table, len(rows) + len(refused) + ignored.total(), refused, ignored, shadowed)


def _shadowed(record: Fields, message: Fields, shape: Shape) -> Iterator[str]:
    """Yield the columns that a list shares and in which this record has another value than its message."""
    if _first([message], shape.items) is not None and not record[IS_FEEDBACK]:
        for name in OF_LIST:
            shared = _first([message], shape.paths[name])
            if shared is not None and record[name] != shared:
                yield name


def unknown_features(lines: Lines, shape: Shape) -> frozenset[str]:
    """Return the names of numbers beside the allow-listed features of impressions; of a list, of its first item."""
    mapped = {path[0] for paths in (shape.kind, shape.items, *shape.paths.values()) for path in paths if path}
    unknown: set[str] = set()
    for line in lines:
        features = _features_in(line, shape)
        unknown.update(name for name, value in features.items() if type(value) in (int, float))
    return frozenset(unknown - set(shape.mapping.features) - (mapped if () in shape.features else set()))


def unknown_kinds(lines: Lines, shape: Shape) -> frozenset[str]:
    """Return the kinds of messages that are ignored as unrelated; ``(none)`` where a message has no kind."""
    known = {*shape.mapping.impression_kinds, *shape.mapping.feedback_kinds}
    unknown = set()
    for line in lines:
        with suppress(_Refusal):
            kind = _first([_message(line)], shape.kind)
            if kind is None or (isinstance(kind, str) and kind not in known):
                unknown.add((kind or NO_KIND)[:LONGEST_KIND])
    return frozenset(unknown)


def _features_in(line: bytes, shape: Shape) -> Fields:
    try:
        message = _message(line)
    except _Refusal:
        return {}
    if _first([message], shape.kind) not in shape.mapping.impression_kinds:
        return {}
    items = _first([message], shape.items)
    item = items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else message
    features = _first([item, message], shape.features)
    return features if isinstance(features, dict) else {}


def _message(line: bytes) -> Fields:
    if len(line) > MAX_LINE_BYTES:
        raise _Refusal(reasons.LONG_LINE, reasons.too_long())
    if not is_utf8(line):
        raise _Refusal(reasons.NOT_UTF8, "some bytes are not UTF-8: the line is binary, or cut inside a character")
    if is_deep(line):
        raise _Refusal(reasons.DEEP, f"objects and lists are nested more than {MAX_DEPTH} deep")
    message = _parsed(line)
    if not isinstance(message, dict):
        raise _Refusal(reasons.NOT_OBJECT, f"the line is {_kind_of(message)}, not an object")
    return message


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a line. ``NaN`` and numbers beyond a double are read, and refused where they matter."""
    try:
        return _decode(line)
    except msgspec.DecodeError as error:
        if not isinstance(error, msgspec.ValidationError) and not NOT_NUMBERS.search(line):
            raise _Refusal(reasons.NOT_JSON, str(error)) from None
    try:
        message = json.loads(line.decode(), parse_int=float)
        json.dumps(message, ensure_ascii=False).encode()  # half a surrogate pair cannot be encoded
    except ValueError as error:
        raise _Refusal(reasons.NOT_JSON, str(error)) from None
    return message


def _records(message: Fields, shape: Shape) -> Iterator[Fields | _Refusal]:
    """Give the records of a message, each typed or refused."""
    kind = _first([message], shape.kind)
    if kind in shape.mapping.feedback_kinds:
        yield _tried(None, message, FEEDBACK, shape)
        return
    if kind not in shape.mapping.impression_kinds:
        raise _Ignored(reasons.UNRELATED)
    items = _first([message], shape.items)
    if items is None:
        yield _tried(None, message, IMPRESSIONS, shape)
        return
    for index, item in enumerate(_checked_list(items)):
        yield _item(index, item, message, shape)


def _checked_list(items: object) -> list[object]:
    if not isinstance(items, list):
        raise _Refusal(reasons.WRONG_TYPE, f"the items are {_kind_of(items)}, not a list")
    if not items:
        raise _Ignored(reasons.EMPTY_LIST)
    if len(items) > MAX_GROUP_ROWS:
        raise _Refusal(reasons.TOO_MANY_ITEMS, reasons.too_many(len(items)))
    return items


def _item(index: int, item: object, message: Fields, shape: Shape) -> Fields | _Refusal:
    if item is None:
        item = {}
    if not isinstance(item, dict):
        return _Refusal(reasons.WRONG_TYPE, f"the item is {_kind_of(item)}, not an object")
    record = _tried(item, message, IMPRESSIONS, shape)
    if isinstance(record, dict):
        if record[POSITION] is None:
            record[POSITION] = index + 1.0
        if record[EVENT_ID] and _first([item], shape.item_paths[EVENT_ID]) is None:
            record[EVENT_ID] += f"#{index}"
    return record


def _tried(item: Fields | None, message: Fields, table: str, shape: Shape) -> Fields | _Refusal:
    try:
        return _record(item, message, table, shape)
    except _Refusal as refused:
        return refused


def _record(item: Fields | None, message: Fields, table: str, shape: Shape) -> Fields:
    """Return the columns of a record: of an item of a list, or of a message that is one record."""
    record: Fields = {IS_FEEDBACK: table == FEEDBACK, HAS_FEATURES: False}
    for name in (column.name for column in READ[table]):
        value = _value(item, message, name, shape)
        record[name] = None if value is None else _typed(value, TYPES[name], name)
    if record[IS_FEEDBACK]:
        return record
    features = _first([message] if item is None else [item, message], shape.features)
    if features is not None:
        if not isinstance(features, dict):
            raise _Refusal(reasons.WRONG_TYPE, f"the features are {_kind_of(features)}, not an object")
        record[HAS_FEATURES] = True
        for name in shape.mapping.features:
            value = features.get(name)
            record[feature_column(name)] = None if value is None else _typed(value, pa.float64(), f"feature {name}")
    return record


def _value(item: Fields | None, message: Fields, name: str, shape: Shape) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a column: the item's, else the message's, but for what only an item can have."""
    own = None if item is None else _first([item], shape.item_paths[name])
    if own is not None or (item is not None and name in FROM_ITEM):
        return own
    return _first([message], shape.paths[name])


def _first(levels: Iterable[Fields], paths: tuple[FieldPath, ...]) -> Any:  # noqa: ANN401 - any JSON value
    """Return the first value that is not null: all paths in the item, then all in its message."""
    for level in levels:
        for path in paths:
            value: Any = level
            for part in path:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                return value
    return None


def _typed(value: object, kind: pa.DataType, name: str) -> object:
    if pa.types.is_floating(kind):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _as_float(value)
    elif isinstance(value, str if pa.types.is_string(kind) else bool):
        return value
    wanted = {pa.float64(): "a number", pa.string(): "text", pa.bool_(): "true or false"}[kind]
    raise _Refusal(reasons.WRONG_TYPE, f"{name} is {_kind_of(value)}, not {wanted}")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond a double
        return float("inf")


def _kind_of(value: object) -> str:
    names = {type(None): "null", bool: "true or false", str: "text", dict: "an object", list: "a list"}
    return names.get(type(value), "a number")
