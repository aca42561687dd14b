"""The first page: what ranks, how the night went, and the five figures that say whether all is well."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ltr_pipeline.board.asked import Asked
from ltr_pipeline.board.chart import Chart
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.nights import judged, trend
from ltr_pipeline.board.words import beside, count, short, valued
from ltr_pipeline.monitoring.records import Alert, NightRecord, Outcomes
from ltr_pipeline.report.text import enumerated, minute
from ltr_pipeline.report.wording import NONE, figure
from ltr_pipeline.versions.ids import hourly

__all__ = ["Overview", "Tile", "alerts", "alone", "newest_of_each", "overview", "since"]

State = Literal["pass", "fail", "not_evaluable"]

NIGHTS_ALONE: Final = 30
P95_MS: Final = 15.0
FALLBACKS: Final = 0.001
BAD_A_DAY: Final = 1.0
WEEK: Final = dt.timedelta(days=7)
MONTH: Final = 30
HAPPENINGS: Final = 10
GUARD: Final = "guard"
"""How the ledger's author begins where the service itself rolled back: no hand did that."""


class Tile(NamedTuple):
    """A figure beside its goal; `page` tells more of it."""

    label: str
    value: str
    goal: str
    note: str
    state: State
    page: str


class Happening(NamedTuple):
    """Something that happened, for the list of late."""

    when: dt.datetime
    kind: str
    text: str


class Look(NamedTuple):
    """Something that somebody should look at, and the page that tells more."""

    alert: Alert
    page: str


@dataclass(frozen=True)
class Overview:
    """All that the overview shows."""

    lead: str
    state: State
    looks: Sequence[Look]
    tiles: Sequence[Tile]
    night: NightRecord | None
    chart: Chart | None
    happenings: Sequence[Happening]


def overview(facts: Facts, asked: Asked) -> Overview:
    """Tell the facts in short."""
    night = facts.nights[-1] if facts.nights else None
    looks = alerts(facts)
    return Overview(
        lead=_lead(night, looks),
        state="not_evaluable" if night is None else "fail" if looks else "pass",
        looks=looks,
        tiles=[_alone(facts), _p95(night), _quality(facts), _fallbacks(facts), _bad(facts)],
        night=night,
        chart=trend(facts, asked),
        happenings=sorted(_happenings(facts), reverse=True)[:HAPPENINGS],
    )


def alerts(facts: Facts) -> list[Look]:
    """Return what somebody should look at now: of the newest day of drift, and of the newest outcomes."""
    found = [Look(alert, "drift") for alert in (facts.drift[-1].alerts if facts.drift else ())]
    for outcomes in newest_of_each(facts.outcomes):
        found += [Look(alert, "outcomes") for alert in outcomes.alerts]
    if facts.batches and facts.batches[-1].state == "failed":
        last = facts.batches[-1]
        what = f"the last run of {last.job} failed: {last.reason or 'its log says why'}"
        found.append(Look(Alert(kind="data", subject=last.job, what=what), "batches"))
    if facts.unreadable:
        what = f"{count(facts.unreadable, 'record')} of the history cannot be read"
        remedy = "Another release wrote them, or they were altered; the pages leave them out."
        found.append(Look(Alert(kind="data", subject="history", what=what, remedy=remedy), "nights"))
    return found


def newest_of_each(outcomes: Sequence[Outcomes]) -> list[Outcomes]:
    """Return the outcomes of the newest matured day, and those of the newest day that was looked at early."""
    found = []
    for matured in (True, False):
        days = [one for one in outcomes if one.matured == matured]
        found += [one for one in days if one.date == days[-1].date]
    return found


def alone(facts: Facts) -> int:
    """Count the nights, back from the newest, that ran day after day and that nobody lent a hand."""
    hands = {
        move.when.date()
        for move in facts.moves
        if move.move in ("rollback", "pin", "unpin") and not move.who.startswith(GUARD)
    }
    by_day = {night.date: night for night in facts.nights}
    day = max(by_day, default=None)
    nights = 0
    while day in by_day and not (by_day[day].by_hand or by_day[day].answered_by) and day not in hands:
        nights += 1
        day -= dt.timedelta(days=1)
    return nights


def _lead(night: NightRecord | None, looks: Sequence[Look]) -> str:
    if night is None:
        return "No night has run yet."
    looking = f"{count(len(looks), 'thing needs', 'things need')} a look." if looks else "Nothing needs a look."
    return f"{_of_night(night)} {looking}"


def _of_night(night: NightRecord) -> str:
    """Say how a night went, in a sentence."""
    ndcg, limit = valued(judged(night)), night.limits.get("ndcg_at_5")
    if night.verdict == "none":
        return f"The night of {short(night.date)} trained nothing: {night.because or night.reason or 'it was not due'}."
    if ndcg is None:
        return f"The night of {short(night.date)} could not be measured: {night.reason or 'its report says why'}."
    gate = f", {beside(ndcg, limit)} the gate" if limit is not None else ""
    return f"nDCG@5 was {figure(ndcg)} in the night of {short(night.date)}{gate}."


