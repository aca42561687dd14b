"""Nights that have run: how they ended, why, and their reports."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

from rich.markup import escape

from ltr_pipeline.cli.console import console, print_json, print_table
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.errors import LtrError
from ltr_pipeline.report.nights import nights, report_of

__all__ = ["report", "runs"]

_COLOURS = {"published": "green", "kept": "yellow", "not due": "dim", "unfinished": "red"}


def runs(limit: int, as_json: bool) -> None:
    """Print the newest nights, the newest first."""
    found = nights(load_settings(), limit)
    if as_json:
        print_json(found)
        return
    if not found:
        console.print("No night has run yet; `make run` or `ltr run` runs one.")
        return
    rows = [
        (
            night.run,
            f"[{_COLOURS[night.verdict]}]{night.verdict}[/]",
            escape(night.reason),
            escape(night.report or ""),
        )
        for night in found
    ]
    print_table(("Night (UTC)", "Verdict", "Why", "Report"), rows)


def report(name: str | None, open_it: bool) -> None:
    """Print where the report of a run is, and with `open_it` show it in the browser."""
    address, page = report_of(load_settings(), name)
    console.print(address, markup=False)
    if open_it:
        local = address if address.startswith("file:") else _local_copy(page)
        if not webbrowser.open(local):
            raise LtrError(f"there is no browser here that can be opened; the report can be read at {local}")


def _local_copy(page: bytes) -> str:
    """Write a report that lies elsewhere to a file that a browser can read."""
    path = Path(tempfile.mkdtemp(prefix="ltr-report-")) / "report.html"
    path.write_bytes(page)
    return path.as_uri()
