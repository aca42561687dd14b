"""Fields of messages as columns, each sparse: by the number of the record that has it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final

from ltr_pipeline.events.decoding.message import LONGEST_WHOLE, Fields

__all__ = ["Column", "Path", "Table", "dotted", "is_nameable", "leaves", "listed", "unnameable"]

Path = tuple[str, ...]

LONGEST_ID: Final = 200  # of text that may be an id or what was searched for
MOST_NAMED: Final = 8
MAX_PATHS: Final = 2_000  # of one table; a log with more has ids as keys


def dotted(path: Path) -> str:
    """Write a path as the mapping has it.

    >>> dotted(("context", "case_id")), dotted(())
    ('context.case_id', '')
    """
    return ".".join(path)


def is_nameable(path: Path) -> bool:
    """Tell whether a mapping can name the path: no part is empty or holds a dot, and it does not begin with ``$.``.

    >>> is_nameable(("a", "b")), is_nameable(("a.b",)), is_nameable(("$", "a"))
    (True, False, False)
    """
    return all(part and "." not in part for part in path) and not (len(path) > 1 and path[0] == "$")


def unnameable(paths: Iterable[Path]) -> str:
    """Say which paths a mapping cannot name; nothing where it can name all."""
    found = [json.dumps(dotted(path), ensure_ascii=False) for path in dict.fromkeys(paths) if not is_nameable(path)]
    if not found:
        return ""
    return f"a mapping cannot name these fields, as a part of their path is empty, holds a dot or is $: {listed(found)}"


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Join the first names, and say how many more there are.

    >>> listed([*"abcdefghij"])
    'a, b, c, d, e, f, g, h and 2 more'
    """
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return between.join(names[:MOST_NAMED]) + more


def leaves(fields: Fields, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the values of an object that are not null, with their paths; lists are values."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, name))
        elif value is not None:
            yield (*above, name), value


class Column:
    """The values of one field.

    Attributes
    ----------
    cells
        Value by number of the record; records without it are left out.
    """

    def __init__(self, cells: dict[int, Any]) -> None:
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def types(self) -> Counter[str]:
        """How many values are ``text``, ``whole``, ``number`` (with a fraction), ``flag`` or ``list``."""
        return Counter(map(_type_of, self.cells.values()))

    @cached_property
    def ids(self) -> dict[int, str]:
        """Values that may be ids, as their text."""
        return {row: text for row, value in self.cells.items() if (text := _id_of(value)) is not None}

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each id is there."""
        return Counter(self.ids.values())

    @cached_property
    def numbers(self) -> dict[int, float]:
        """Values that are numbers, true and false as 1 and 0."""
        return {row: _float(value) for row, value in self.cells.items() if isinstance(value, int | float)}

    def is_all(self, *types: str) -> bool:
        """Tell whether nearly all values are of these types."""
        return bool(self.cells) and sum(self.types[name] for name in types) >= 0.99 * len(self.cells)


class Table:
    """Records and their fields.

    Attributes
    ----------
    rows
        How many records.
    columns
        Their fields by path, in the order in which they were met.
    owner
        Number of the message that each record is of; a message's own number, but for items of lists.
    """

    def __init__(self, records: Iterable[Iterable[tuple[Path, Any]]], owner: Sequence[int] | None = None) -> None:
        cells: defaultdict[Path, dict[int, Any]] = defaultdict(dict)
        self.rows = 0
        for record in records:
            for path, value in record:
                if path in cells or len(cells) < MAX_PATHS:
                    cells[path][self.rows] = value
            self.rows += 1
        self.columns = {path: Column(values) for path, values in cells.items()}
        self.owner = range(self.rows) if owner is None else owner

    def filled(self, path: Path) -> float:
        """Share of the records that have a field."""
        return len(self.columns[path]) / max(self.rows, 1) if path in self.columns else 0.0

    def has(self, path: Path) -> int:
        """How many records have a value, an object or a list at a path."""
        if path in self.columns:
            return len(self.columns[path])
        below = [column.cells.keys() for other, column in self.columns.items() if other[: len(path)] == path]
        return len(set().union(*below))


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "whole"
    return {float: "number", str: "text", list: "list"}.get(type(value), "other")


def _id_of(value: object) -> str | None:
    if isinstance(value, str):
        return value if 0 < len(value) <= LONGEST_ID else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**LONGEST_WHOLE:
        return str(value)
    return None


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
