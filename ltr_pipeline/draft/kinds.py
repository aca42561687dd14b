"""Which field tells the kind of a message: the one that goes with what else messages hold."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ltr_pipeline.draft.tables import Path, is_nameable
from ltr_pipeline.draft.words import is_called, kind_leaning

__all__ = ["Flat", "Partition", "partitions"]

Flat = dict[Path, Any]
"""A message as its values by path."""

MOST_KINDS: Final = 40
LONGEST_KIND: Final = 80
FEW: Final = 3  # kinds that a log may have however short it is
MOST_FIELDS: Final = 12
TRIED: Final = 6
ALL: Final = 0.95  # a field that so many messages have tells the kind by itself


@dataclass(frozen=True)
class Partition:
    """Messages by their kind.

    Attributes
    ----------
    paths
        Fields that tell it, tried in order; empty where none does and messages were told apart by what they hold.
    groups
        Numbers of the messages of each kind, the largest first.
    """

    paths: tuple[Path, ...]
    groups: dict[str, list[int]]


def partitions(flats: Sequence[Flat]) -> Iterator[Partition]:
    """Yield ways to tell messages apart, the most promising first, and last that by what they hold."""
    signatures = _signatures(flats)
    fields = _kind_fields(flats)
    tried: list[tuple[Path, ...]] = [(path,) for path in fields]
    tried += [(first, second) for first in fields for second in fields if _completes(fields, first, second, len(flats))]
    made = [Partition(paths, _groups(flats, paths)) for paths in tried]
    made.sort(key=lambda partition: _rank(partition, signatures, len(flats)))
    yield from islice(made, TRIED)
    yield Partition((), _by_shape(signatures))


def _kind_fields(flats: Sequence[Flat]) -> dict[Path, list[int]]:
    """Return the fields of short texts, of which there are few, with the numbers of the messages that have them."""
    values: defaultdict[Path, Counter[Any]] = defaultdict(Counter)
    rows: defaultdict[Path, list[int]] = defaultdict(list)
    unfit = set()
    for row, flat in enumerate(flats):
        for path, value in flat.items():
            if path in unfit:
                continue
            rows[path].append(row)
            if isinstance(value, str) and len(value) <= LONGEST_KIND:
                values[path][value] += 1
            else:
                unfit.add(path)
            if len(values[path]) > MOST_KINDS:
                unfit.add(path)
    fit = [path for path, found in values.items() if path not in unfit and _tells_kinds(path, found)]
    fit.sort(key=lambda path: (not is_called(path, "kind"), -len(rows[path])))
    return {path: rows[path] for path in fit[:MOST_FIELDS]}


def _tells_kinds(path: Path, found: Counter[str]) -> bool:
    return is_nameable(path) and "" not in found and len(found) <= max(found.total() // 4, FEW)


def _completes(fields: dict[Path, list[int]], first: Path, second: Path, messages: int) -> bool:
    """Tell whether the first field, which not all messages have, goes with a second one that the others have."""
    return first != second and len(fields[first]) < ALL * messages <= len({*fields[first], *fields[second]})


def _groups(flats: Sequence[Flat], paths: tuple[Path, ...]) -> dict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, flat in enumerate(flats):
        kind = next((flat[path] for path in paths if path in flat), None)
        if kind is not None:
            groups[kind].append(row)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _rank(partition: Partition, signatures: Sequence[frozenset[Path]], messages: int) -> tuple[float, ...]:
    """Order partitions: how little a kind leaves open what its messages hold, names, how many have no kind."""
    unsure = sum(_entropy(Counter(signatures[row] for row in rows)) for rows in partition.groups.values()) / messages
    named = sum(is_called(path, "kind") for path in partition.paths) / len(partition.paths)
    leaning = len({kind_leaning(kind) for kind in partition.groups} - {0})
    lacking = 1 - sum(map(len, partition.groups.values())) / messages
    telling = round(unsure, 1) - 0.2 * named - 0.2 * leaning + 0.5 * len(partition.paths)
    return lacking > 1 - ALL, telling, lacking


def _entropy(counts: Counter[Any]) -> float:
    """Return the entropy of a distribution, times its size, in bits."""
    total = counts.total()
    return -sum(n * math.log2(n / total) for n in counts.values())


def _signatures(flats: Sequence[Flat]) -> list[frozenset[Path]]:
    """Return the names that each message has on its two upper levels, as features below come and go."""
    return [frozenset(path[:2] for path in flat) for flat in flats]


def _by_shape(signatures: Sequence[frozenset[Path]]) -> dict[str, list[int]]:
    """Group messages that hold mostly the same; each group is named by its number."""
    groups: list[tuple[frozenset[Path], list[int]]] = []
    rows: defaultdict[frozenset[Path], list[int]] = defaultdict(list)
    for row, signature in enumerate(signatures):
        rows[signature].append(row)
    for signature, members in sorted(rows.items(), key=lambda found: -len(found[1])):
        like = next((group for known, group in groups if _alike(known, signature)), None)
        if like is not None:
            like += members
        elif len(groups) < MOST_KINDS:
            groups.append((signature, [*members]))
    return {f"shape {number}": members for number, (_, members) in enumerate(groups, start=1)}


def _alike(one: frozenset[Path], other: frozenset[Path]) -> bool:
    return 5 * len(one & other) >= 4 * min(len(one), len(other)) and 2 * len(one & other) >= len(one | other)
