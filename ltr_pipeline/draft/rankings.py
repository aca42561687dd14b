"""Which list an impression belongs to: a ranking's own id, the query and day, or one user's without a gap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from ltr_pipeline.draft import times
from ltr_pipeline.draft.columns import Found, example, linked, put_together
from ltr_pipeline.draft.roles import Roles
from ltr_pipeline.draft.tables import Column, Path, is_nameable
from ltr_pipeline.draft.words import is_called

__all__ = ["GAP", "find", "merged"]

GAP: Final = 30.0
"""Minutes without anything shown after which a user's list is proposed to be another."""

UNIQUE: Final = 0.98
FILLED: Final = 0.9
ROWS_A_LIST: Final = 1.5


def find(roles: Roles) -> Found | None:
    """Find the id of a ranking; None where no field is one."""
    shown = roles.shown.messages
    for path in sorted(
        _candidates(roles), key=lambda path: (not _is_linked(path, roles), not is_called(path, "ranking"))
    ):
        places = [(shown, path), *((table, path) for table in roles.feedback.values() if table.has(path))]
        if all(table is shown or linked(shown.columns[path], path, table) for table, path in places):
            paths, _ = put_together(places, roles)
            why = f"{len(shown.columns[path].counts):,} lists, such as {example(shown, path)}"
            if len(places) == 1 and roles.feedback:
                why += "; feedback names none, and joins by query and item"
            return Found(paths, why, (), places)
    return None


def merged(roles: Roles, time: Path, form: str, user: Path | None) -> tuple[int, int]:
    """Count the pairs of query and day, and those that seem to be several lists.

    These show one item at two times, have several users or, where messages are lists, several lists.
    """
    shown, keys = roles.shown, roles.keys
    days: defaultdict[tuple[str, object], list[int]] = defaultdict(list)
    stamps = shown.messages.columns.get(time, Column({})).cells
    for row, query in shown.messages.columns[keys.query].ids.items():
        days[query, times.day_of(stamps.get(row), form)].append(row)
    users = shown.messages.columns[user].ids if user else {}
    items = shown.rows.columns[keys.item].ids if shown.items is None else {}
    several = 0
    for rows in days.values():
        times_shown = {(items.get(row), str(stamps.get(row))) for row in rows}  # once, however often delivered
        repeated = len(times_shown) > len({item for item, _ in times_shown})
        several += repeated or len({users[row] for row in rows if row in users}) > 1
    return several, len(days)


def _candidates(roles: Roles) -> Iterator[Path]:
    shown, keys = roles.shown.messages, roles.keys
    queries = shown.columns[keys.query]
    for path, column in shown.columns.items():
        fit = is_nameable(path) and path not in (keys.query, keys.item) and len(column.ids) >= FILLED * shown.rows
        if not fit or is_called(path, "time") or is_called(path, "user"):
            continue
        if roles.shown.items is not None:
            if len(column.counts) >= UNIQUE * len(column.ids) and not column.types["number"]:
                yield path
        elif _is_finer(column, queries) and _is_list(column, roles):
            yield path


def _is_finer(column: Column, queries: Column) -> bool:
    """Tell whether each value goes with one query, and there are not fewer values than queries."""
    pairs = {(text, queries.ids.get(row)) for row, text in column.ids.items()}
    return len(pairs) * UNIQUE <= len(column.counts) and len(column.counts) >= len(queries.counts)


def _is_list(column: Column, roles: Roles) -> bool:
    """Tell whether the messages of one value show different items, and mostly more than one."""
    items = roles.shown.rows.columns[roles.keys.item].ids
    pairs = {(text, items.get(row)) for row, text in column.ids.items()}
    lists = len(column.counts)
    return len(pairs) >= UNIQUE * len(column.ids) and len(column.ids) >= ROWS_A_LIST * lists


def _is_linked(path: Path, roles: Roles) -> bool:
    column = roles.shown.messages.columns[path]
    return any(linked(column, path, table) for table in roles.feedback.values())