def _alone(facts: Facts) -> Tile:
    nights = alone(facts)
    if not facts.nights:
        return Tile("Nights without a hand", NONE, f"goal {NIGHTS_ALONE}", "no night yet", "not_evaluable", "nights")
    note = "nobody started, moved or mended one" if nights else "somebody lent a hand in the newest"
    state: State = "pass" if nights >= NIGHTS_ALONE else "not_evaluable"
    return Tile("Nights without a hand", f"{nights:,}", f"goal {NIGHTS_ALONE}", note, state, "nights")


def _p95(night: NightRecord | None) -> Tile:
    metrics, limits = (night.metrics, night.limits) if night else ({}, {})
    value = metrics.get("latency_p95_ms", metrics.get("champion_latency_p95_ms"))
    limit = limits.get("latency_p95", P95_MS)
    state: State = "not_evaluable" if value is None else "pass" if value <= limit else "fail"
    return Tile("p95 of ranking", figure(value, "ms"), f"at most {limit:g} ms", "measured by the gate", state, "nights")


def _quality(facts: Facts) -> Tile:
    measured = [night for night in facts.nights if valued(judged(night)) is not None]
    if not measured:
        return Tile("nDCG@5", NONE, "", "no night was measured", "not_evaluable", "nights")
    last = measured[-1]
    before = [valued(judged(night)) or 0.0 for night in measured[:-1] if last.date - night.date <= 4 * WEEK]
    value = valued(judged(last)) or 0.0
    note = (
        f"{figure(value - sum(before) / len(before), 'delta')} to the mean of 4 weeks" if before else "the first night"
    )
    limit = last.limits.get("ndcg_at_5")
    state: State = "pass" if limit is None or value >= limit else "fail"
    return Tile(
        "nDCG@5", figure(value), f"at least {figure(limit)}" if limit is not None else "", note, state, "nights"
    )


def _fallbacks(facts: Facts) -> Tile:
    oldest = {(one.date, one.version): one for one in sorted(facts.outcomes, key=lambda one: one.age_hours)}
    newest = max((one.date for one in facts.outcomes), default=None)
    recent = [one for one in oldest.values() if newest and newest - one.date < WEEK]
    lists = sum(one.lists for one in recent)
    goal = f"at most {100 * FALLBACKS:g} %"
    if not lists:
        return Tile("Fallbacks", NONE, goal, "no list was looked at", "not_evaluable", "outcomes")
    share = sum(one.fallbacks for one in recent) / lists
    state: State = "pass" if share <= FALLBACKS else "fail"
    return Tile("Fallbacks", figure(share, "share"), goal, f"of {count(lists, 'list')} in 7 days", state, "outcomes")


def _bad(facts: Facts) -> Tile:
    label, goal = "Bad versions a day", f"at most {BAD_A_DAY:g}"
    if not facts.moves:
        return Tile(label, NONE, goal, "nothing was published", "not_evaluable", "nights")
    last = max(facts.moves[-1].when.date(), facts.nights[-1].date if facts.nights else dt.date.min)
    days = min(MONTH, (last - facts.moves[0].when.date()).days + 1)
    bad = sum((last - move.when.date()).days < days for move in facts.rollbacks)
    value = bad / days
    state: State = "pass" if value <= BAD_A_DAY else "fail"
    note = f"{count(bad, 'rollback')} in {count(days, 'day')}"
    return Tile(label, f"{value:.2f}", goal, note, state, "nights")


def _happenings(facts: Facts) -> Iterator[Happening]:
    """Yield what happened of late; only the newest of each kind matter, so that none is made in vain."""
    for night in facts.nights[-HAPPENINGS:]:
        if night.verdict != "publish":
            word = "kept the former version" if night.verdict == "keep" else "trained nothing"
            yield Happening(_noon(night.date), night.verdict, f"The night {word}: {night.reason or night.because}")
        elif night.answered_by:
            yield Happening(_noon(night.date), night.verdict, f"The night was published, {night.answer}")
    yield from _moves(facts)
    for day in [day for day in facts.drift if day.status == "alert"][-HAPPENINGS:]:
        what = enumerated(day.alerted) or "No single feature, but all of them together,"
        yield Happening(_noon(day.date), "drift", f"The data drifted: {what}")
    for date, names in list(facts.events.items())[-HAPPENINGS:]:
        yield Happening(_noon(date), "event", ", ".join(names))


def _moves(facts: Facts) -> Iterator[Happening]:
    """Yield what people and the guard did to `latest`; that nights publish is as it should be."""
    acts = [move for move in facts.moves if move.move in ("rollback", "pin", "unpin")]
    for move in acts[-HAPPENINGS:]:
        yield Happening(move.when, move.move, str(move))


def _noon(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(12), dt.UTC)


def since(facts: Facts) -> str:
    """Say since when the version ranks, and whether it is pinned."""
    move = facts.since
    if move is None:
        return ""
    pinned = " It is pinned: no night moves it until `ltr unpin`." if facts.moves[-1].pin else ""
    kind = f", {hourly(move.parent)}" if move.parent else ""
    return f"Since {minute(move.when)}{kind}: {move.why} ({move.who}).{pinned}"
