"""Recommendations as people answer them: what a run proposed, what became of each row, and what an answer names."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from ltr_pipeline.errors import ScoringError
from ltr_pipeline.names import did_you_mean
from ltr_pipeline.printable import one_line

__all__ = [
    "APPROVED",
    "COMPLETE",
    "PROPOSED",
    "SUPERSEDED",
    "Answer",
    "Proposal",
    "ProposedRun",
    "Row",
    "Rows",
    "read_rows",
    "said",
]

PROPOSED: Final = "proposed"
APPROVED: Final = "approved"
SUPERSEDED: Final = "superseded"

Answer = Literal["approved", "rejected"]

COMPLETE: Final = ("done", "rejected")
"""States of a run that has proposed all it had to; in the second, too many candidates could not be scored."""

LONGEST_WHO: Final = 200  # characters
LONGEST_WHY: Final = 1000

_SEPARATORS: Final = (",", ";", "\t")
"""What a spreadsheet puts between cells; which of them depends on its language."""


class Row(NamedTuple):
    """A recommendation of a run, named as a file of rows names it."""

    query_id: str
    item_id: str


Rows: TypeAlias = Sequence[Row]


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A recommendation, and what became of it.

    Attributes
    ----------
    status
        One of ``proposed``, ``approved``, ``rejected``, ``superseded``, or whatever else somebody wrote by hand.
    answered_by, answered_at, answer_reason
        Who answered, when (UTC) and why; None while nobody has, or where it was done by hand without saying so.
    """

    query_id: str
    item_id: str
    rank: int
    score: float
    label: str | None
    reasons: str
    status: str
    answered_by: str | None = None
    answered_at: dt.datetime | None = None
    answer_reason: str | None = None


class ProposedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that proposed recommendations.

    Attributes
    ----------
    state
        Of the run; one that is not `COMPLETE` cannot be answered yet.
    counts
        Rows by status.
    """

    run_id: int
    job: str
    version: str
    state: str
    started_at: dt.datetime
    counts: dict[str, int]

    @property
    def waiting(self) -> int:
        """Rows that wait for an answer."""
        return self.counts.get(PROPOSED, 0)

    @property
    def complete(self) -> bool:
        """Tell whether all of it was proposed."""
        return self.state in COMPLETE


def read_rows(path: Path) -> Rows:
    """Read the rows that an answer is for, from a CSV file with the columns ``query_id`` and ``item_id``.

    Other columns are ignored, so what ``ltr recommendations show RUN --csv`` prints can be cut down and given back.

    Raises
    ------
    ScoringError
        The file cannot be read, or has no such columns or no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScoringError(f"--rows {path} cannot be read: {error}") from error
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    found = csv.DictReader(text.splitlines(keepends=True), delimiter=separator)
    names = list(found.fieldnames or ())
    if lacking := [name for name in Row._fields if name not in names]:
        raise ScoringError(
            f"--rows {path} has no column {lacking[0]}{did_you_mean(lacking[0], names)}: its first line has to name "
            "query_id and item_id, as `ltr recommendations show RUN --csv` prints them"
        )
    try:
        rows = [Row(row["query_id"] or "", row["item_id"] or "") for row in found]
    except csv.Error as error:
        raise ScoringError(f"--rows {path}: line {found.line_num}: {error}") from error
    if not rows:
        raise ScoringError(f"--rows {path} has no rows below its first line")
    return list(dict.fromkeys(rows))


def said(text: str, what: str, longest: int) -> str:
    """Return who answers, or why, as one printable line; ScoringError where it is missing or too long."""
    line = one_line(text.strip())
    if not line:
        raise ScoringError(f"{what} is missing; an answer keeps who gave it, and why")
    if len(line) > longest:
        raise ScoringError(f"{what} has {len(line):,} characters, more than {longest:,}")
    return line
