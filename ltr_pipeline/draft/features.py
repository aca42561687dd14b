"""Which numbers were known before a list was shown: not ids, places and times, and not what became of an item."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.stats import rankdata

from ltr_pipeline.draft import times
from ltr_pipeline.draft.keys import is_place
from ltr_pipeline.draft.tables import Column, Path, Table, dotted, is_nameable
from ltr_pipeline.draft.words import is_called, words_of
from ltr_pipeline.mapping import PAIR

__all__ = ["Features", "find", "has_numbers", "is_pairs"]

MOST: Final = 1_000
NAME: Final = re.compile(r"[\w.-]{1,200}")
RARE: Final = 0.01  # of the values of a feature that are no numbers
TELLS_ALL: Final = 0.97
"""A number that puts items with feedback above those without so often is not known before there is feedback."""
FEWEST: Final = 20  # items with feedback, for saying so
_IDS: Final = frozenset({"id", "ids", "uuid", "guid", "key", "zip", "phone", "hash", "sku", "ean", "isbn"})


@dataclass(slots=True)
class Features:
    """The numbers of items.

    Attributes
    ----------
    path
        Where the object that holds them is; empty where they stand beside the other fields.
    names
        Those to learn from.
    pairs
        Whether they are a list of names and values.
    flags
        Those that are true or false.
    left_out
        Other numbers, with the reason.
    """

    path: Path
    names: list[str] = field(default_factory=list)
    pairs: bool = False
    flags: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def find(rows: Table, taken: Collection[Path], answered: Mapping[int, bool]) -> Features | None:
    """Find the object that holds most features.

    Parameters
    ----------
    rows
        The items shown.
    taken
        Fields that have another meaning.
    answered
        Whether there is feedback on an item, by its number; of lists with some feedback only.
    """
    found = [_judged(rows, path, columns, taken, answered) for path, columns in _objects(rows).items()]
    found += [_judged(rows, path, _named(column), taken, answered, pairs=True) for path, column in _paired(rows)]
    found = [features for features in found if features.names]
    if not found:
        return None
    chosen = max(found, key=lambda features: (len(features.names) + 3 * _is_called_so(features.path), features.pairs))
    for other in found:
        if other is not chosen:
            where = f"beside {dotted(chosen.path)}" if chosen.path else "elsewhere"
            chosen.left_out |= {dotted((*other.path, name)): f"stands {where}" for name in other.names}
    return chosen


def has_numbers(rows: Table) -> bool:
    """Tell whether there may be features at all."""
    return find(rows, (), {}) is not None


def is_pairs(value: object) -> bool:
    """Tell whether a value is a list of objects with a name and a value."""
    name, number = PAIR
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(p, dict) and {name, number} <= p.keys() for p in value)
    )


def _is_called_so(path: Path) -> bool:
    return bool(path) and is_called(path, "features")


def _objects(rows: Table) -> dict[Path, dict[str, Column]]:
    """Return the fields of each object, by its path."""
    objects: dict[Path, dict[str, Column]] = {}
    for path, column in rows.columns.items():
        if is_nameable(path[:-1]):
            objects.setdefault(path[:-1], {})[path[-1]] = column
    return objects


def _paired(rows: Table) -> Iterator[tuple[Path, Column]]:
    """Yield the fields that are lists of names and values."""
    for path, column in rows.columns.items():
        if is_nameable(path) and any(map(is_pairs, column.cells.values())):
            yield path, Column({row: value for row, value in column.cells.items() if is_pairs(value)})


def _named(column: Column) -> dict[str, Column]:
    """Return the values of pairs by their names."""
    name, number = PAIR
    cells: dict[str, dict[int, object]] = {}
    for row, pairs in column.cells.items():
        for pair in pairs:
            if isinstance(pair[name], str) and pair[number] is not None:
                cells.setdefault(pair[name], {})[row] = pair[number]
    return {called: Column(values) for called, values in cells.items()}


def _judged(
    rows: Table,
    path: Path,
    columns: Mapping[str, Column],
    taken: Collection[Path],
    answered: Mapping[int, bool],
    *,
    pairs: bool = False,
) -> Features:
    features = Features(path, pairs=pairs)
    for name, column in columns.items():
        if (not pairs and (*path, name) in taken) or not (column.numbers or _numbers_as_text(column)):
            continue
        if reason := _objection(name, column, rows, answered):
            features.left_out[dotted((*path, name))] = reason
        elif len(features.names) < MOST:
            features.names.append(name)
            if column.types["flag"]:
                features.flags.append(name)
    return features


def _objection(name: str, column: Column, rows: Table, answered: Mapping[int, bool]) -> str | None:
    """Say why a number is no feature; None where nothing speaks against it."""
    others = len(column) - len(column.numbers)
    if others > RARE * len(column):
        return "is text in some records" if column.numbers else "is a number written as text"
    if not NAME.fullmatch(name):
        return "has a name that no model can have: use letters, digits, '_', '.' and '-'"
    words = words_of(name)
    if words and words[-1] in _IDS:
        return "is called an id"
    if times.form_of((name,), column):
        return "is a time"
    if is_called((name,), "position") or (rows.rows > 1 and is_place(column, rows.owner)):
        return "is the place in the list"
    return _outcome(name, column, answered) or ("has always one value" if _is_constant(column) else None)


def _outcome(name: str, column: Column, answered: Mapping[int, bool]) -> str | None:
    """Say that a number is what became of the item, by its name or because it goes with feedback."""
    if is_called((name,), "leak"):
        return "is called an outcome, which nobody knows before the list is shown"
    share = _tells(column, answered)
    if share is None or share < TELLS_ALL:
        return None
    return f"tells {100 * share:.0f} % of the time which item gets feedback: it seems to be an outcome"


def _tells(column: Column, answered: Mapping[int, bool]) -> float | None:
    """Return how often an item with feedback has a higher value than one without (or always a lower): 0.5 to 1."""
    rows = [row for row in answered if row in column.numbers]
    good = np.array([answered[row] for row in rows], bool)
    positive, negative = int(good.sum()), int((~good).sum())
    if positive < FEWEST or not negative:
        return None
    ranks = rankdata([column.numbers[row] for row in rows])
    share = float((ranks[good].sum() - positive * (positive + 1) / 2) / (positive * negative))
    return max(share, 1 - share)


def _is_constant(column: Column) -> bool:
    return len(column) > 1 and len(set(column.numbers.values())) == 1


def _numbers_as_text(column: Column) -> bool:
    """Tell whether a text field holds numbers."""
    texts = [value for value in column.cells.values() if isinstance(value, str)][:FEWEST]
    return bool(texts) and all(re.fullmatch(r"-?\d+\.\d+", text[:40]) for text in texts)
