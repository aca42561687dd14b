"""The page of recommendations: what waits for people's answer, what became of the rest, and the form that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ltr_pipeline.batch.proposed import PROPOSED, Proposal, ProposedRun, Row
from ltr_pipeline.board.asked import Page
from ltr_pipeline.board.words import count
from ltr_pipeline.errors import RequestError

__all__ = [
    "LOOKS",
    "ROWS",
    "RUNS",
    "Draft",
    "Proposed",
    "Recommendations",
    "chosen",
    "draft",
    "mark",
    "recommendations",
]

ROWS: Final = 50
RUNS: Final = 30

LOOKS: Final = {"approved": "pass", "rejected": "fail", "superseded": "skipped", PROPOSED: "inconclusive"}
"""How a status looks."""


@dataclass(frozen=True)
class Proposed:
    """The recommendations that a database has.

    Attributes
    ----------
    runs
        The newest, newest first.
    run
        The one that is told of; None where there is none.
    rows
        A page of its recommendations.
    """

    runs: Sequence[ProposedRun] = ()
    run: ProposedRun | None = None
    rows: Page[Proposal] = field(default_factory=lambda: Page((), 1, 1, 0))


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as a form sends it, not looked at yet; it is shown again where it is refused.

    Attributes
    ----------
    run, seen
        Run that is answered, and how many rows of it waited on the page.
    marked
        Rows that were marked.
    only_marked
        Whether they alone are answered.
    answer
        ``approved`` or ``rejected``.
    """

    run: int = 0
    seen: int = 0
    who: str = ""
    why: str = ""
    marked: Sequence[Row] = ()
    only_marked: bool = False
    answer: str = ""


@dataclass(frozen=True)
class Recommendations:
    """All that the page of recommendations shows; `known` tells whether a database was looked at."""

    lead: str
    known: bool
    proposed: Proposed
    draft: Draft
    problem: str


def recommendations(proposed: Proposed | None, draft: Draft | None = None, problem: str = "") -> Recommendations:
    """Tell of the recommendations, and where an answer was refused, why."""
    known = proposed or Proposed()
    return Recommendations(_lead(known), proposed is not None, known, draft or Draft(), problem)


def chosen(runs: Sequence[ProposedRun]) -> ProposedRun | None:
    """Return the run that is told of where none is asked for: the newest that waits, else the newest."""
    return next((run for run in runs if run.complete and run.waiting), runs[0] if runs else None)


def mark(one: Proposal) -> str:
    """Return what a form sends for a marked row."""
    return msgspec.json.encode([one.query_id, one.item_id]).decode()


def draft(words: Mapping[str, Sequence[str]]) -> Draft:
    """Read a form; RequestError where no page of ours has made it.

    >>> draft({"run": ["8"], "seen": ["2"], "answer": ["approved"], "row": ['["q","i"]'], "which": ["marked"]}).marked
    [Row(query_id='q', item_id='i')]
    """
    given = {name: values[-1] for name, values in words.items() if name != "row"}
    try:
        marked = [Row(*msgspec.json.decode(one, type=tuple[str, str])) for one in words.get("row", ())]
        found = Draft(
            run=int(given["run"]),
            seen=int(given["seen"]),
            who=given.get("who", ""),
            why=given.get("why", ""),
            marked=marked,
            only_marked=given.get("which") == "marked",
            answer=given["answer"],
        )
    except (KeyError, ValueError, msgspec.DecodeError):
        raise RequestError("the form must name a run, how many rows waited, and the answer") from None
    if found.answer not in ("approved", "rejected"):
        raise RequestError("answer must be approved or rejected")
    return found


def _lead(proposed: Proposed) -> str:
    if not proposed.runs:
        return ""
    waiting = [run for run in proposed.runs if run.complete and run.waiting]
    if not waiting:
        return "Nothing waits for an answer."
    rows = sum(run.waiting for run in waiting)
    verb = "waits" if rows == 1 else "wait"
    of = f"run {waiting[0].run_id} of {waiting[0].job}" if len(waiting) == 1 else f"{len(waiting)} runs"
    return f"{count(rows, 'recommendation')} of {of} {verb} for an answer."
