"""The results of a run, printed: where records went, the gate's table, simulated days."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from ltr_pipeline.cli.console import console, print_line, print_table
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.printable import counted
from ltr_pipeline.report.diagnosis import Finding
from ltr_pipeline.report.wording import GATE_COLUMNS, gate_rows
from ltr_pipeline.simulate.growing import Growth

__all__ = ["print_findings", "print_gate", "print_growth", "print_manifest"]

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "not evaluable": "yellow", "skipped": "dim"}


def print_gate(decision: Decision) -> None:
    """Print the gate table, the verdict, and why the former model is kept if it is."""
    rows = [(*row[:-1], f"[{_COLOURS[row[-1]]}]{row[-1]}[/]") for row in gate_rows(decision)]
    print_table(GATE_COLUMNS, rows)
    colour = "green" if decision.verdict == "publish" else "yellow"
    console.print(
        f"\nVerdict: [bold {colour}]{decision.verdict}[/]" if decision.due else "\nThe version in use was judged."
    )
    for reason in decision.reasons:
        print_line(f"  - {reason}")


def print_manifest(manifest: Manifest) -> None:
    """Print where the records of a landing went."""
    console.print(
        f"{manifest.read:,} records read: {manifest.impressions:,} impressions, {manifest.feedback:,} interactions, "
        f"{manifest.quarantined:,} quarantined, {manifest.ignored:,} ignored"
    )
    reasons = [("quarantined", *item) for item in sorted(manifest.quarantine_reasons.items())]
    reasons += [("ignored", *item) for item in sorted(manifest.ignored_reasons.items())]
    if reasons:
        print_table(("Outcome", "Because", "Records"), [(what, escape(why), f"{n:,}") for what, why, n in reasons])


def print_findings(findings: Sequence[Finding], *, examples: bool = True) -> None:
    """Print what stands out in the events, and what to do about it; where `examples`, also how their records begin."""
    if findings:
        console.print("\nWhat to look at first:")
    for finding in findings:
        print_line(f"  - {finding}")
        if finding.place and examples:
            begins = "".join(sign if sign.isprintable() else "·" for sign in finding.excerpt)
            print_line(f"    first at {finding.place}: {begins}", style="dim")


def print_growth(growth: Growth | None) -> None:
    """Print what was appended to a simulated log, if anything was."""
    if growth:
        days, end, impressions, path = growth
        print_line(f"Simulated {counted(days, 'day')} until {end}: {impressions:,} impressions in {path}")
