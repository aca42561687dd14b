"""The page of batch scoring: each run of a job, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.words import count, short
from ltr_pipeline.monitoring.records import BatchRun
from ltr_pipeline.report.scale import Scale

__all__ = ["STATES", "Batches", "batches"]

ROWS: Final = 50

STATES: Final = {"done": "pass", "rejected": "inconclusive", "failed": "fail", "running": "skipped"}
"""How a state looks."""


@dataclass(frozen=True)
class Batches:
    """All that the page of batches shows."""

    lead: str
    rows: Page[BatchRun]
    scale: Scale


def batches(facts: Facts, asked: Asked) -> Batches:
    """Tell of the runs."""
    rows = paged(facts.batches[::-1], asked.page, ROWS)
    return Batches(lead=_lead(facts), rows=rows, scale=Scale.from_zero(*(float(run.rows) for run in rows.items)))


def _lead(facts: Facts) -> str:
    if not facts.batches:
        return ""
    last = facts.batches[-1]
    if last.state == "failed":
        return f"The last run of {last.job}, on {short(last.date)}, failed: {last.reason or 'its log says why'}."
    rejected = f", {last.rejected:,} could not be scored" if last.rejected else ""
    scored = f"scored {count(last.rows, 'row')} by {last.version} in {last.seconds:.1f} s"
    return f"The last run of {last.job}, on {short(last.date)}, {scored}{rejected}."
