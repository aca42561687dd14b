"""The pages of versions: which there are and what became of them, by the ledger alone, and any two side by side."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.duel import Duel, recorded
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.words import between, count, short, valued, when
from ltr_pipeline.monitoring.records import Figure, NightRecord
from ltr_pipeline.report.wording import NONE, STATUS, Kind, figure, named
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.weights import Weights

__all__ = ["Compared", "Known", "Row", "Versions", "chosen", "compared", "known", "sides", "versions"]

ROWS: Final = 31
MOST_FEATURES: Final = 40

Became = Literal["in use", "was in use", "rolled back from", "never in use"]
LOOKS: Final[dict[Became, str]] = {
    "in use": "pass",
    "was in use": "pass",
    "rolled back from": "fail",
    "never in use": "skipped",
}

METRICS: Final[Mapping[str, str]] = {
    "ndcg_at_5": "nDCG@5",
    "linear_ndcg_at_5": "nDCG@5, linear gain",
    "mrr": "MRR",
    "hit_at_3": "Hit@3",
}


class Known(NamedTuple):
    """A version as the ledger has it.

    Attributes
    ----------
    published
        The entry that did it.
    became
        What became of it.
    pinned
        Whether `latest` is pinned to it.
    night
        The record of the night that made it, where there is one.
    """

    version: str
    published: Move
    became: Became
    pinned: bool
    night: NightRecord | None

    @property
    def look(self) -> str:
        """How the page marks it."""
        return LOOKS[self.became]


@dataclass(frozen=True)
class Versions:
    """All that the page of versions shows; `one` and `other` are those it offers to compare."""

    lead: str
    rows: Page[Known]
    names: Sequence[str]
    one: str
    other: str


class Row(NamedTuple):
    """A line that sets one version beside another; `same` where they do not differ."""

    label: str
    one: str
    other: str
    notes: tuple[str, str] = ("", "")
    same: bool = False


@dataclass(frozen=True)
class Compared:
    """All that the page of two versions shows.

    Attributes
    ----------
    one, other
        Their names.
    lead
        Which ranks better, where that is known.
    duel
        Their difference on the same rankings; None where no night has compared them.
    rows, checks, features
        Their figures, the gate's checks, and the features by their share of the gain.
    """

    one: str
    other: str
    lead: str
    duel: Duel | None
    rows: Sequence[Row]
    checks: Sequence[Row]
    features: Sequence[Row]


def versions(facts: Facts, asked: Asked) -> Versions:
    """Tell of the versions, newest first."""
    found = known(facts)
    one, other = chosen(facts, asked)
    return Versions(
        lead=_lead(facts, found),
        rows=paged(found, asked.page, ROWS),
        names=[version.version for version in found],
        one=one,
        other=other,
    )


def chosen(facts: Facts, asked: Asked) -> tuple[str, str]:
    """Return the two that are asked for; without a word, the one in use and the nightly one before."""
    one = asked.one or facts.promoted or ""
    lasting = (move.to for move in reversed(facts.moves) if move.to != one and move.parent is None)
    former = next(lasting, "")
    return one, asked.other or former


def known(facts: Facts) -> list[Known]:
    """Return every version that is published and not pruned, the newest entry first."""
    gone = {version for move in facts.moves for version in move.pruned}
    used = {move.to for move in facts.moves if move.moved}
    left = _left(facts.moves)
    nights = {night.version: night for night in facts.nights if night.version}
    pinned = bool(facts.moves) and facts.moves[-1].pin
    published: dict[str, Move] = {}
    for move in facts.moves:
        if move.move == "publish" and move.version not in gone:
            published.setdefault(move.version, move)

    def became(version: str) -> Became:
        if version == facts.promoted:
            return "in use"
        if version in left:
            return "rolled back from"
        return "was in use" if version in used else "never in use"

    return [
        Known(version, move, became(version), pinned and version == facts.promoted, nights.get(version))
        for version, move in reversed(published.items())
    ]


def _left(moves: Sequence[Move]) -> set[str]:
    """Return the versions that were rolled back from since they were last in use."""
    left: set[str] = set()
    for move in moves:
        if move.moved:
            left.discard(move.to)
            if move.move == "rollback" and move.before:
                left.add(move.before)
    return left


def _lead(facts: Facts, found: Sequence[Known]) -> str:
    if not found:
        return ""
    never = sum(one.became == "never in use" for one in found)
    rolled = sum(one.became == "rolled back from" for one in found)
    many = f"{count(len(found), 'version is', 'versions are')} kept"
    parts = [f"{rolled} rolled back from" if rolled else "", f"{never} never in use" if never else ""]
    return f"{'; '.join(filter(None, [many, *parts]))}. {facts.promoted} is in use."


def compared(one: Weights, other: Weights, duel: Duel | None = None) -> Compared:
    """Set two versions side by side.

    Parameters
    ----------
    duel
        Their difference on the same rankings; None = the one that a night has found.
    """
    duel = duel or recorded(one, other)
    return Compared(
        one=one.version,
        other=other.version,
        lead=lead_of(duel, one.version, other.version),
        duel=duel,
        rows=list(sides(one, other)),
        checks=list(_checks(one, other)),
        features=list(_features(one, other)),
    )


def lead_of(duel: Duel | None, one: str, other: str) -> str:
    """Say which of two ranks better on the same rankings."""
    delta = duel.of(one) if duel else None
    if delta is None or delta.value is None or delta.low is None or delta.high is None:
        return ""
    figures = f"{figure(delta.value, 'delta')} in nDCG@5 ({between(delta, 'delta')}), on the same {delta.n:,} rankings"
    if delta.low > 0 or delta.high < 0:
        return f"{one} ranks {'better' if delta.value > 0 else 'worse'} than {other}: {figures}."
    return f"The data cannot tell which of the two ranks better: {one} minus {other} is {figures}."


def sides(one: Weights, other: Weights) -> Iterator[Row]:
    """Yield the figures of two versions, each as measured on its own test days."""
    for name, label in METRICS.items():
        if name in one.metrics or name in other.metrics:
            yield _figures(label, _estimate(one, name), _estimate(other, name))
    yield _figures("Fairness gap", _check(one, "fairness_gap"), _check(other, "fairness_gap"))
    yield _plain("Latency p95", *(figure(_number(it.latency.get("p95_ms")), "ms") for it in (one, other)))
    yield _plain("Trees", *(figure(it.model.trees, "count") for it in (one, other)))
    yield _plain("Features", *(figure(len(it.features), "count") for it in (one, other)))
    yield _plain("Training days", *(_days(it.data.train.start, it.data.seen_until) for it in (one, other)))
    yield _plain("Test days", *(_days(it.data.test.start, it.data.test.end) for it in (one, other)))
    yield _plain("Compared with then", *(str((it.champion or {}).get("version") or NONE) for it in (one, other)))
    yield _plain("Made", *(f"{when(it.created_at)} UTC" for it in (one, other)))
    yield _plain("Mode", *(str(it.lineage.get("mode") or NONE) for it in (one, other)))
    yield _plain("LightGBM", *(it.libraries.get("lightgbm", NONE) for it in (one, other)))


def _figures(label: str, one: Figure | None, other: Figure | None, kind: Kind = "score") -> Row:
    written = [figure(valued(it), kind) for it in (one, other)]
    notes = tuple(between(it) if it and it.low is not None else "" for it in (one, other))
    return Row(label, written[0], written[1], (notes[0], notes[1]), same=written[0] == written[1])


def _plain(label: str, one: str, other: str) -> Row:
    return Row(label, one, other, same=one == other)


def _estimate(weights: Weights, name: str) -> Figure | None:
    return _figure_of(weights.metrics.get(name) or {}, "value")


def _check(weights: Weights, name: str) -> Figure | None:
    check = next((check for check in _checked(weights) if check.get("name") == name), None)
    return _figure_of(check, "observed") if check else None


def _figure_of(told: Mapping[str, Any], key: str) -> Figure:
    """Read a figure of a document, whose metrics and checks other releases wrote, too."""
    n = _number(told.get("n"))
    return Figure(
        value=_number(told.get(key)), low=_number(told.get("low")), high=_number(told.get("high")), n=int(n or 0)
    )


def _number(found: object) -> float | None:
    return float(found) if isinstance(found, int | float) else None


def _checked(weights: Weights) -> Sequence[Mapping[str, Any]]:
    checks = weights.gate.get("checks")
    return [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []


def _checks(one: Weights, other: Weights) -> Iterator[Row]:
    """Yield what the gate said of each, where it said something."""
    found = [{str(check.get("name")): str(check.get("status")) for check in _checked(it)} for it in (one, other)]
    for name in dict.fromkeys([*found[0], *found[1]]):
        said = [STATUS.get(it.get(name, ""), NONE) for it in found]
        yield Row(
            named(name), said[0], said[1], (found[0].get(name, ""), found[1].get(name, "")), same=said[0] == said[1]
        )


def _features(one: Weights, other: Weights) -> Iterator[Row]:
    """Yield features by the larger of their shares of the gain, those that one of them lacks first."""
    names = [set(it.feature_names) for it in (one, other)]
    shares = [it.model.importance for it in (one, other)]

    def place(name: str) -> tuple[bool, float, str]:
        return name in names[0] & names[1], -max(share.get(name, 0.0) for share in shares), name

    for name in sorted(names[0] | names[1], key=place)[:MOST_FEATURES]:
        said = [
            figure(share.get(name, 0.0), "share") if name in has else "not there"
            for has, share in zip(names, shares, strict=True)
        ]
        yield Row(name, said[0], said[1], same=said[0] == said[1])


def _days(first: dt.datetime, end: dt.datetime) -> str:
    return f"{short(first.date())} to {short((end - dt.timedelta(microseconds=1)).date())}"
