"""Say whether a night would go well."""

from __future__ import annotations

import typer
from rich.markup import escape

from ltr_pipeline import doctor
from ltr_pipeline.cli import variables
from ltr_pipeline.cli.console import console, print_json, print_table
from ltr_pipeline.cli.settings import load_unwarned
from ltr_pipeline.jobs import database
from ltr_pipeline.serving.settings import ServingSettings

__all__ = ["examine"]

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def examine(as_json: bool) -> None:
    """Print what was found; exit with 1 if something is wrong."""
    with console.status("examining"):
        findings = list(doctor.examine(load_unwarned(), ServingSettings, variables.look, database.examine))
    if as_json:
        print_json(findings)
    else:
        rows = [(f"[{_COLOURS[f.status]}]{f.status}[/]", f.subject, escape(f.text)) for f in findings]
        print_table(("", "", "Found"), rows)
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)
