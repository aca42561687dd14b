"""The page of outcomes: what people did with what was shown, beside what the gate had promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.chart import Chart
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.overview import newest_of_each
from ltr_pipeline.board.words import Window, between, count, short, valued, window
from ltr_pipeline.monitoring.records import Alert, Figure, Outcomes
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.text import percent
from ltr_pipeline.report.wording import figure

__all__ = ["OutcomesPage", "outcomes"]

ROWS: Final = 31
LONGEST: Final = 90  # days of the graphics: four of them, each with its table
VERSIONS: Final = 20


@dataclass(frozen=True)
class OutcomesPage:
    """All that the page of outcomes shows."""

    lead: str
    window: Window | None
    alerts: Sequence[Alert]
    charts: Sequence[Chart]
    rows: Page[Outcomes]
    early: Sequence[Outcomes]
    versions: Sequence[str]


def outcomes(facts: Facts, asked: Asked) -> OutcomesPage:
    """Tell of the outcomes of all versions, or of one; newest first."""
    asked = asked._replace(days=min(asked.days, LONGEST))
    told = [one for one in facts.matured if asked.version in ("", one.version)]
    seen = window(asked, (one.date for one in told))
    shown = [one for one in told if seen and seen.days.first <= one.date <= seen.days.last]
    newest = newest_of_each(facts.outcomes)
    versions = dict.fromkeys(one.version for one in reversed(facts.matured))
    return OutcomesPage(
        lead=_lead(told),
        window=seen,
        alerts=[alert for one in newest for alert in one.alerts],
        charts=_charts(_leading(shown), seen, facts) if seen else [],
        rows=paged(told[::-1], asked.page, ROWS),
        early=[one for one in newest if not one.matured and asked.version in ("", one.version)],
        versions=list(versions)[:VERSIONS],
    )


def _leading(shown: Sequence[Outcomes]) -> list[Outcomes]:
    """Return of each day the outcomes of the version that showed most lists."""
    leading: dict[object, Outcomes] = {}
    for one in shown:
        if one.date not in leading or one.lists > leading[one.date].lists:
            leading[one.date] = one
    return list(leading.values())


def _charts(shown: Sequence[Outcomes], seen: Window, facts: Facts) -> list[Chart]:
    made = [
        _chart("nDCG@5, promised and online", shown, seen, facts, lambda one: one.ndcg_at_5, figure, promised=True),
        _chart("Hit@3", shown, seen, facts, lambda one: one.hit_at_3, figure),
        _chart("Conversion", shown, seen, facts, lambda one: one.conversion, percent),
        _chart("Satisfaction, 1 to 5", shown, seen, facts, lambda one: one.satisfaction, figure),
    ]
    return [chart for chart in made if chart]


def _chart(
    title: str,
    shown: Sequence[Outcomes],
    seen: Window,
    facts: Facts,
    of: Callable[[Outcomes], Figure | None],
    written: Callable[[float | None], str],
    *,
    promised: bool = False,
) -> Chart | None:
    """Draw one figure of the outcomes day by day, with its interval."""
    figures = [found for one in shown if (found := of(one)) and valued(found) is not None]
    offered = [valued(one.promised) for one in shown] if promised else []
    scale = Scale.around(*offered, *(value for one in figures for value in (one.value, one.low, one.high)))
    if scale is None or not figures:
        return None
    last = figures[-1]
    about = f"{title} on {count(len(figures), 'day')}: last {written(last.value)}."
    chart = Chart(title=title, about=about, days=seen.days, scale=scale)
    chart.write(shares=written is percent)
    chart.band("blue", ((one.date, of(one)) for one in shown))
    if promised:
        chart.line("promise", ((one.date, valued(one.promised)) for one in shown))
    chart.line("blue", ((one.date, valued(of(one))) for one in shown))
    for one in shown:
        value = valued(of(one))
        if promised and one.status == "fell" and value is not None:
            chart.dot(one.date, value, "fail", f"{short(one.date)}: {written(value)}, fell")
    for date, names in facts.events.items():
        chart.rule(date, "event", ", ".join(names) if promised else "")
    for move in facts.rollbacks:
        chart.rule(move.when.date(), "rollback", "rollback" if promised else "")
    chart.legend = [("line blue", "online, with its 95 % interval")]
    chart.legend += [("line promise", "promised by the gate")] if promised else []
    chart.legend += [("dot fail", "fell")] if chart.dots else []
    chart.heads = (
        "Day",
        "Version",
        "Lists",
        title.partition(",")[0],
        "95 % interval",
        *(("Promised",) if promised else ()),
    )
    chart.rows = [
        (
            one.date.isoformat(),
            one.version,
            f"{one.lists:,}",
            written(valued(of(one))),
            _between(of(one), written),
            *((figure(valued(one.promised)),) if promised else ()),
        )
        for one in reversed(shown)
    ]
    return chart


def _between(found: Figure | None, written: Callable[[float | None], str]) -> str:
    if found is None or found.low is None or found.high is None or written is not percent:
        return between(found)
    return f"{percent(found.low)} to {percent(found.high)}"


def _lead(told: Sequence[Outcomes]) -> str:
    if not told:
        return ""
    newest = [one for one in told if one.date == told[-1].date]
    last = max(newest, key=lambda one: one.lists)
    value, promised = valued(last.ndcg_at_5), valued(last.promised)
    of = f"Of the {count(last.lists, 'list')} that {last.version} showed on {short(last.date)}"
    if value is None:
        return f"{of}, too few can be judged: {last.reason or 'there was too little feedback'}."
    kept = f"; the gate had promised {figure(promised)}" if promised is not None else ""
    return f"{of}, nDCG@5 was {figure(value)}{kept}."
