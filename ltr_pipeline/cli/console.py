"""How the command line prints: tables and small JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.gate.checks import Decision
from ltr_pipeline.report.wording import gate_rows
from ltr_pipeline.simulate.growing import Growth

__all__ = ["console", "print_gate", "print_growth", "print_json", "print_manifest", "print_table"]

PIPE_WIDTH = 200
"""Columns of a table that is not printed to a terminal."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "not evaluable": "yellow", "skipped": "dim"}


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print text cells, which may hold rich's markup, in aligned columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_gate(decision: Decision) -> None:
    """Print the gate table, the verdict, and why the former model is kept if it is."""
    rows = [(*row[:-1], f"[{_COLOURS[row[-1]]}]{row[-1]}[/]") for row in gate_rows(decision)]
    print_table(("Check", "Observed", "95 % CI", "Threshold", "Verdict"), rows)
    colour = "green" if decision.verdict == "publish" else "yellow"
    console.print(f"\nVerdict: [bold {colour}]{decision.verdict}[/]")
    for reason in decision.reasons:
        console.print(f"  - {reason}", markup=False)


def print_manifest(manifest: Manifest) -> None:
    """Print where the records of a landing went."""
    console.print(
        f"{manifest.read:,} records read: {manifest.impressions:,} impressions, {manifest.feedback:,} interactions, "
        f"{manifest.quarantined:,} quarantined, {manifest.ignored:,} ignored"
    )
    if manifest.unknown_features:
        console.print(f"features that the mapping does not list: {', '.join(manifest.unknown_features)}", markup=False)
    if not manifest.impressions:
        seen = f" Kinds of message seen: {', '.join(manifest.unknown_kinds)}." if manifest.unknown_kinds else ""
        console.print(f"No record is an impression: does LTR_MAPPING fit this log?{seen}", markup=False)
    reasons = [("quarantined", *item) for item in sorted(manifest.quarantine_reasons.items())]
    reasons += [("ignored", *item) for item in sorted(manifest.ignored_reasons.items())]
    if reasons:
        print_table(("Fate", "Because", "Records"), [(fate, escape(why), f"{n:,}") for fate, why, n in reasons])


def print_growth(growth: Growth | None) -> None:
    """Print what was appended to a simulated log, if anything was."""
    if growth:
        days, end, impressions, path = growth
        console.print(f"Simulated {days} days until {end}: {impressions:,} impressions in {path}")


def print_json(value: object) -> None:
    """Print any record as indented JSON."""
    console.print(msgspec.json.format(msgspec.json.encode(value)).decode(), markup=False)
