"""A message to people, in parts: the same for every channel until one of `formats` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from ltr_pipeline.printable import one_line, printable

__all__ = ["Kind", "Link", "Message", "Part", "Points", "Table", "aligned"]

Kind: TypeAlias = Literal["info", "success", "warning", "failure"]


class Points(NamedTuple):
    """Sentences that stand under each other."""

    items: Sequence[str]


class Table(NamedTuple):
    """Cells in rows below a head; the last column says how each row is to be taken."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Link(NamedTuple):
    """An address to look at, and what it is."""

    label: str
    address: str


Part: TypeAlias = str | Points | Table | Link
"""A paragraph, or one of the others."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A notification and its urgency.

    Attributes
    ----------
    parts
        In their order; those that are empty are left out.
    kind
        Apprise's notify type.
    """

    title: str
    parts: tuple[Part, ...]
    kind: Kind

    @property
    def body(self) -> str:
        """The parts as plain text."""
        return "\n\n".join(filter(None, map(_text, self.parts)))


def aligned(table: Table) -> str:
    """Write a table as plain text: one line a row, columns aligned where the font is monospaced."""
    rows = [[one_line(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _text(part: Part) -> str:
    match part:
        case Points(items):
            return "\n".join(f"- {one_line(item)}" for item in items)
        case Table():
            return aligned(part)
        case Link(label, address):
            return f"{label}: {one_line(address)}" if address else ""
        case _:
            return printable(str(part))
