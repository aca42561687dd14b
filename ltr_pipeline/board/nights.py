"""The page of the nights: what the gate measured, what became of it, and each night's report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.chart import MOST_DOTS, Chart
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.words import Window, beside, between, count, short, valued, window
from ltr_pipeline.monitoring.records import Figure, NightRecord, PostedMetrics
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.wording import figure

__all__ = ["Nights", "approvable", "judged", "nights", "trend", "verdict"]

ROWS: Final = 31
POSTS: Final = 10

VERDICTS: Final = {"publish": "published", "keep": "kept the former", "none": "not trained"}
LOOKS: Final = {"publish": "pass", "keep": "fail", "none": "skipped"}


@dataclass(frozen=True)
class Nights:
    """All that the page of the nights shows."""

    lead: str
    window: Window | None
    chart: Chart | None
    rows: Page[NightRecord]
    posted: Sequence[PostedMetrics]


def nights(facts: Facts, asked: Asked) -> Nights:
    """Tell of the nights, newest first."""
    return Nights(
        lead=_lead(facts),
        window=window(asked, (night.date for night in facts.nights)),
        chart=trend(facts, asked),
        rows=paged(facts.nights[::-1], asked.page, ROWS),
        posted=facts.posted[::-1][:POSTS],
    )


def judged(night: NightRecord) -> Figure | None:
    """Return nDCG@5 of what a night judged: its own model, or, where it trained none, the version in use."""
    return night.ndcg_at_5 or night.champion_ndcg_at_5


def verdict(night: NightRecord) -> tuple[str, str]:
    """Return how the verdict of a night looks, and its words."""
    if night.verdict == "publish" and not night.moved:
        return "inconclusive", "published, not in use"
    if night.verdict == "publish" and night.answered_by:
        return "pass", "approved by a person"
    return LOOKS[night.verdict], VERDICTS[night.verdict]


def approvable(night: NightRecord) -> bool:
    """Tell whether a person may publish what a night kept: the data could not decide, and nothing failed."""
    kept = night.trained and night.verdict == "keep" and night.version is None and not night.dry_run
    return kept and "fail" not in night.checks.values()


def trend(facts: Facts, asked: Asked) -> Chart | None:
    """Draw nDCG@5 of the nights with its interval and threshold, marked by rollbacks and declared events."""
    seen = window(asked, (night.date for night in facts.nights))
    if seen is None:
        return None
    days = seen.days
    shown = [night for night in facts.nights if days.first <= night.date <= days.last]
    figures = [found for night in shown if (found := judged(night))]
    limit = next((night.limits["ndcg_at_5"] for night in reversed(shown) if "ndcg_at_5" in night.limits), None)
    scale = Scale.around(limit, *(value for one in figures for value in (one.value, one.low, one.high)))
    if scale is None:
        return None
    chart = Chart(title="nDCG@5 of the nights", about=_about(shown, limit), days=days, scale=scale)
    chart.write()
    chart.band("blue", ((night.date, judged(night)) for night in shown))
    chart.line("blue", ((night.date, valued(judged(night))) for night in shown))
    chart.limit(limit, f"the gate: {figure(limit)}")
    for night in shown:
        value = valued(judged(night))
        if value is not None and (night.verdict != "publish" or len(shown) <= MOST_DOTS):
            look, words = verdict(night)
            chart.dot(night.date, value, look, f"{short(night.date)}: {figure(value)}, {words}")
    _mark(chart, facts)
    chart.legend = [
        ("line blue", "nDCG@5, with its 95 % interval"),
        ("dot pass", "published"),
        ("dot fail", "kept the former"),
    ]
    chart.legend += [("rule rollback", "rollback")] if any(rule.kind == "rollback" for rule in chart.rules) else []
    chart.legend += [("rule event", "declared event")] if any(rule.kind == "event" for rule in chart.rules) else []
    chart.heads = ("Night", "nDCG@5", "95 % interval", "Gate", "Outcome", "Marked")
    chart.rows = [_row(night, facts) for night in reversed(shown)]
    return chart


def _mark(chart: Chart, facts: Facts) -> None:
    for date, names in facts.events.items():
        chart.rule(date, "event", ", ".join(names))
    for move in facts.rollbacks:
        chart.rule(move.when.date(), "rollback", "rollback")


def _row(night: NightRecord, facts: Facts) -> tuple[str, ...]:
    marks = [*facts.events.get(night.date, ())]
    marks += [f"rollback to {move.to}" for move in facts.rollbacks if move.when.date() == night.date]
    return (
        night.date.isoformat(),
        figure(valued(judged(night))),
        between(judged(night)),
        figure(night.limits.get("ndcg_at_5")),
        verdict(night)[1],
        ", ".join(marks),
    )


def _about(shown: Sequence[NightRecord], limit: float | None) -> str:
    values = [value for night in shown if (value := valued(judged(night))) is not None]
    if not values:
        return "No night was measured."
    gate = f"; the gate asks for {figure(limit)}" if limit is not None else ""
    said = f"from {figure(min(values))} to {figure(max(values))}, last {figure(values[-1])}"
    return f"nDCG@5 of {count(len(values), 'night')}: {said}{gate}."


def _lead(facts: Facts) -> str:
    if not facts.nights:
        return ""
    night = facts.nights[-1]
    value, limit = valued(judged(night)), night.limits.get("ndcg_at_5")
    published = sum(one.verdict == "publish" for one in facts.nights)
    kept = sum(one.verdict == "keep" for one in facts.nights)
    many = f"{count(published, 'night was', 'nights were')} published, {count(kept, 'night')} kept the former version."
    if value is None:
        return many
    gate = f", {beside(value, limit)} the gate" if limit is not None else ""
    return f"nDCG@5 was {figure(value)} in the newest night, {short(night.date)}{gate}. Of those recorded, {many}"
