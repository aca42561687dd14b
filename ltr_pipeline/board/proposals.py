"""Recommendations in people's database: read for their page, and answered by its form, whoever serves it.

The database is a matter of who uses it: its packages are imported when somebody does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from ltr_pipeline.board.asked import Asked, Page
from ltr_pipeline.board.recommendations import ROWS, RUNS, Draft, Proposed, chosen
from ltr_pipeline.errors import ScoringError
from ltr_pipeline.settings import Settings

if TYPE_CHECKING:
    from ltr_pipeline.database.engine import Database

__all__ = ["answer", "look"]

log = structlog.get_logger(__name__)


def look(settings: Settings, asked: Asked) -> Proposed:
    """Return the newest runs, and a page of the one that is asked for.

    Raises
    ------
    ScoringError
        There is no such run.
    DatabaseError
        The database cannot be had, lacks our tables, or its packages are not installed.
    """
    file = settings.database.file
    if file and not file.exists():  # nothing was ever scored, and looking makes no file
        return Proposed()
    from ltr_pipeline.batch import answers

    with _opened(settings) as database:
        runs = answers.newest_runs(database, RUNS)
        run = answers.run_of(database, asked.run) if asked.run is not None else chosen(runs)
        if run is None:
            return Proposed()
        rows = answers.proposals(database, run, limit=ROWS, offset=(asked.page - 1) * ROWS)
    total = sum(run.counts.values())
    return Proposed(runs, run, Page(rows, asked.page, max(1, -(-total // ROWS)), total))


def answer(settings: Settings, draft: Draft, who: str) -> int:
    """Answer as a form asks, and return how many rows that were.

    Parameters
    ----------
    who
        Name that is kept with each row: of the login where there is one, else what was typed.

    Raises
    ------
    ScoringError, DatabaseError
        As `batch.answers.answer` has them, and where no row is marked though the marked ones are answered.
    """
    from ltr_pipeline.batch import answers

    if draft.only_marked and not draft.marked:
        raise ScoringError("no row is marked; mark some, or answer all that wait")
    with _opened(settings) as database:
        done = answers.answer(
            database,
            draft.run,
            "approved" if draft.answer == "approved" else "rejected",
            who=who,
            why=draft.why,
            rows=draft.marked if draft.only_marked else None,
            seen=None if draft.only_marked else draft.seen,
        )
    log.info("recommendations answered", run_id=draft.run, status=draft.answer, rows=done, who=who)
    return done


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    from ltr_pipeline.batch.tables import TABLES
    from ltr_pipeline.database.engine import Database
    from ltr_pipeline.database.tables import ready

    with Database(settings.database) as database:
        ready(database, [TABLES])
        yield database
