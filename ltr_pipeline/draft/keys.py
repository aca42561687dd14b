"""By which ids feedback finds what was shown: every pair of fields that could be it is tried, and counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

from ltr_pipeline.draft.tables import Column, Path, Table, is_nameable
from ltr_pipeline.draft.words import is_called, kind_leaning

__all__ = ["Keys", "Link", "Shown", "find", "is_place", "names_item"]

MOST_ITEMS: Final = 4
MOST_QUERIES: Final = 8  # fields that are tried
ALIKE: Final = 0.8  # of the best share of joined feedback; the rest is up to what fields are
LINKED: Final = 0.2  # of the values of a feedback's field that were shown
LEAST: Final = 0.05  # of a kind of feedback that finds impressions
FILLED: Final = 0.9
ANSWERED: Final = 0.5
SEVERAL: Final = 1.5  # items of a query, at least
COARSE: Final = 0.01  # of the lists; fewer values do not tell them apart
DISTINCT: Final = 0.95
REPEATED: Final = 0.8

_Linked = dict[str, list[Path]]
"""Fields of feedback, by its kind."""


@dataclass(frozen=True)
class Shown:
    """Messages that show items.

    Attributes
    ----------
    kinds
        Their kinds.
    items
        Path of the list in each; None where a message is one item.
    messages, rows
        Fields of the messages, and of the items; the same where a message is one item.
    """

    kinds: tuple[str, ...]
    items: Path | None
    messages: Table
    rows: Table


class Link(NamedTuple):
    """Where feedback of one kind names the item and the query, and how many of its messages find an impression so."""

    item: Path
    query: Path
    joined: int


@dataclass(frozen=True)
class Keys:
    """Where impressions name the item and the query, and where each kind of feedback does.

    Attributes
    ----------
    others
        Fields that feedback would have found impressions by, too, in the place of the query, with the share it would.
    """

    item: Path
    query: Path
    links: dict[str, Link]
    others: dict[Path, float]

    @property
    def joined(self) -> int:
        """How many messages of feedback find an impression."""
        return sum(link.joined for link in self.links.values())


def find(shown: Shown, answers: Mapping[str, Table]) -> Keys | None:
    """Find the keys by which most feedback finds an impression; of several, those that look most like what they are.

    Returns
    -------
    Keys | None
        None where impressions have no field for either.
    """
    by_item = _linked(shown.rows, _items(shown), answers)
    by_query = _linked(shown.messages, _queries(shown), answers)
    items, queries = _promising(by_item, MOST_ITEMS), _promising(by_query, MOST_QUERIES)
    tried = [
        Keys(item, query, dict(_links(shown, item, query, answers, by_item[item], by_query[query])), {})
        for item, query in product(items, queries)
        if shown.items is not None or _has_several(shown.rows.columns[query], shown.rows.columns[item])
    ]
    best = max((keys.joined for keys in tried), default=0)
    fine = [keys for keys in tried if keys.joined >= ALIKE * best]
    if not fine:
        return None
    chosen = max(fine, key=lambda keys: _rank(keys, shown))
    total = max(sum(answers[kind].rows for kind in chosen.links), 1)
    others = {keys.query: keys.joined / total for keys in fine if keys.item == chosen.item and keys.joined}
    others.pop(chosen.query, None)
    links = chosen.links | dict(_unjoined(chosen, answers))
    return Keys(chosen.item, chosen.query, links, others)


def is_place(column: Column, owner: Iterable[int]) -> bool:
    """Tell whether a column counts the items of its lists, from 0 or 1, in order."""
    places: defaultdict[int, int] = defaultdict(int)
    right = [0, 0]
    for row, of in enumerate(owner):
        for first in (0, 1):
            right[first] += column.cells.get(row) == places[of] + first
        places[of] += 1
    return len(places) < sum(places.values()) and max(right) >= DISTINCT * max(len(column), 1)


def _items(shown: Shown) -> list[Path]:
    """Fields that may be the item's id."""
    fields = [path for path, column in shown.rows.columns.items() if _is_id(path, column, shown.rows)]
    if shown.items is not None:
        fields = [path for path in fields if _differs(shown.rows.columns[path], shown.rows)]
    return sorted(fields, key=lambda path: not names_item(path))


def _queries(shown: Shown) -> list[Path]:
    """Fields that may be what was asked, or which list it is."""
    least = min(2, shown.messages.rows)
    fields = []
    for path, column in shown.messages.columns.items():
        repeats = shown.items is not None or len(column.counts) <= REPEATED * shown.rows.rows
        if repeats and len(column.counts) >= least and _is_id(path, column, shown.messages):
            fields.append(path)
    return sorted(fields, key=lambda path: (-_closeness(path), -len(shown.messages.columns[path].counts)))


