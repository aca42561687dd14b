"""The pages of drift: which features changed on which day, and how one of them is spread."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, NamedTuple

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.chart import Chart, Days, levels
from ltr_pipeline.board.facts import DriftDay, Facts, FeatureDay
from ltr_pipeline.board.words import Window, count, short, window
from ltr_pipeline.monitoring.records import Distribution, DriftReport, FeatureDrift
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.text import enumerated, percent
from ltr_pipeline.report.wording import NONE, figure

__all__ = ["Drift", "Feature", "Strip", "bins", "drift", "feature"]

MOST_FEATURES: Final = 40
"""Rows of the heat map: those that are or were in alert, then those that differ most."""

LONGEST: Final = 90  # days of the heat map
ROWS: Final = 31
LEVELS: Final = ("", "low", "middle", "high")


class Strip(NamedTuple):
    """A feature's row of the heat map.

    Attributes
    ----------
    name, day
        Of the feature, and what is known of it on the day that is told of.
    paths
        Look and outline of the cells of that look, in a box as many units wide as there are days.
    alerts
        Days of the window on which it differed from both references.
    said
        All of that in a sentence.
    """

    name: str
    day: FeatureDay | None
    paths: Sequence[tuple[str, str]]
    alerts: Sequence[dt.date]
    said: str


@dataclass(frozen=True)
class Drift:
    """All that the page of drift shows; `report` is of the day it tells of."""

    lead: str
    window: Window | None
    report: DriftReport | None
    strips: Sequence[Strip]
    more: int
    rows: Page[DriftDay]
    before: dt.date | None
    after: dt.date | None


@dataclass(frozen=True)
class Feature:
    """All that the page of one feature shows."""

    name: str
    lead: str
    date: dt.date
    found: FeatureDrift
    window: Window
    chart: Chart | None
    bins: Sequence[Bin]
    before: dt.date | None
    after: dt.date | None


class Bin(NamedTuple):
    """A bin of a distribution: its range in words, and the share of each side."""

    name: str
    reference: float
    current: float


def drift(facts: Facts, asked: Asked, report: DriftReport | None) -> Drift:
    """Tell of the features, and of the day of `report`."""
    asked = asked._replace(days=min(asked.days, LONGEST))
    seen = window(asked, (day.date for day in facts.drift))
    shown = [day for day in facts.drift if seen and seen.days.first <= day.date <= seen.days.last]
    strips = sorted(_strips(shown, seen.days, report), key=_telling) if seen else []
    before, after = _neighbours(facts, report.date if report else None)
    return Drift(
        lead=_lead(report),
        window=seen,
        report=report,
        strips=strips[:MOST_FEATURES],
        more=max(0, len(strips) - MOST_FEATURES),
        rows=paged(facts.drift[::-1], asked.page, ROWS),
        before=before,
        after=after,
    )


def feature(facts: Facts, asked: Asked, report: DriftReport | None, name: str) -> Feature | None:
    """Tell of one feature, and how it is spread on the day of `report`; None where nothing is known of it."""
    found = next((one for one in report.features if one.name == name), None) if report else None
    seen = window(asked, (day.date for day in facts.drift))
    if found is None or report is None or seen is None:
        return None
    days = [(day.date, one) for day in facts.drift for one in day.features if one.name == name]
    before, after = _neighbours(facts, report.date)
    return Feature(
        name=name,
        lead=_of_feature(found, report),
        date=report.date,
        found=found,
        window=seen,
        chart=_psi(
            [(date, one) for date, one in days if seen.days.first <= date <= seen.days.last], seen.days, facts, name
        ),
        bins=bins(found.distribution) if found.distribution else [],
        before=before,
        after=after,
    )


def bins(spread: Distribution) -> list[Bin]:
    """Return the bins of a distribution with their ranges in words, the share that is missing last.

    Bins without a share on either side, or whose side another release wrote in another form, are left out.
    """
    edges = [f"{edge:.4g}" for edge in spread.edges]
    names = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges))] if edges else []
    names = [*names, f"{edges[-1]} and above"] if edges else ["all values"]
    return [Bin(*one) for one in zip([*names, "missing"], spread.reference, spread.current, strict=False)]


def _strips(shown: Sequence[DriftDay], days: Days, report: DriftReport | None) -> Iterator[Strip]:
    by_name: dict[str, list[tuple[dt.date, FeatureDay]]] = {}
    for day in shown:
        for one in day.features:
            by_name.setdefault(one.name, []).append((day.date, one))
    told = {day.date: {one.name: one for one in day.features} for day in shown}.get(report.date, {}) if report else {}
    for name, found in by_name.items():
        alerts = [date for date, one in found if one.status == "alert"]
        yield Strip(name, told.get(name), _paths(found, days), alerts, _said(found, alerts))


def _paths(found: Sequence[tuple[dt.date, FeatureDay]], days: Days) -> list[tuple[str, str]]:
    """Return the cells of a row by their look, neighbours of one look as one: a page of them shall stay small."""
    values = levels(one.psi.largest for _, one in found)
    cells = [((date - days.first).days, _look(one, level)) for (date, one), level in zip(found, values, strict=True)]
    paths: dict[str, list[str]] = {}
    numbered = enumerate(cell for cell in cells if cell[1])
    for (look, _), group in groupby(numbered, key=lambda each: (each[1][1], each[1][0] - each[0])):
        run = [start for _, (start, _) in group]
        paths.setdefault(look, []).append(f"M{run[0]} 0h{len(run)}")
    return [(look, "".join(path)) for look, path in paths.items()]


def _look(one: FeatureDay, level: int | None) -> str:
    return {"alert": "alert", "not_evaluable": "unknown"}.get(one.status, LEVELS[level or 0])


def _said(found: Sequence[tuple[dt.date, FeatureDay]], alerts: Sequence[dt.date]) -> str:
    largest = max(((one.psi.largest or 0.0, date) for date, one in found), default=None)
    many = count(len(found), "day")
    alerted = (
        f"in alert on {enumerated([short(date) for date in alerts[:5]])}{' and more' if len(alerts) > 5 else ''}"
        if alerts
        else "never in alert"
    )
    most = f"; largest PSI {figure(largest[0])} on {short(largest[1])}" if largest and largest[0] > 0 else ""
    return f"{many}, {alerted}{most}"


def _telling(strip: Strip) -> tuple[int, float, str]:
    """Return what features are ordered by: days in alert, then how far they are off on the day, then the name."""
    return -len(strip.alerts), -(strip.day.psi.largest or 0.0 if strip.day else 0.0), strip.name


def _lead(report: DriftReport | None) -> str:
    if report is None:
        return ""
    day = short(report.date)
    if report.status == "not_evaluable":
        return f"{day} cannot be judged: {report.reason or 'there is too little to compare'}."
    alerted = [one.name for one in report.features if one.status == "alert"]
    events = f" Declared that day: {enumerated(report.events)}." if report.events else ""
    if alerted:
        differ = "differs from both its references" if len(alerted) == 1 else "differ from both their references"
        return f"On {day} {enumerated(alerted[:5])}{' and more' if len(alerted) > 5 else ''} {differ}.{events}"
    if report.alerts:
        return f"On {day} no single feature moved, but {count(len(report.alerts), 'other thing')} did.{events}"
    return f"On {day} the data was as before: {count(len(report.features), 'feature')} of {report.rows:,} rows.{events}"


def _of_feature(found: FeatureDrift, report: DriftReport) -> str:
    day = short(report.date)
    if found.status == "alert":
        return f"On {day} it differs from both references: PSI {figure(max(found.psi.values(), default=None))}."
    if found.status == "not_evaluable":
        return f"On {day} it cannot be judged: {found.reason or 'there is too little to compare'}."
    return f"On {day} it was as before.{f' {found.reason}.' if found.reason else ''}"


def _neighbours(facts: Facts, date: dt.date | None) -> tuple[dt.date | None, dt.date | None]:
    """Return the recorded days before and after a day."""
    if date is None:
        return None, None
    before = [day.date for day in facts.drift if day.date < date]
    after = [day.date for day in facts.drift if day.date > date]
    return before[-1] if before else None, after[0] if after else None


def _psi(found: Sequence[tuple[dt.date, FeatureDay]], days: Days, facts: Facts, name: str) -> Chart | None:
    """Draw the distance of a feature from its references, day by day."""
    values = [value for _, one in found if (value := one.psi.largest) is not None]
    if not values:
        return None
    top = max(0.1, *values)
    alerts = [date for date, one in found if one.status == "alert"]
    about = f"PSI of {name} on {count(len(found), 'day')}: largest {figure(max(values))}, last {figure(values[-1])}."
    chart = Chart(
        title="Distance from the references", about=about, days=days, scale=Scale(min(0.0, *values), 1.08 * top)
    )
    chart.write()
    chart.line("soft", ((date, one.psi.weekday) for date, one in found))
    chart.line("blue", ((date, one.psi.trailing) for date, one in found))
    for date, one in found:
        if one.status == "alert":
            chart.dot(date, one.psi.largest or 0.0, "fail", f"{short(date)}: PSI {figure(one.psi.largest)}, an alert")
    for date, names in facts.events.items():
        chart.rule(date, "event", ", ".join(names))
    chart.legend = [("line blue", "against the 28 days before"), ("line soft", "against the same weekday")]
    chart.legend += [("dot fail", "alert")] if alerts else []
    chart.legend += [("rule event", "declared event")] if any(rule.kind == "event" for rule in chart.rules) else []
    chart.heads = ("Day", "PSI, 28 days", "PSI, weekday", "KS, 28 days", "Missing", "Status")
    chart.rows = [
        (
            date.isoformat(),
            figure(one.psi.trailing),
            figure(one.psi.weekday),
            figure(one.ks.trailing),
            percent(one.missing) if one.missing is not None else NONE,
            one.status.replace("_", " "),
        )
        for date, one in reversed(found)
    ]
    return chart
