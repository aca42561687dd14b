"""How the command line prints: tables and small JSON. It imports little, as every command needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

__all__ = ["console", "print_json", "print_table"]

PIPE_WIDTH = 1000
"""Columns of a table that is not printed to a terminal."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print text cells, which may hold rich's markup, in aligned columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_json(value: object) -> None:
    """Print any record as indented JSON."""
    console.print(msgspec.json.format(msgspec.json.encode(value)).decode(), markup=False)
