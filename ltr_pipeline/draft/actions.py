"""Find out what users did, and propose what that is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from ltr_pipeline.draft.tables import Path, Table, is_nameable
from ltr_pipeline.draft.words import is_called, worth

__all__ = ["UNKNOWN", "field_of", "found", "relevance"]

MOST: Final = 30
FILLED: Final = 0.95
LONGEST: Final = 80
UNKNOWN: Final = 1
"""Relevance of an action whose name says nothing."""


def field_of(feedback: Mapping[str, Table]) -> Path | None:
    """Return the field that says what was done; None where only the kind of the message does."""
    tables = [*feedback.values()]
    paths = dict.fromkeys(path for table in tables for path in table.columns)
    fit = [path for path in paths if is_nameable(path) and all(_says(path, table) for table in tables)]
    return max(fit, key=lambda path: _likeliness(path, tables), default=None) if tables else None


def found(feedback: Mapping[str, Table], path: Path | None) -> Counter[str]:
    """Count the actions."""
    if path is None:
        return Counter({kind: table.rows for kind, table in feedback.items()})
    return sum((Counter(table.columns[path].counts) for table in feedback.values()), Counter())


def relevance(actions: Counter[str]) -> dict[str, int]:
    """Propose what each action is worth, the least first; of those that are worth the same the commonest.

    >>> relevance(Counter({"purchase": 3, "click": 40, "frob": 9}))
    {'click': 1, 'frob': 1, 'purchase': 3}
    """
    proposed = {action: UNKNOWN if (known := worth(action)) is None else known for action in actions}
    return dict(sorted(proposed.items(), key=lambda pair: (pair[1], -actions[pair[0]])))


def _says(path: Path, table: Table) -> bool:
    """Tell whether a field of nearly all messages holds few words, of which some are known, or its name is one."""
    column = table.columns.get(path)
    if column is None or table.filled(path) < FILLED or not column.is_all("text") or len(column.counts) > MOST:
        return False
    if any(len(action) > LONGEST for action in column.counts):
        return False
    return is_called(path, "action") or any(worth(action) is not None for action in column.counts)


def _likeliness(path: Path, tables: Sequence[Table]) -> tuple[bool, bool, bool, int]:
    """Order fields: those with known actions, those that are called so, those that tell most apart."""
    values = {action for table in tables for action in table.columns[path].counts}
    known = any(worth(action) is not None for action in values)
    return known, path[-1] == "action", is_called(path, "action"), len(values)
