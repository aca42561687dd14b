"""Score rows of people's database, and make a table to try that with."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ltr_pipeline.batch.runs import Batch, Begun, Outcome
from ltr_pipeline.cli.console import console, print_error, print_json, print_line
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.database.engine import Database
from ltr_pipeline.jobs import batch
from ltr_pipeline.printable import counted
from ltr_pipeline.simulate.users import USERS, make_users
from ltr_pipeline.simulate.world import World

__all__ = ["score", "simulate_users"]


def score(job: str | None, whole: bool, dry_run: bool, again: str | None, as_json: bool) -> None:
    """Score what is due and say how it goes on; exit with 1 where more rows cannot be scored than a job allows."""
    settings = load_settings()
    with _Shown(as_json=as_json) as shown:
        outcomes = batch.score_rows(
            settings, job, whole=whole, again=again, dry_run=dry_run, tell=shown.tell, done=shown.done
        )
    if as_json:
        print_json(outcomes[0] if job else outcomes)
    if not all(outcome.ok for outcome in outcomes):
        raise typer.Exit(1)


class _Shown:
    """A bar on a terminal, else a line for each batch; beside JSON these go to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._bar = console.is_terminal and not as_json
        self._say = print_error if as_json else print_line
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows, {task.fields[speed]} rows/s", markup=False),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not self._bar)
        self._task = self._progress.add_task("", total=None, visible=False, speed="0")
        self._quiet = as_json

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def tell(self, what: Begun | Batch) -> None:
        """Show that a job begins, or that a batch is done."""
        if not self._bar:
            self._say(str(what))
        elif isinstance(what, Begun):
            self._progress.reset(self._task, total=what.rows, description=what.job, visible=True)
        else:
            speed = f"{what.rows_per_second:,.0f}"
            self._progress.update(self._task, advance=what.rows + what.rejected, speed=speed)

    def done(self, outcome: Outcome) -> None:
        """Say what became of a job."""
        if self._quiet:
            return
        if outcome.run_id is None:
            print_line(f"{outcome.job}: {outcome.reason}; nothing was written")
            return
        what = "rows" if outcome.kind == "score" else "recommendations"
        reason = f"; {outcome.reason}" if outcome.reason else ""
        print_line(
            f"{outcome.job}: {outcome.rows:,} {what} by {outcome.version} in {outcome.batches:,} batches, "
            f"{outcome.seconds:.1f} s, {outcome.rejected:,} rejected ({outcome.scale}){reason}"
        )
        if outcome.waiting:
            print_line(
                f"{outcome.job}: {counted(outcome.waiting, 'recommendation')} of run {outcome.run_id} wait for an "
                f"answer: `ltr recommendations show {outcome.run_id}`, then approve or reject"
            )


def simulate_users(count: int) -> None:
    """Make a table of users that have no score."""
    settings = load_settings()
    with Database(settings.database) as database:
        make_users(database, World(legacy_weights=settings.mapping.legacy_weights), count)
    print_line(f"{settings.database}: table {USERS.name} with {count:,} rows; `ltr score` fills its column lead_score")
