"""Say whether a night would go well."""

from __future__ import annotations

from importlib.util import find_spec

import typer
from rich.markup import escape

from ltr_pipeline import doctor
from ltr_pipeline.cli import variables
from ltr_pipeline.cli.console import console, print_json, print_table
from ltr_pipeline.cli.settings import load_unwarned
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import Settings

__all__ = ["examine"]

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def examine(as_json: bool) -> None:
    """Print what was found; exit with 1 if something is wrong."""
    with console.status("examining"):
        findings = list(doctor.examine(load_unwarned(), ServingSettings, variables.look, _database))
    if as_json:
        print_json(findings)
    else:
        rows = [(f"[{_COLOURS[f.status]}]{f.status}[/]", f.subject, escape(f.text)) for f in findings]
        print_table(("", "", "Found"), rows)
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)


def _database(settings: Settings) -> doctor.Findings:
    """Look at the database, where what reaches one is installed."""
    if not find_spec("sqlalchemy"):
        yield "ok", "not used: scores and segments in a database need 'ltr-pipeline[database]'"
        return
    from ltr_pipeline.jobs import database

    yield from database.examine(settings)
