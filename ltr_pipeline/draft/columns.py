"""Where each column of events is, in impressions and in feedback; and its paths in the order that reads both right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Final

from ltr_pipeline.draft import times
from ltr_pipeline.draft.roles import Roles
from ltr_pipeline.draft.tables import Column, Path, Table, dotted, is_nameable
from ltr_pipeline.draft.words import is_called
from ltr_pipeline.mapping import MAX_RELEVANCE, MESSAGE
from ltr_pipeline.schema import (
    AVAILABLE,
    ITEM_ID,
    LABEL,
    MAX_GROUP_ROWS,
    POLICY,
    POSITION,
    PROPENSITY,
    PROTECTED_GROUP,
    QUERY_ID,
    RATINGS,
    SHADOW,
    TEAM,
)

__all__ = [
    "Found",
    "event_id",
    "example",
    "groups",
    "keys_of",
    "of_count",
    "of_items",
    "put_together",
    "rating",
    "time",
    "user",
]

MOST_PATHS: Final = 5
MOST_GROUPS: Final = 20
MOSTLY: Final = 0.5
UNIQUE: Final = 0.95
NEARLY_ALL: Final = 0.99
LONGEST: Final = 40  # signs of an example

Places = Sequence[tuple[Table, Path]]
"""Records of each kind, and where they have a column."""


@dataclass(frozen=True)
class Found:
    """Where a column of events is.

    Attributes
    ----------
    paths
        As the mapping has them.
    why
        What speaks for it.
    doubts
        What is unsure about it, in sentences.
    places
        The fields it is read from.
    """

    paths: tuple[str, ...]
    why: str
    doubts: tuple[str, ...] = ()
    places: Places = field(default=(), repr=False)


def put_together(places: Places, roles: Roles) -> tuple[tuple[str, ...], bool]:
    """Order paths so that each kind of message is read at its own, and tell whether that is so.

    A path that is a message's begins with ``$.`` where items of its list have a field of that name.
    """
    paths = [*dict.fromkeys(path for _, path in places)][:MOST_PATHS]

    def misread(order: Sequence[Path]) -> int:
        first = (next((path for path in order if table.has(path)), None) for table, _ in places)
        return sum(path != own for path, (_, own) in zip(first, places, strict=True))

    best = min(permutations(paths), key=misread)
    rows = roles.shown.rows
    shared = roles.shown.items is not None and all(table is not rows for table, _ in places)
    return tuple((MESSAGE if shared and rows.has(path) else "") + dotted(path) for path in best), not misread(best)


def keys_of(roles: Roles) -> dict[str, Found]:
    """Say where the query and the item are."""
    keys, shown = roles.keys, roles.shown
    feedback = [(roles.feedback[kind], link) for kind, link in keys.links.items()]
    queries = [(shown.messages, keys.query), *((table, link.query) for table, link in feedback)]
    items = [(shown.rows, keys.item), *((table, link.item) for table, link in feedback)]
    joined = (
        f"{of_count(keys.joined, roles.answers)} interactions find an impression by it and the item"
        if roles.answers
        else "there is no feedback to try it on"
    )
    distinct = len(shown.messages.columns[keys.query].counts)
    why = f"{joined}; {distinct:,} queries, such as {example(*queries[0])}"
    if keys.others:
        why += "; as many or nearly find one by " + ", ".join(
            f"{dotted(path)} ({100 * share:.0f} %)" for path, share in keys.others.items()
        )
    which = f"{len(shown.rows.columns[keys.item].counts):,} items, such as {example(*items[0])}"
    return {QUERY_ID: _found(queries, why, roles), ITEM_ID: _found(items, which, roles)}


def time(roles: Roles) -> tuple[Found, str] | None:
    """Find the time of impressions and of feedback, in one form if there is one, and name the form; None without."""
    table = roles.shown.messages if times.find(roles.shown.messages) else roles.shown.rows
    shown = times.find(table)
    answered = [(answers, times.find(answers)) for answers in roles.feedback.values()]
    if not shown or not all(found for _, found in answered):
        return None

    def others(of: times.Time) -> list[times.Time]:
        return [min(found, key=lambda one: (one.form != of.form, one.path != of.path)) for _, found in answered]

    def strangers(of: times.Time) -> int:
        return sum(one.form != of.form for one in others(of))

    best = min(shown, key=lambda one: (one.form in times.NOT_READ, strangers(one)))
    places = [
        (table, best.path),
        *((answers, one.path) for (answers, _), one in zip(answered, others(best), strict=True)),
    ]
    doubts = []
    if best.form in times.NOT_READ:
        doubts.append(f"Times are not read as they are ({best.form}, such as {example(*places[0])}).")
    if strangers(best):
        doubts.append(f"Some feedback is not stamped as impressions are ({best.form}), and only that form is read.")
    rest = [dotted(one.path) for one in shown if one != best][:MOST_PATHS]
    why = f"{best.form}, such as {example(*places[0])}" + (f"; a time is also in {', '.join(rest)}" if rest else "")
    return _found(places, why, roles, doubts), best.form


def user(roles: Roles) -> Found | None:
    """Find who asked: by its name."""
    shown = roles.shown.messages
    called = [path for path in shown.columns if is_called(path, "user") and _is_id(path, shown, MOSTLY)]
    if not called:
        return None
    path = max(called, key=lambda path: (_in_all(path, roles), shown.filled(path), -len(path)))
    column = shown.columns[path]
    places = [(shown, path), *_answered(path, column, roles, "user")]
    why = f"{len(column.counts):,} users, such as {example(shown, path)}"
    return _found(places, why, roles)


def event_id(roles: Roles) -> Found | None:
    """Find what tells whether a message was delivered twice: an id that each has for itself."""
    shown = roles.shown.messages
    for path in shown.columns:
        named = is_called(path, "event") or path[-1].lower() in ("id", "_id", "uuid", "guid")
        tables = [table for table in (shown, *roles.feedback.values()) if table.has(path)]
        if named and shown.filled(path) >= UNIQUE and all(_is_id(path, table, UNIQUE) for table in tables):
            every = [text for table in tables for text in table.columns[path].ids.values()]
            if len(set(every)) >= UNIQUE * len(every) and len(every) > 1:
                return _found(
                    [(table, path) for table in tables],
                    f"each message has its own, such as {example(shown, path)}",
                    roles,
                )
    return None


def rating(roles: Roles) -> Found | None:
    """Find how content users were: what feedback has of that name, if it is within the limits."""
    low, high = RATINGS
    found: list[tuple[Table, Path]] = []
    odd: list[tuple[Table, Path]] = []
    for table in roles.feedback.values():
        for path, column in table.columns.items():
            if is_nameable(path) and path[-1].lower() in _RATING and column.is_all("whole", "number"):
                fits = sum(value.is_integer() and low <= value <= high for value in column.numbers.values())
                (found if fits >= NEARLY_ALL * len(column) else odd).append((table, path))
    if found:
        return _found(found, f"by its name; whole numbers from {low} to {high}", roles)
    if odd:
        doubt = f"The rating {dotted(odd[0][1])} is left out: it is not a whole number from {low} to {high}."
        return Found((), "", (doubt,))
    return None


def of_items(roles: Roles) -> Iterator[tuple[str, Found]]:
    """Yield the columns that impressions have beside their ids, by their usual names."""
    rows = roles.shown.rows
    for path, column in rows.columns.items():
        if not is_nameable(path):
            continue
        if (name := _EXACT.get(path[-1].lower())) and _fits(name, column):
            yield name, _found([(rows, path)], f"by its name; {_values(column)}", roles)
        elif is_called(path, POSITION) and column.is_all("whole") and len(column) >= UNIQUE * rows.rows:
            possible = [value for value in column.numbers.values() if 1 <= value <= MAX_GROUP_ROWS]
            if len(possible) >= NEARLY_ALL * len(column):
                yield POSITION, _found([(rows, path)], f"whole numbers from 1 to {max(possible):.0f}", roles)
            elif 0 in column.numbers.values():
                doubt = f"The position {dotted(path)} counts from 0 and is left out: log it from 1."
                yield POSITION, Found((), "", (doubt,))


def groups(roles: Roles) -> Iterator[str]:
    """Yield a question for each field of items by which fairness might be judged."""
    for path, column in roles.shown.rows.columns.items():
        if (
            is_nameable(path)
            and path[-1].lower() in _GROUPS
            and column.is_all("text")
            and len(column.counts) <= MOST_GROUPS
        ):
            yield f"Is {dotted(path)} to be judged for fairness ({_values(column)})? Then map protected_group to it."


_GROUPS: Final = ("group", "gender", "sex", "ethnicity", "race", "nationality", "age_group")
_RATING: Final = ("rating", "stars", "satisfaction")
_EXACT: Final = {
    "label": LABEL,
    "available": AVAILABLE,
    "is_available": AVAILABLE,
    "shadow": SHADOW,
    "propensity": PROPENSITY,
    "policy": POLICY,
    "team": TEAM,
    "protected_group": PROTECTED_GROUP,
}


def _fits(name: str, column: Column) -> bool:
    if name in (AVAILABLE, SHADOW):
        return column.is_all("flag")
    if name == PROPENSITY:
        return column.is_all("whole", "number") and all(0 < value <= 1 for value in column.numbers.values())
    if name == LABEL:
        return column.is_all("whole") and all(0 <= value <= MAX_RELEVANCE for value in column.numbers.values())
    return column.is_all("text") or (name == PROTECTED_GROUP and column.is_all("text", "whole"))


def example(table: Table, path: Path) -> str:
    """Return the first value of a field, as JSON has it."""
    value = next(iter(table.columns[path].cells.values()), "")
    return str(value)[:LONGEST] + ("…" if len(str(value)) > LONGEST else "")


def of_count(part: int, whole: int) -> str:
    """Say how many of how many.

    >>> of_count(1200, 1500)
    '1,200 of 1,500 (80 %)'
    """
    return f"{part:,} of {whole:,} ({100 * part / max(whole, 1):.0f} %)"


def linked(column: Column, path: Path, table: Table) -> bool:
    """Tell whether most values of a field of feedback are among those of a column."""
    if path not in table.columns:
        return False
    counts = table.columns[path].counts
    return sum(count for text, count in counts.items() if text in column.counts) >= MOSTLY * max(counts.total(), 1)


def _found(places: Places, why: str, roles: Roles, doubts: Sequence[str] = ()) -> Found:
    paths, right = put_together(places, roles)
    if not right:
        fields = " and ".join(dotted(path) for path in dict.fromkeys(path for _, path in places))
        doubts = [*doubts, f"Some messages have both {fields}, and are read at the first of {', '.join(paths)}."]
    return Found(paths, why, tuple(doubts), places)


def _answered(path: Path, column: Column, roles: Roles, role: str) -> Iterator[tuple[Table, Path]]:
    """Yield where feedback has what impressions have at a path: there, else where a field so called has its values."""
    for table in roles.feedback.values():
        if table.has(path):
            yield table, path
            continue
        others = [other for other in table.columns if is_called(other, role) and is_nameable(other)]
        if other := next((other for other in others if linked(column, other, table)), None):
            yield table, other


def _in_all(path: Path, roles: Roles) -> int:
    return sum(table.has(path) > 0 for table in roles.feedback.values())


def _is_id(path: Path, table: Table, filled: float) -> bool:
    column = table.columns.get(path)
    return column is not None and is_nameable(path) and len(column.ids) >= filled * table.rows


def _values(column: Column) -> str:
    """Say which values there are, where they are few."""
    found = dict.fromkeys(str(value) for value in column.cells.values())
    return (
        f"{len(found):,} values: {', '.join(text[:LONGEST] for text in [*found][:5])}{', …' if len(found) > 5 else ''}"
    )
