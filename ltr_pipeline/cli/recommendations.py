"""Recommendations of `ltr score`: listed, shown, approved and rejected."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.markup import escape

from ltr_pipeline.batch import answers
from ltr_pipeline.batch.proposed import Answer, Proposal, ProposedRun, read_rows
from ltr_pipeline.batch.tables import TABLES
from ltr_pipeline.cli.console import print_json, print_line, print_table
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import ready
from ltr_pipeline.printable import counted
from ltr_pipeline.registry import me
from ltr_pipeline.report.wording import NONE

__all__ = ["answer", "list_runs", "show"]

_MINUTE: Final = "%Y-%m-%d %H:%M"


def list_runs(limit: int, as_json: bool) -> None:
    """List the newest runs, with how many of their rows have which status."""
    with _database() as database:
        found = answers.newest_runs(database, limit)
    if as_json:
        print_json(found)
        return
    if not found:
        print_line("Nothing was recommended yet; `ltr score` does it, by a job of kind rank.")
        return
    head = ("Run", "Job", "Began (UTC)", "Version", "State", "Rows")
    print_table(head, [_run_row(run) for run in found])


def show(run_id: int, as_csv: bool, as_json: bool) -> None:
    """Show the recommendations of a run."""
    with _database() as database:
        found = answers.proposals(database, answers.run_of(database, run_id))
    if as_json:
        print_json(found)
    elif as_csv:
        typer.echo(_csv(found), nl=False)
    else:
        head = ("Query", "Rank", "Item", "Score", "Label", "Reasons", "Status")
        print_table(head, [_row(one) for one in found])


def answer(run_id: int, status: Answer, file: Path | None, reason: str) -> None:
    """Approve or reject what waits of a run, or the rows that a file names."""
    rows = read_rows(file) if file else None
    with _database() as database:
        done = answers.answer(database, run_id, status, who=me(), why=reason, rows=rows)
        left = answers.run_of(database, run_id).waiting
    waits = f"; {left:,} of it still wait" if left else ""
    print_line(f"{counted(done, 'recommendation')} of run {run_id} {status}{waits}")


@contextlib.contextmanager
def _database() -> Iterator[Database]:
    with Database(load_settings().database) as database:
        ready(database, [TABLES])
        yield database


def _run_row(run: ProposedRun) -> tuple[str, ...]:
    counts = ", ".join(f"{many:,} {escape(status)}" for status, many in sorted(run.counts.items()))
    began = f"{run.started_at:{_MINUTE}}"
    return str(run.run_id), escape(run.job), began, run.version, run.state, counts or "none"


def _row(one: Proposal) -> tuple[str, ...]:
    by = f", by {one.answered_by}" if one.answered_by else ""
    why = f": {one.answer_reason}" if one.answer_reason else ""
    cells = (one.query_id, str(one.rank), one.item_id, f"{one.score:.2f}", one.label or NONE, one.reasons)
    return (*map(escape, cells), escape(f"{one.status}{by}{why}"))


def _csv(found: list[Proposal]) -> str:
    text = io.StringIO()
    written = csv.DictWriter(text, Proposal.__struct_fields__, lineterminator="\n")
    written.writeheader()
    written.writerows(msgspec.to_builtins(one) for one in found)
    return text.getvalue()
