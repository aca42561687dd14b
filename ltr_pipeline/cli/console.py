"""How the command line prints: lines, tables and small JSON. It imports little, as every command needs it.

All of it goes through `printable`: what a log or a name says never reaches a terminal raw.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ltr_pipeline.printable import one_line, printable

__all__ = ["console", "print_error", "print_json", "print_line", "print_table"]

PIPE_WIDTH = 1000
"""Columns of a table that is not printed to a terminal."""


class _Printable(Console):
    """A console whose texts are made printable before it adds colours of its own."""

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - rich's own
        """Return text, of which a terminal obeys nothing but what its markup says."""
        return super().render_str(printable(text), **options)


console = _Printable(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_line(text: str, style: str | None = None) -> None:
    """Print a text that is not all ours, such as a name, as one line and as it is."""
    console.print(one_line(text), style=style, markup=False)


def print_error(text: str, colour: str | None = None) -> None:
    """Print a line to standard error."""
    typer.secho(one_line(text), fg=colour, err=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print text cells, which may hold rich's markup, in aligned columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(one_line, row))
    console.print(table)


def print_json(value: object) -> None:
    """Print any record as indented JSON."""
    console.print(msgspec.json.format(msgspec.json.encode(value)).decode(), markup=False)
