"""Where a message of the event log has its columns: the mapping, the other way round.

Each column is written at one of its paths: a column of the message at its first, a column of an item at its shortest,
skipping paths that a more important column has taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.mapping import FEATURES, MESSAGE
from ltr_pipeline.mapping import Mapping as EventMapping
from ltr_pipeline.schema import (
    ACTION,
    COLUMNS,
    EVENT_ID,
    FEEDBACK,
    IMPRESSIONS,
    ITEM_ID,
    POSITION,
    PROPENSITY,
    QUERY_ID,
    RANKING_ID,
    SHADOW,
    TEAM,
    TIME,
    Level,
    columns_of,
)

__all__ = [
    "ITEMS",
    "KIND",
    "OF_FEEDBACK",
    "OF_ITEM",
    "OF_LIST",
    "Layout",
    "Path",
    "column_paths",
    "layout_of",
    "messages",
    "one_message",
    "placed_paths",
    "shortest_first",
]

KIND, ITEMS = "kind", "items"
IMPORTANT: Final = (RANKING_ID, EVENT_ID, SHADOW, POSITION, PROPENSITY, TEAM)
"""Columns that get their path first, once those that are needed have theirs."""


def _written(table: str, *first: str, level: Level | None = None) -> tuple[str, ...]:
    """Return the columns that the service writes to a table, the more important first."""
    columns = [one.name for one in columns_of(table) if one.written and level in (None, one.written)]
    important = [name for name in IMPORTANT if name in columns]
    return tuple(dict.fromkeys([*first, *important, *columns]))


OF_LIST: Final = _written(IMPRESSIONS, KIND, QUERY_ID, TIME, ITEMS, level="list")
OF_ITEM: Final = _written(IMPRESSIONS, ITEM_ID, FEATURES, level="item")
OF_FEEDBACK: Final = _written(FEEDBACK, KIND, QUERY_ID, ITEM_ID, TIME, ACTION)
NEEDED: Final = {KIND, ITEMS, FEATURES, *(column.name for column in COLUMNS if column.needed)}
Path = tuple[str, ...]
Layout = Mapping[str, Any]


def column_paths(mapping: EventMapping, *, of_items: bool = False) -> dict[str, tuple[Path, ...]]:
    """Return the paths of every column, of the kind, the items and the features; `of_items` without the message's."""
    named = {name: mapping.paths(name) for name in (FEATURES, *(column.name for column in COLUMNS))}
    named |= {KIND: mapping.kind, ITEMS: mapping.items}
    return {
        name: tuple(_split(path) for path in paths if not (of_items and path.startswith(MESSAGE)))
        for name, paths in named.items()
    }


def _split(path: str) -> Path:
    return tuple(path.removeprefix(MESSAGE).split(".")) if path else ()


def shortest_first(name: str, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return paths inside an item, shortest first; features at the empty path are found before any other."""
    return paths if name == FEATURES and () in paths else tuple(sorted(paths, key=len))


def placed_paths(names: Iterable[str], paths: Mapping[str, tuple[Path, ...]]) -> dict[str, Path]:
    """Choose a path for each column, the more important first; no path is, or leads through, another column's."""
    placed: dict[str, Path] = {}
    for name in names:
        free = [path for path in paths[name] if not any(_collide(path, other) for other in placed.values())]
        if free:
            placed[name] = free[0]
        elif name in NEEDED:
            raise SettingsError(
                f"the service cannot write events by the mapping of LTR_MAPPING: {name} has no path of its own; "
                "give it one"
            )
    return placed


def _collide(path: Path, other: Path) -> bool:
    shorter = min(len(path), len(other))
    return bool(shorter) and path[:shorter] == other[:shorter]


def layout_of(placed: Mapping[str, Path]) -> Layout:
    """Return a tree of the columns' names at their paths."""
    layout: dict[str, Any] = {}
    for name, path in placed.items():
        node = layout
        for part in path[:-1]:
            node = node.setdefault(part, {})
        if path:
            node[path[-1]] = name
    return layout


def messages(layout: Layout, columns: Mapping[str, Sequence[Any]]) -> list[msgspec.Struct]:
    """Return a message for each row of the columns; None is left out."""
    cells = {}
    for key, branch in layout.items():
        cell = columns.get(branch) if isinstance(branch, str) else messages(branch, columns)
        if cell:
            cells[key] = cell
    return list(map(_message_kind(tuple(cells)), *cells.values())) if cells else []


def one_message(layout: Layout, columns: Mapping[str, Any]) -> msgspec.Struct:
    """Return one message."""
    return messages(layout, {name: [value] for name, value in columns.items() if value is not None})[0]


@cache
def _message_kind(keys: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a struct with these keys: it is made and written in half the time of a map."""
    names = {f"f{number}": key for number, key in enumerate(keys)}
    fields = [(name, Any, None) for name in names]
    return msgspec.defstruct("_Message", fields, rename=names, omit_defaults=True, gc=False)
