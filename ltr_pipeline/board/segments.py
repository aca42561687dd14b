"""The page of segments: how many entities have which label, and whether a new model agrees with the former."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.words import count, short
from ltr_pipeline.monitoring.records import SegmentsTrained
from ltr_pipeline.report.scale import Scale

__all__ = ["Level", "Segments", "segments"]

ROWS: Final = 31
MOST_LABELS: Final = 30


@dataclass(frozen=True)
class Level:
    """The model in use of one level, such as users, and its labels, largest first."""

    model: SegmentsTrained
    sizes: Sequence[tuple[str, int]]
    scale: Scale


@dataclass(frozen=True)
class Segments:
    """All that the page of segments shows."""

    lead: str
    levels: Sequence[Level]
    rows: Page[SegmentsTrained]


def segments(facts: Facts, asked: Asked) -> Segments:
    """Tell of the models, newest first."""
    in_use = {model.level: model for model in facts.segments if model.in_use}
    return Segments(
        lead=_lead(facts),
        levels=[_level(model) for _, model in sorted(in_use.items())],
        rows=paged(facts.segments[::-1], asked.page, ROWS),
    )


def _level(model: SegmentsTrained) -> Level:
    sizes = sorted(model.sizes.items(), key=lambda one: -one[1])[:MOST_LABELS]
    return Level(model, sizes, Scale.from_zero(*(float(size) for _, size in sizes)))


def _lead(facts: Facts) -> str:
    if not facts.segments:
        return ""
    last = facts.segments[-1]
    used = "is in use" if last.in_use else "waits: the former stays in use"
    agrees = f" It agrees with the former by {last.agreement:.2f}." if last.agreement is not None else ""
    apart = f"tells {count(last.entities, 'entity', 'entities')} apart and {used}"
    return f"The newest model of level {last.level}, of {short(last.date)}, {apart}.{agrees}"
