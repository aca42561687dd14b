"""The result of reading lines: a raw table, and the records that did not get into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ltr_pipeline.events.decoding.shape import LINE
from ltr_pipeline.schema import ITEM_INDEX

__all__ = ["Columns", "Raw", "Refusal", "blank_to_null", "filtered", "merged"]

Columns = dict[str, pa.Array]


class Refusal(NamedTuple):
    """A record to quarantine: its line in the block, its place in the list, and why."""

    line: int
    item_index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Raw:
    """Records of some lines.

    Attributes
    ----------
    table
        Typed but unchecked records, in the columns of `Shape.raw`.
    read
        Expanded records seen: those in the table, refused and ignored.
    refused
        Records that cannot be in the table.
    ignored
        How many records do not concern us, by reason.
    shadowed
        How many items have another value than their message in a column that a list shares, by column.
    """

    table: pa.Table
    read: int
    refused: list[Refusal] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    shadowed: Counter[str] = field(default_factory=Counter)


def merged(parts: Sequence[Raw], schema: pa.Schema) -> Raw:
    """Join all parts, records in order of line and place in the list; without parts, return nothing."""
    if len(parts) == 1:
        return parts[0]
    filled = [part.table for part in parts if part.table.num_rows]
    table = pa.concat_tables([schema.empty_table(), *filled])
    return Raw(
        table=table if len(filled) < 2 else table.sort_by([(LINE, "ascending"), (ITEM_INDEX, "ascending")]),
        read=sum(part.read for part in parts),
        refused=sorted(refusal for part in parts for refusal in part.refused),
        ignored=sum((part.ignored for part in parts), Counter()),
        shadowed=sum((part.shadowed for part in parts), Counter()),
    )


def filtered(columns: Columns, which: pa.Array) -> Columns:
    """Return those rows of all columns; the columns themselves where these are all rows."""
    if pc.all(which).as_py():
        return columns
    return {name: values.filter(which) for name, values in columns.items()}


def blank_to_null(texts: pa.Array) -> pa.Array:
    """Return texts with null for the empty one."""
    blank = pc.equal(texts, "")
    return pc.if_else(blank, None, texts) if pc.any(blank).as_py() else texts
