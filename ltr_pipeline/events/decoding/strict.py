"""The strict reader: one line after the other, naming what is wrong with each.

It defines what a line means; the vectorised reader only gets there sooner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.lines import Lines
from ltr_pipeline.events.decoding.message import Fields, Ignored, Refused, kind_of, message_of
from ltr_pipeline.events.decoding.raw import Raw, Refusal
from ltr_pipeline.events.decoding.shape import FROM_ITEM, HAS_FEATURES, IS_FEEDBACK, LINE, OF_LIST, READ, Shape
from ltr_pipeline.events.decoding.values import column_value, feature_value, features_of, first
from ltr_pipeline.schema import EVENT_ID, FEEDBACK, IMPRESSIONS, ITEM_INDEX, MAX_GROUP_ROWS, POSITION, feature_column

__all__ = ["read_strict", "unknown_features", "unknown_kinds"]

NO_KIND: Final = "(none)"
LONGEST_KIND: Final = 60


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
            message = message_of(line)
            for index, record in enumerate(_records(message, shape)):
                if isinstance(record, Refused):
                    refused.append(Refusal(number, index, record.reason, record.detail))
                else:
                    rows.append({LINE: number, ITEM_INDEX: index, **record})
                    shadowed.update(_shadowed(record, message, shape))
        except Refused as error:
            refused.append(Refusal(number, 0, error.reason, error.detail))
        except Ignored as why:
            ignored[str(why)] += 1
    columns = [pa.array([row.get(column.name) for row in rows], column.type) for column in shape.raw]
    table = pa.table(columns, schema=shape.raw)
    return Raw(table, len(rows) + len(refused) + ignored.total(), refused, ignored, shadowed)


def _shadowed(record: Fields, message: Fields, shape: Shape) -> Iterator[str]:
    """Yield the columns that a list shares and in which this record has another value than its message."""
    if first([message], shape.items) is not None and not record[IS_FEEDBACK]:
        for name in OF_LIST:
            shared = first([message], shape.paths[name])
            if shared is not None and record[name] != _typed_or_not(shared, name, shape):
                yield name


def _typed_or_not(value: object, name: str, shape: Shape) -> object:
    try:
        return column_value(value, name, shape)
    except Refused:
        return value


def unknown_features(lines: Lines, shape: Shape) -> frozenset[str]:
    """Return the names of numbers beside the allow-listed features of impressions; of a list, of its first item."""
    mapped = {path[0] for paths in (shape.kind, shape.items, *shape.paths.values()) for path in paths if path}
    unknown: set[str] = set()
    for line in lines:
        features = _features_in(line, shape)
        unknown.update(name for name, value in features.items() if type(value) in (int, float))
    return frozenset(unknown - set(shape.mapping.model_features) - (mapped if () in shape.features else set()))


def unknown_kinds(lines: Lines, shape: Shape) -> frozenset[str]:
    """Return the kinds of messages that are ignored as unrelated; ``(none)`` where a message has no kind."""
    known = {*shape.mapping.impression_kinds, *shape.mapping.feedback_kinds}
    unknown = set()
    for line in lines:
        with suppress(Refused, Ignored):
            kind = first([message_of(line)], shape.kind)
            if kind is None or (isinstance(kind, str) and kind not in known):
                unknown.add((kind or NO_KIND)[:LONGEST_KIND])
    return frozenset(unknown)


def _features_in(line: bytes, shape: Shape) -> Fields:
    with suppress(Refused, Ignored):
        message = message_of(line)
        if first([message], shape.kind) in shape.mapping.impression_kinds:
            items = first([message], shape.items)
            item = items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else message
            return features_of([item, message], shape) or {}
    return {}


def _records(message: Fields, shape: Shape) -> Iterator[Fields | Refused]:
    """Give the records of a message, each typed or refused."""
    kind = first([message], shape.kind)
    if kind in shape.mapping.feedback_kinds:
        yield _tried(None, message, FEEDBACK, shape)
        return
    if kind not in shape.mapping.impression_kinds:
        raise Ignored(reasons.UNRELATED)
    items = first([message], shape.items)
    if items is None:
        yield _tried(None, message, IMPRESSIONS, shape)
        return
    for index, item in enumerate(_checked_list(items)):
        yield _item(index, item, message, shape)


def _checked_list(items: object) -> list[object]:
    if not isinstance(items, list):
        raise Refused(reasons.WRONG_TYPE, f"the items are {kind_of(items)}, not a list")
    if not items:
        raise Ignored(reasons.EMPTY_LIST)
    if len(items) > MAX_GROUP_ROWS:
        raise Refused(reasons.TOO_MANY_ITEMS, reasons.too_many(len(items)))
    return items


def _item(index: int, item: object, message: Fields, shape: Shape) -> Fields | Refused:
    if item is None:
        item = {}
    if not isinstance(item, dict):
        return Refused(reasons.WRONG_TYPE, f"the item is {kind_of(item)}, not an object")
    record = _tried(item, message, IMPRESSIONS, shape)
    if isinstance(record, dict):
        if record[POSITION] is None:
            record[POSITION] = index + 1.0
        if record[EVENT_ID] and first([item], shape.item_paths[EVENT_ID]) is None:
            record[EVENT_ID] += f"#{index}"
    return record


def _tried(item: Fields | None, message: Fields, table: str, shape: Shape) -> Fields | Refused:
    try:
        return _record(item, message, table, shape)
    except Refused as refused:
        return refused


def _record(item: Fields | None, message: Fields, table: str, shape: Shape) -> Fields:
    """Return the columns of a record: of an item of a list, or of a message that is one record."""
    record: Fields = {IS_FEEDBACK: table == FEEDBACK, HAS_FEATURES: False}
    for name in (column.name for column in READ[table]):
        value = _value(item, message, name, shape)
        record[name] = None if value is None else column_value(value, name, shape)
    if record[IS_FEEDBACK]:
        return record
    features = features_of([message] if item is None else [item, message], shape)
    if features is not None:
        record[HAS_FEATURES] = True
        for name in shape.mapping.features:
            value = features.get(name)
            record[feature_column(name)] = None if value is None else feature_value(value, name, shape)
    return record


def _value(item: Fields | None, message: Fields, name: str, shape: Shape) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a column: the item's, else the message's, but for what only an item can have."""
    own = None if item is None else first([item], shape.item_paths[name])
    if own is not None or (item is not None and name in FROM_ITEM):
        return own
    return first([message], shape.paths[name])
