"""Which kinds of message show items, and which are feedback on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ltr_pipeline.draft import keys
from ltr_pipeline.draft.features import has_numbers, is_pairs
from ltr_pipeline.draft.keys import Keys, Shown
from ltr_pipeline.draft.kinds import Flat, Partition, partitions
from ltr_pipeline.draft.tables import Path, Table, is_nameable, leaves
from ltr_pipeline.draft.words import kind_leaning
from ltr_pipeline.events.decoding.message import Fields

__all__ = ["Roles", "assign"]

TRIED: Final = 3  # kinds that may be what shows items
MOSTLY: Final = 0.5
FEWEST: Final = 0.001  # of the messages; a rarer kind is not looked at


@dataclass(frozen=True)
class Roles:
    """Roles of the kinds of message.

    Attributes
    ----------
    partition
        The messages by kind.
    shown
        Those that show items.
    keys
        How feedback finds them.
    feedback
        Feedback by its kind.
    ignored
        How many messages each other kind has.
    """

    partition: Partition
    shown: Shown
    keys: Keys
    feedback: dict[str, Table]
    ignored: dict[str, int]

    @property
    def answers(self) -> int:
        """How many messages of feedback there are."""
        return sum(table.rows for table in self.feedback.values())

    @property
    def is_convincing(self) -> bool:
        """Tell whether most feedback finds an impression."""
        return bool(self.answers) and self.keys.joined >= MOSTLY * self.answers


def assign(messages: Sequence[Fields]) -> Roles | None:
    """Say what each kind of message is, by the first field whose kinds make sense.

    Returns
    -------
    Roles | None
        None where no kind of message, by whatever field, shows items that have ids and numbers.
    """
    flats: list[Flat] = [dict(leaves(message)) for message in messages]
    found: list[Roles] = []
    for partition in partitions(flats):
        if roles := _of(partition, flats):
            if roles.is_convincing:
                return roles
            found.append(roles)
    return max(found, key=lambda roles: (roles.keys.joined > 0, bool(roles.partition.paths)), default=None)


def _of(partition: Partition, flats: Sequence[Flat]) -> Roles | None:
    """Say what the kinds are where one of them shows items."""
    groups = {kind: rows for kind, rows in partition.groups.items() if len(rows) >= FEWEST * len(flats)}
    tables = {kind: Table(flats[row].items() for row in rows) for kind, rows in groups.items()}
    candidates = [shown for kind, rows in groups.items() if (shown := _shown((kind,), rows, flats))]
    candidates.sort(key=_likeliness, reverse=True)
    found: list[Roles] = []
    for shown in islice(candidates, TRIED):
        alike = tuple(other.kinds[0] for other in candidates if _alike(shown, other))
        whole = _shown(alike, [row for kind in alike for row in groups[kind]], flats) or shown
        answers = {kind: table for kind, table in tables.items() if kind not in whole.kinds}
        if by := keys.find(whole, answers):
            feedback = {kind: tables[kind] for kind in by.links}
            ignored = {
                kind: len(rows) for kind, rows in partition.groups.items() if kind not in (*whole.kinds, *feedback)
            }
            found.append(Roles(partition, whole, by, feedback, ignored))
    return max(found, key=lambda roles: roles.keys.joined > 0, default=None)


def _likeliness(shown: Shown) -> tuple[int, bool, int]:
    return kind_leaning(shown.kinds[0]), shown.items is not None, shown.rows.rows


def _alike(one: Shown, other: Shown) -> bool:
    """Tell whether two kinds show items in one way."""
    if one is other:
        return True
    if one.items != other.items or kind_leaning(other.kinds[0]) < 0:
        return False
    mine, its = set(one.rows.columns), set(other.rows.columns)
    return len(mine & its) >= 0.7 * len(mine | its)


def _shown(kinds: tuple[str, ...], rows: Sequence[int], flats: Sequence[Flat]) -> Shown | None:
    """Read messages as what shows items: as lists where they have some, else as one item each."""
    messages = [flats[row] for row in rows]
    table = Table(message.items() for message in messages)
    lists = Counter(path for message in messages for path, value in message.items() if _is_list_of_items(value))
    for path, count in lists.most_common():
        if is_nameable(path) and count >= MOSTLY * len(rows):
            items = Table(*_items(messages, path))
            if has_numbers(items):
                return Shown(kinds, path, table, items)
    return Shown(kinds, None, table, table) if has_numbers(table) else None


def _is_list_of_items(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) for item in value)
        and not is_pairs(value)
    )


def _items(messages: Iterable[Flat], path: Path) -> tuple[Iterator[Iterable[tuple[Path, Any]]], list[int]]:
    """Return the fields of each item, and the number of the message that it is of."""
    lists = [(number, message[path]) for number, message in enumerate(messages) if _is_list_of_items(message.get(path))]
    owner = [number for number, items in lists for _ in items]
    return (leaves(item) for _, items in lists for item in items), owner
