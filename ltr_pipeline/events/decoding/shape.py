"""A mapping as Arrow types: the schema that the vectorised reader parses with.

A mapping's dotted paths make a tree whose leaves have the type of their column. Both readers give the same *raw*
table: one row a record, typed but unchecked, in the columns of `Shape.raw`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from ltr_pipeline.errors import MappingError
from ltr_pipeline.mapping import FEATURES, MESSAGE, PAIR, Mapping
from ltr_pipeline.schema import (
    COLUMNS,
    FEEDBACK,
    IMPRESSIONS,
    ITEM_INDEX,
    QUERY_ID,
    RANKING_ID,
    TIME,
    USER_ID,
    Column,
    feature_column,
)

__all__ = [
    "FROM_ITEM",
    "HAS_FEATURES",
    "IS_FEEDBACK",
    "LINE",
    "OF_LIST",
    "READ",
    "TYPES",
    "FieldPath",
    "Shape",
    "shape_of",
]

FieldPath = tuple[str, ...]

LINE: Final = "line"  # int32: which line of the block
IS_FEEDBACK: Final = "is_feedback"  # bool: else an impression
HAS_FEATURES: Final = "features"  # bool: the message has an object of features

_WIRE: Final[dict[str | None, pa.DataType]] = {
    "text": pa.string(),
    # Numbers are read as float64, so that 1.7 is seen and refused, not rounded.
    "whole": pa.float64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
}


def _judged(column: Column) -> tuple[bool, int]:
    """Return the place of a column when a record is judged: those of feedback first, then by type."""
    return FEEDBACK not in column.tables, list(_WIRE).index(column.wire)


_IN_ORDER: Final = sorted(COLUMNS, key=_judged)

TYPES: Final[dict[str, pa.DataType]] = {column.name: _WIRE[column.wire] for column in _IN_ORDER}
"""Type of each column in JSON, where no option of the mapping says otherwise; see `Shape.types`."""

READ: Final[dict[str, tuple[Column, ...]]] = {
    table: tuple(column for column in _IN_ORDER if table in column.tables) for table in (IMPRESSIONS, FEEDBACK)
}
"""Columns of messages that a landed table has; of two wrong ones a record is refused for the first."""

OF_LIST: Final = (QUERY_ID, RANKING_ID, USER_ID, TIME)
"""Columns that all items of a list share; an item that has another value of its own probably means something else."""

FROM_ITEM: Final = frozenset(column.name for column in COLUMNS if not column.inherited)
"""In a list message these are the item's own or absent; everything else an item takes from its message."""


@dataclass(frozen=True)
class Shape:
    """A mapping, compiled.

    Attributes
    ----------
    mapping
        What it was made of.
    paths, item_paths
        Paths of each column in a message, and in an item of its list: all but those that are said to be the message's.
    kind, items, features
        Paths of the message's kind, of its list of items, of its features.
    types
        Type of each column in JSON; a field of the mapping has the name of its column.
    wire
        Arrow schema of a message: what the mapping looks for and nothing else.
    raw
        Arrow schema of a raw table.
    """

    mapping: Mapping
    paths: dict[str, tuple[FieldPath, ...]]
    item_paths: dict[str, tuple[FieldPath, ...]]
    kind: tuple[FieldPath, ...]
    items: tuple[FieldPath, ...]
    features: tuple[FieldPath, ...]
    types: dict[str, pa.DataType]
    wire: pa.Schema
    raw: pa.Schema

    def absent(self, names: Iterable[str]) -> Iterator[tuple[str, pa.DataType]]:
        """Yield the columns of a raw table, with their types, that are not among `names`."""
        present = set(names)
        return ((field.name, field.type) for field in self.raw if field.name not in present)

    @property
    def feature_columns(self) -> list[str]:
        """Columns of the allow-listed features, in model order."""
        return [feature_column(name) for name in self.mapping.features]


def shape_of(mapping: Mapping) -> Shape:
    """Compile a mapping.

    Raises
    ------
    MappingError
        Two of its paths contradict each other: one goes through what is a value for the other.

    Examples
    --------
    >>> from ltr_pipeline.mapping import load_mapping
    >>> shape_of(load_mapping()).paths["query_id"]
    (('context', 'case_id'), ('case_id',))
    """
    paths = {column: _split(path.removeprefix(MESSAGE) for path in mapping.paths(column)) for column in TYPES}
    of_items = {column: [p for p in mapping.paths(column) if not p.startswith(MESSAGE)] for column in TYPES}
    item_paths = {column: _split(found) for column, found in of_items.items()}
    kind, items, features = _split(mapping.kind), _split(mapping.items), _split(mapping.paths(FEATURES))
    types = TYPES | ({} if mapping.time_unit == "RFC 3339" else {TIME: pa.float64()})
    values = [*_feature_leaves(mapping, features)]
    message = [*_leaves(paths, types), *values, *((path, pa.string()) for path in kind)]
    item = _struct(_tree([*_leaves(item_paths, types), *values]))
    message += [(path, pa.list_(item)) for path in items]
    raw = {LINE: pa.int32(), ITEM_INDEX: pa.int32(), IS_FEEDBACK: pa.bool_(), HAS_FEATURES: pa.bool_(), **types}
    raw |= {feature_column(name): pa.float64() for name in mapping.features}
    wire = pa.schema(_struct(_tree(message)))
    return Shape(mapping, paths, item_paths, kind, items, features, types, wire, pa.schema(raw))


def _leaves(
    paths: dict[str, tuple[FieldPath, ...]], types: dict[str, pa.DataType]
) -> list[tuple[FieldPath, pa.DataType]]:
    return [(path, kind) for column, kind in types.items() for path in paths[column]]


def _feature_leaves(mapping: Mapping, paths: tuple[FieldPath, ...]) -> Iterator[tuple[FieldPath, pa.DataType]]:
    if mapping.features_as == "pairs":
        name, value = PAIR
        pairs = pa.list_(pa.struct([(name, pa.string()), (value, pa.float64())]))
        yield from ((path, pairs) for path in paths)
    else:
        yield from (((*path, name), pa.float64()) for path in paths for name in mapping.features)


def _split(paths: Iterable[str]) -> tuple[FieldPath, ...]:
    """Split dotted paths into tuples; the empty path is the message itself."""
    return tuple(tuple(path.split(".")) if path else () for path in paths)


def _tree(leaves: Iterable[tuple[FieldPath, pa.DataType]]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, kind in leaves:
        if not path or "" in path:
            raise MappingError(
                f"{'.'.join(path)!r} is not a path in the mapping; only features may be the message itself"
            )
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise _contradiction(path)
        if node.setdefault(path[-1], kind) != kind:
            raise _contradiction(path)
    return root


def _contradiction(path: FieldPath) -> MappingError:
    dotted = ".".join(path)
    return MappingError(f"the mapping reads {dotted!r} in two ways: as two types, or as a value and an object")


def _struct(tree: dict[str, Any]) -> pa.StructType:
    return pa.struct([(name, _struct(node) if isinstance(node, dict) else node) for name, node in tree.items()])
