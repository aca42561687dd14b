"""The vectorised reader: many lines at once, through Arrow.

It takes only what it is sure about. Lines of which one does not fit the shape are refused together, and the caller
narrows them down; so the result never depends on which reader a line went through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ltr_pipeline.events.decoding.arrow import Misfit
from ltr_pipeline.events.decoding.lines import Lines
from ltr_pipeline.events.decoding.raw import Columns, Raw, Refusal, blank_to_null, filtered, merged
from ltr_pipeline.events.decoding.shape import (
    FROM_ITEM,
    HAS_FEATURES,
    IS_FEEDBACK,
    LINE,
    OF_LIST,
    FieldPath,
    Shape,
)
from ltr_pipeline.events.reasons import EMPTY_LIST, TOO_MANY_ITEMS, UNRELATED, too_many
from ltr_pipeline.mapping import PAIR
from ltr_pipeline.schema import EVENT_ID, FEATURE_PREFIX, ITEM_INDEX, MAX_GROUP_ROWS, POSITION, feature_column

__all__ = ["read_fast"]

Parse = Callable[[bytes | memoryview], pa.StructArray]


def read_fast(lines: Lines, shape: Shape, parse: Parse) -> Raw:
    """Read lines of which none is suspicious.

    As each line begins with ``{`` and ends with ``}``, no object spans lines; when there are as many objects as lines,
    each line is one.

    Raises
    ------
    Misfit
        Some line needs the strict reader.
    """
    messages = parse(lines.joined())
    if len(messages) != len(lines):
        raise Misfit(None)
    kind, items = _first(messages, shape.kind), _first(messages, shape.items)
    shown = _is_one_of(kind, shape.mapping.impression_kinds, len(messages))
    answered = _is_one_of(kind, shape.mapping.feedback_kinds, len(messages))
    columns = _columns(messages, shape, shape.paths) | {LINE: pa.array(lines.number, pa.int32()), IS_FEEDBACK: answered}
    if items is None:
        return _singles(columns, pc.or_(shown, answered), len(messages), shape)
    listed = pc.and_(shown, pc.is_valid(items))
    single = pc.and_not(pc.or_(shown, answered), listed)
    lists = filtered(columns, listed)
    return merged(
        [
            _singles(columns, single, len(messages) - len(lists[LINE]), shape),
            _expanded(items.filter(listed), lists, shape),
        ],
        shape.raw,
    )


def _leaf(messages: pa.StructArray, path: FieldPath) -> pa.Array | None:
    """Return the values at a path, null where any part of it is; None when all are."""
    for name in path:
        index = messages.type.get_field_index(name)
        if index < 0:
            return None
        messages = pc.struct_field(messages, [index])
        if messages.null_count == len(messages):
            return None
    return messages


def _first(messages: pa.StructArray, paths: Iterable[FieldPath]) -> pa.Array | None:
    """Return the first non-null value of the paths in each message; None when there is none in any."""
    found = [leaf for path in paths if (leaf := _leaf(messages, path)) is not None]
    if len(found) > 1 and found[0].null_count:
        return pc.coalesce(*found)
    return found[0] if found else None


def _is_one_of(kind: pa.Array | None, kinds: tuple[str, ...], count: int) -> pa.Array:
    if kind is None:
        return pa.repeat(pa.scalar(value=False), count)
    return pc.is_in(kind, value_set=pa.array(kinds, pa.string()))


def _columns(messages: pa.StructArray, shape: Shape, paths: Mapping[str, Iterable[FieldPath]]) -> Columns:
    columns = {name: values for name in shape.types if (values := _first(messages, paths[name])) is not None}
    features: Columns = {}
    for path in shape.features:
        if (found := _leaf(messages, path)) is not None:
            given = _of_pairs(found, shape) if pa.types.is_list(found.type) else _of_objects(found, shape)
            features = _preferred(features, {HAS_FEATURES: pc.is_valid(found), **given})
    return columns | features


def _of_objects(found: pa.StructArray, shape: Shape) -> Columns:
    """Return the allow-listed features of objects."""
    these = {feature_column(name): _leaf(found, (name,)) for name in shape.mapping.features}
    return {name: values for name, values in these.items() if values is not None}


def _of_pairs(found: pa.ListArray, shape: Shape) -> Columns:
    """Return the allow-listed features of lists of pairs; Misfit where a list gives one of them twice."""
    names = shape.mapping.features
    name, value = (_leaf(found.flatten(), (field,)) for field in PAIR)
    if name is None or value is None:
        return {}
    column = pc.index_in(name, value_set=pa.array(names, pa.string()))
    given = pc.and_(pc.is_valid(column), pc.is_valid(value))
    row, place = pc.list_parent_indices(found).filter(given).to_numpy(), column.filter(given).to_numpy()
    values, filled = np.zeros((len(names), len(found))), np.zeros((len(names), len(found)), bool)
    values[place, row], filled[place, row] = value.filter(given).to_numpy(), True
    if np.count_nonzero(filled) != len(row):
        raise Misfit(None)
    return {
        feature_column(name): pa.array(values[place], mask=~filled[place])
        for place, name in enumerate(names)
        if filled[place].any()
    }


def _preferred(features: Columns, others: Columns) -> Columns:
    """Take the features, row by row, where there are any, else the others."""
    if not features or not others:
        return features or others
    has, none = features[HAS_FEATURES], pa.nulls(len(features[HAS_FEATURES]), pa.float64())
    names = (features.keys() | others.keys()) - {HAS_FEATURES}
    chosen = {name: pc.if_else(has, features.get(name, none), others.get(name, none)) for name in names}
    return {HAS_FEATURES: pc.or_(has, others[HAS_FEATURES]), **chosen}


def _table(columns: Columns, count: int, shape: Shape) -> pa.Table:
    defaults = {ITEM_INDEX: 0, HAS_FEATURES: False}
    arrays = [
        columns[column.name]
        if column.name in columns
        else pa.repeat(pa.scalar(defaults.get(column.name), column.type), count)
        for column in shape.raw
    ]
    return pa.table(arrays, schema=shape.raw)


def _singles(columns: Columns, which: pa.Array, count: int, shape: Shape) -> Raw:
    """Return messages that are one record each; `count` of them, of which `which` concern us."""
    ours = pc.sum(which).as_py() or 0
    return Raw(_table(filtered(columns, which), ours, shape), count, ignored=+Counter({UNRELATED: count - ours}))


def _expanded(items: pa.ListArray, messages: Columns, shape: Shape) -> Raw:
    """List messages as one record for each of their items."""
    lengths = items.value_lengths().to_numpy()
    many = lengths > MAX_GROUP_ROWS
    refused = [
        Refusal(line, 0, TOO_MANY_ITEMS, too_many(length))
        for line, length in zip(messages[LINE].filter(pa.array(many)).to_pylist(), lengths[many].tolist(), strict=True)
    ]
    usable = pa.array((lengths > 0) & ~many)
    table, shadowed = _items(items.filter(usable), filtered(messages, usable), shape)
    empty = int((lengths == 0).sum())
    return Raw(table, table.num_rows + len(refused) + empty, refused, +Counter({EMPTY_LIST: empty}), shadowed)


def _items(lists: pa.ListArray, messages: Columns, shape: Shape) -> tuple[pa.Table, Counter[str]]:
    """Return the items' columns: an item's fields win over its message's, but for those that only an item can have.

    Also count the items that have another value than their message, of each column that a list shares.
    """
    lengths = lists.value_lengths().to_numpy()
    message = np.repeat(np.arange(len(lists)), lengths)
    index = pa.array(np.arange(len(message)) - np.repeat(np.cumsum(lengths) - lengths, lengths), pa.int32())
    inherited = {name: values.take(pa.array(message)) for name, values in messages.items() if name not in FROM_ITEM}
    if EVENT_ID in inherited:
        event_ids = blank_to_null(inherited[EVENT_ID])
        inherited[EVENT_ID] = pc.binary_join_element_wise(event_ids, index.cast(pa.string()), "#")
    own = _columns(lists.flatten(), shape, shape.item_paths) if len(message) else {}
    both = [name for name in OF_LIST if name in own and name in inherited]
    shadowed: Counter[str] = Counter({name: _differing(own[name], inherited[name]) for name in both})
    own[POSITION] = _or_else(own.get(POSITION), pc.cast(pc.add(index, 1), pa.float64()))
    features = _preferred(_only_features(own), _only_features(inherited))
    columns = {name: _or_else(own.get(name), inherited.get(name)) for name in {**inherited, **own}}
    return _table(columns | features | {ITEM_INDEX: index}, len(message), shape), +shadowed


def _differing(values: pa.Array, others: pa.Array) -> int:
    return pc.sum(pc.not_equal(values, others)).as_py() or 0


def _or_else(values: pa.Array | None, others: pa.Array | None) -> pa.Array:
    if values is None or others is None:
        return others if values is None else values
    return pc.coalesce(values, others)


def _only_features(columns: Columns) -> Columns:
    return {name: values for name, values in columns.items() if name == HAS_FEATURES or name.startswith(FEATURE_PREFIX)}