def _is_id(path: Path, column: Column, table: Table) -> bool:
    filled = len(column.ids) >= FILLED * table.rows
    return filled and is_nameable(path) and not is_called(path, "time") and not is_called(path, "position")


def _differs(column: Column, rows: Table) -> bool:
    """Tell whether the items of a list have different values, which do not just count them."""
    pairs = {(rows.owner[row], text) for row, text in column.ids.items()}
    return len(pairs) >= DISTINCT * len(column.ids) and not is_place(column, rows.owner)


def _has_several(queries: Column, items: Column) -> bool:
    """Tell whether queries mostly have several items."""
    pairs = {(queries.ids.get(row), text) for row, text in items.ids.items()}
    return len(pairs) >= SEVERAL * len(queries.counts)


def names_item(path: Path) -> bool:
    """Tell whether a field is called as an item's id is."""
    return is_called(path, "item") or path[-1].lower() in ("id", "_id", "key")


def _closeness(path: Path) -> int:
    """Tell how much the name of a field is that of a query; least is a user's or an item's."""
    if is_called(path, "user") or is_called(path, "item"):
        return -2
    if is_called(path, "session"):
        return -1
    return 2 if is_called(path, "query") else 1 if is_called(path, "ranking") else 0


def _linked(shown: Table, fields: Iterable[Path], answers: Mapping[str, Table]) -> dict[Path, _Linked]:
    """Return, for each field, the fields of each kind of feedback whose values were mostly shown in it."""
    return {path: {kind: _holding(shown.columns[path], table) for kind, table in answers.items()} for path in fields}


def _holding(column: Column, answers: Table) -> list[Path]:
    shares = {}
    for path, answer in answers.columns.items():
        if is_nameable(path) and len(answer.ids) >= ANSWERED * answers.rows:
            known = sum(count for value, count in answer.counts.items() if value in column.counts)
            shares[path] = known / len(answer.ids)
    likely = [path for path, share in shares.items() if share >= LINKED]
    return sorted(likely, key=lambda path: -shares[path])[:MOST_ITEMS]


def _promising(linked: Mapping[Path, _Linked], most: int) -> list[Path]:
    """Return the fields to try: first those that some feedback has, too."""
    return sorted(linked, key=lambda path: not any(linked[path].values()))[:most]


def _links(
    shown: Shown, item: Path, query: Path, answers: Mapping[str, Table], by_item: _Linked, by_query: _Linked
) -> Iterator[tuple[str, Link]]:
    """Yield each kind of feedback that finds impressions by the two fields, with its own."""
    if not (any(by_item.values()) and any(by_query.values())):
        return
    items, queries = shown.rows.columns[item].ids, shown.messages.columns[query].ids
    pairs = {(queries.get(shown.rows.owner[row]), text) for row, text in items.items()}
    for kind, table in answers.items():
        tried = [
            Link(mine, asked, sum(pair in pairs for pair in _pairs(table, asked, mine)))
            for mine, asked in product(by_item[kind], by_query[kind])
            if mine != asked
        ]
        best = max(tried, key=lambda link: link.joined, default=None)
        if best and best.joined >= max(LEAST * table.rows, 1):
            yield kind, best


def _pairs(table: Table, query: Path, item: Path) -> Iterator[tuple[str, str | None]]:
    items = table.columns[item].ids
    return ((text, items.get(row)) for row, text in table.columns[query].ids.items())


def _unjoined(keys: Keys, answers: Mapping[str, Table]) -> Iterator[tuple[str, Link]]:
    """Yield kinds that are called feedback and find no impression, where they have the fields to."""
    for kind, table in answers.items():
        if kind not in keys.links and kind_leaning(kind) < 0:
            item = _same(keys.item, table, "item")
            query = _same(keys.query, table, "query")
            if item and query and item != query:
                yield kind, Link(item, query, 0)


def _same(path: Path, table: Table, role: str) -> Path | None:
    """Return the field of that path, or of its last name, or called alike."""
    fields = [field for field, column in table.columns.items() if column.ids and is_nameable(field)]
    ways = (lambda f: f == path, lambda f: f[-1] == path[-1], lambda f: is_called(f, role))
    return next((field for fits in ways for field in fields if fits(field)), None)


def _rank(keys: Keys, shown: Shown) -> tuple[float, ...]:
    """Order keys: what their names say, whether feedback calls them the same, and the finer query."""
    queries = len(shown.messages.columns[keys.query].counts)
    close = _closeness(keys.query)
    if queries < min(2, shown.messages.rows):
        close = -4
    elif queries <= COARSE * shown.messages.rows and close < 2:
        close = -3
    same = sum((link.item[-1] == keys.item[-1]) + (link.query[-1] == keys.query[-1]) for link in keys.links.values())
    repeated = -len(shown.rows.columns[keys.item].counts)
    return close, names_item(keys.item), same, queries, repeated
