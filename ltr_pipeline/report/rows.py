"""The rows of the report's tables, worked out from the records."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ltr_pipeline.dataset.labels import DROPPED_FEEDBACK, DROPPED_IMPRESSIONS, Account
from ltr_pipeline.dataset.manifest import DatasetManifest, Part
from ltr_pipeline.dataset.windows import Span
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.gate.checks.check import Check
from ltr_pipeline.gate.evidence import Comparison, Evidence, Fallback, Refreshed
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import RECENT_DAYS, Policy
from ltr_pipeline.gate.suspects import suspicions
from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.quality import Delta, Metrics
from ltr_pipeline.metrics.slices import Slice
from ltr_pipeline.metrics.unbiased import Examination, UnbiasedDelta
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.report.scale import Scale
from ltr_pipeline.report.text import day, enumerated, percent, points
from ltr_pipeline.report.wording import NONE, Kind, figure
from ltr_pipeline.versions.weights import Weights

DAY: Final = dt.timedelta(days=1)


class Ranker(NamedTuple):
    """One line of the comparison of rankers; `delta` is this model minus the other on the same rankings."""

    name: str
    note: str
    metrics: Metrics | None
    delta: Delta | None
    own: bool = False


def rankers(evidence: Evidence) -> list[Ranker]:
    """Return a line for this model, else the version in use, for each it is compared with, and for the baselines."""
    if evidence.untrained:
        rows = [Ranker(evidence.champion.version or "", "in use", evidence.champion.metrics, None, own=True)]
    else:
        rows = [Ranker("This model", "", evidence.metrics, None, own=True), _rival("Champion", evidence.champion)]
    if evidence.best_recent is not None:
        rows.append(_rival(f"Best of {RECENT_DAYS} days", evidence.best_recent))
    linear = evidence.baselines.get("legacy_linear")
    if linear and evidence.champion.kind != "legacy_linear":
        rows.append(Ranker("Legacy linear weights", "", linear, None))
    if logged := evidence.baselines.get("logged_order"):
        rows.append(Ranker("Logged order", "as the lists were shown", logged, None))
    if random := evidence.baselines.get("random"):
        rows.append(Ranker("Random order", "exact expectation", random, evidence.against_random))
    if evidence.fallback:
        rows.append(Ranker("Linear fallback", _of_fallback(evidence.fallback), evidence.fallback.metrics, None))
    known = {"legacy_linear", "logged_order", "random"}
    return rows + [Ranker(name, "", m, None) for name, m in evidence.baselines.items() if name not in known]


def refreshed(refresh: Refreshed) -> str:
    """Say what a refresh is, and whether position bias was taken out of what it learned.

    >>> refreshed(Refreshed(parent="20250715_0215", mode="full", positives=900, delta=None, debiased=True))
    'This is an hourly refresh of 20250715_0215: trained anew, with 900 positive answers that arrived since.'
    """
    made = "its trees, with new values learned from" if refresh.mode == "refit" else "trained anew, with"
    since = "to lists that were answered lately" if refresh.mode == "refit" else "that arrived since"
    what = f"This is an hourly refresh of {refresh.parent}: {made} {refresh.positives:,} positive answers {since}."
    if refresh.debiased:
        return what
    why = ""
    if refresh.mode == "refit":
        why = (
            ": LightGBM takes no positions when it refits. LTR_HOURLY_MODE=full trains anew, debiased; so does "
            "LTR_DEBIAS=coins, with enough exploration"
        )
    return f"{what} Position bias was not taken out of these answers, which favour what was shown on top{why}."


def _of_fallback(fallback: Fallback) -> str:
    """Say what a service does where the model cannot rank."""
    if fallback.beats_random:
        return "ranks in a service where the model cannot"
    return "no better than chance: where the model cannot rank, the order of the request stays"


def _rival(name: str, other: Comparison) -> Ranker:
    if other.kind == "legacy_linear":
        return Ranker("Legacy linear weights", "the first champion", other.metrics, other.delta)
    return Ranker(name, other.reason or other.version or "", other.metrics, other.delta)


def bounds(measured: Iterable[Metrics | Slice | None]) -> Iterator[float | None]:
    """Return every end of some intervals of nDCG@5, for their common axis."""
    for found in measured:
        if found is not None:
            yield from (found.ndcg_at_5.low, found.ndcg_at_5.value, found.ndcg_at_5.high)


def check_scale(check: Check) -> Scale | None:
    """Return the axis of a check: from 0 where a share, a time or a count is judged, else around the drawn values."""
    drawn = (check.observed, check.low, check.high, check.threshold)
    if any(value is not None and value < 0 for value in drawn) or check.name in _AROUND:
        return Scale.around(*drawn)
    return Scale.from_zero(*(value * 1.1 for value in drawn if value is not None))


_AROUND = {
    "ndcg_at_5",
    "beats_random",
    "champion",
    "best_recent",
    "parent_delta",
    "coin",
    "unbiased_delta",
    "suspicious_gain",
}

DIMENSIONS = {
    "protected_group": "Protected group",
    "day": "Day (UTC)",
    "day_part": "Part of the day (UTC)",
    "items": "Items seen in training",
    "user_segment": "Engagement of the user",
}


def slice_groups(slices: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """Group slices under the name of their dimension, in the given order."""
    return [
        (DIMENSIONS.get(dimension, dimension.replace("_", " ").capitalize()), list(members))
        for dimension, members in groupby(slices, key=lambda s: s.dimension)
    ]


class FeatureRow(NamedTuple):
    """One feature: share of the model's gain now and in the version in use before, missing share, and what is new.

    One of a feature table has that table's name.
    """

    name: str
    share: float | None
    was: float | None
    missing: float | None
    rule: str
    state: str
    table: str = ""

    @property
    def change(self) -> str:
        """Return the change of the share in percentage points."""
        return NONE if self.share is None or self.was is None else points(self.share - self.was)


def feature_rows(trained: Trained, former: Weights | None, dataset: DatasetManifest | None) -> list[FeatureRow]:
    """Return all features of this model and the former one, the most important first."""
    now = trained.importance
    was = former.model.importance if former else {}
    listed = set(dataset.features if dataset else ()) | set(now)
    names = sorted(listed | set(was), key=lambda name: (-now.get(name, 0.0), -was.get(name, 0.0), name))
    tables = {name: table for table, use in dataset.feature_tables.items() for name in use.features} if dataset else {}
    return [
        FeatureRow(
            name=name,
            share=now.get(name, 0.0) if name in listed else None,
            was=was.get(name, 0.0) if former and name in former.feature_names else None,
            missing=dataset.train.feature_missing.get(name) if dataset else None,
            rule=trained.missing_rules.get(name, ""),
            state=_state(name, listed, former, dataset),
            table=tables.get(name, ""),
        )
        for name in names
    ]


def _state(name: str, listed: set[str], former: Weights | None, dataset: DatasetManifest | None) -> str:
    if name not in listed:
        return "removed since the version before"
    states = []
    if former and name not in former.feature_names:
        states.append("new since the version before")
    if dataset and name in dataset.vanished:
        states.append("vanished: no value in the test days")
    if dataset and name in dataset.appeared:
        states.append("appeared: no value in the training days, but later")
    return "; ".join(states)


class AuditRow(NamedTuple):
    """One feature as the audit found it; `state` is what speaks against it, or why nothing does."""

    name: str
    alone: float | None
    order: str
    relevant: float | None
    other: float | None
    oldest: float | None
    newest: float | None
    change: float | None
    limit: float | None
    state: str


def audit_rows(audit: Sequence[FeatureAudit], policy: Policy | None) -> list[AuditRow]:
    """Return all features that were audited, those under suspicion first, then by what each can do alone."""
    found = [_audited(feature, policy or Policy()) for feature in audit]
    accused = {one.feature for one in suspicions(audit)}
    return sorted(found, key=lambda row: (row.name not in accused, -(row.alone or 0.0), row.name))


def _audited(feature: FeatureAudit, policy: Policy) -> AuditRow:
    most = max(feature.changes, key=lambda one: one.distance - max(one.limit, policy.feature_change_max), default=None)
    ages = feature.defaults.by_age
    return AuditRow(
        name=feature.name,
        alone=feature.alone,
        order="lowest first" if feature.falling else "highest first",
        relevant=feature.defaults.relevant,
        other=feature.defaults.other,
        oldest=ages[0] if ages else None,
        newest=ages[-1] if ages else None,
        change=most.distance if most else None,
        limit=max(most.limit, policy.feature_change_max) if most else None,
        state=_suspected(feature),
    )


def _suspected(feature: FeatureAudit) -> str:
    if feature.vouched:
        return "known before a list is shown, says the mapping"
    if feature.known_before:
        return "logged by the service when it answered"
    if not feature.gain:
        return "not used by the model"
    served = f"logged by the service when it answered for {percent(feature.as_served)} of the impressions"
    found = [one.what for one in suspicions([feature])]
    return "; ".join([*found, *([served] if feature.as_served else [])])


class Change(NamedTuple):
    """One line of what changed since the run before."""

    name: str
    before: str
    now: str
    difference: str
    relative: str = ""


_LARGE = 0.01  # smaller changes of a feature's missing share are left out


def evidence_changes(before: Evidence, now: Evidence) -> Iterator[Change]:
    """Return the figures of two runs side by side."""
    for name, metric in (("nDCG@5", "ndcg_at_5"), ("MRR", "mrr"), ("Hit@3", "hit_at_3")):
        yield _change(name, getattr(before.judged, metric).value, getattr(now.judged, metric).value)
    if not (before.untrained or now.untrained):
        yield _change("Fairness gap, noise-corrected", before.fairness.corrected_gap, now.fairness.corrected_gap)
    yield from _champion_changes(before, now)
    if before.latency and now.latency and before.latency.clock == now.latency.clock:
        yield _change("Latency p95", before.latency.p95_ms, now.latency.p95_ms, "ms")
        references = (before.latency.reference_p95_ms, now.latency.reference_p95_ms)
        yield _change("Latency p95 of a linear ranker", *references, "ms")
    yield _change("Training impressions", before.train_impressions, now.train_impressions, "count")
    yield _change("Eligible test rankings", before.test_queries, now.test_queries, "count")
    if (was := before.landed) and (arrived := now.landed):
        yield _change("Records that arrived", was.records_read, arrived.records_read, "count")
        yield _change("Quarantined records", was.records_quarantined, arrived.records_quarantined, "count")


def _champion_changes(before: Evidence, now: Evidence) -> Iterator[Change]:
    """Compare what two nights found of one and the same version."""
    was, found = before.champion_fairness, now.champion_fairness
    if was and found and before.champion.version == now.champion.version:
        yield _change(f"Fairness gap of {now.champion.version}", was.corrected_gap, found.corrected_gap)


def dataset_changes(before: DatasetManifest, now: DatasetManifest) -> Iterator[Change]:
    """Return the features whose missing share in training moved by at least one percentage point."""
    for name in now.features:
        was, share = before.train.feature_missing.get(name), now.train.feature_missing.get(name)
        if was is not None and share is not None and abs(share - was) >= _LARGE:
            yield Change(f"Missing values of {name}", figure(was, "share"), figure(share, "share"), points(share - was))


def _change(name: str, before: float | None, now: float | None, kind: Kind = "score") -> Change:
    if before is None or now is None:
        return Change(name, figure(before, kind), figure(now, kind), NONE)
    by = now - before
    relative = f"{signed(100 * by / before, 1)} %" if by and before and kind != "score" else ""
    return Change(
        name, figure(before, kind), figure(now, kind), signed(by, {"score": 3, "ms": 2}.get(kind, 0)), relative
    )


class PartRow(NamedTuple):
    """One stretch of the data window; `part` is None for the days that are too young to judge."""

    key: str
    name: str
    span: Span
    part: Part | None


def part_rows(dataset: DatasetManifest) -> list[PartRow]:
    """Return the parts of the window in order of time."""
    young = Span(start=dataset.windows.mature_end, end=dataset.windows.cutoff)
    return [
        PartRow("train", "Training", dataset.train, dataset.train),
        PartRow("valid", "Validation", dataset.valid, dataset.valid),
        PartRow("test", "Test", dataset.test, dataset.test),
        PartRow("young", "Too young to judge", young, None),
    ]


class OccasionRow(NamedTuple):
    """One declared event of the window: its days, and what becomes of them."""

    name: str
    span: Span
    days: str
    treatment: str


def occasion_rows(dataset: DatasetManifest) -> list[OccasionRow]:
    """Return the declared events of the window in order of time; of one that began before, or goes on, these days."""
    windows = dataset.windows
    return [
        OccasionRow(
            name=one.name,
            span=Span(
                start=max(_midnight(one.first), windows.start), end=min(_midnight(one.last + DAY), windows.cutoff)
            ),
            days=day(one.first) if one.first == one.last else f"{day(one.first)} to {day(one.last)}",
            treatment=_TREATMENTS.get(one.weight, f"a ranking counts {one.weight:g} in training and validation"),
        )
        for one in windows.occasions
    ]


_TREATMENTS: Final = {0.0: "in no part: neither learned from nor judged by", 1.0: "as any other day"}


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def note(part: Slice, dataset: DatasetManifest | None) -> str:
    """Return what is to be said of a slice; of a day also which declared events it was."""
    occasions = dataset.windows.occasions if dataset and part.dimension == "day" else ()
    names = [one.name for one in occasions if dt.date.fromisoformat(part.value) in one]
    return "; ".join(filter(None, [part.note, *names]))


class UseRow(NamedTuple):
    """One reason why landed records were used or not, with the impressions and interactions that it holds for."""

    name: str
    note: str
    impressions: int
    feedback: int


def use_rows(impressions: Account, feedback: Account) -> list[UseRow]:
    """Count what was used, duplicate, and dropped by reason; together everything that landed."""
    found = [
        UseRow("Used", "in training, validation or test", impressions.used, feedback.used),
        UseRow("Duplicates", "the first one counts", impressions.duplicates, feedback.duplicates),
    ]
    for reason in sorted({*impressions.dropped, *feedback.dropped}):
        notes = {table[reason] for table in (DROPPED_IMPRESSIONS, DROPPED_FEEDBACK) if reason in table}
        name = f"Dropped: {reason.replace('_', ' ')}"
        counts = impressions.dropped.get(reason, 0), feedback.dropped.get(reason, 0)
        found.append(UseRow(name, "; ".join(sorted(notes)), *counts))
    return found


class TableRow(NamedTuple):
    """One feature table: its rows, those of the future and those without id or time, and the share it has nothing for.

    That share, `without`, is of the impressions used; None where there are none.
    """

    name: str
    note: str
    rows: int
    future: int
    unplaced: int
    without: float | None


def table_rows(dataset: DatasetManifest) -> list[TableRow]:
    """Return the feature tables that were joined, in the mapping's order."""
    used = dataset.impressions.used
    return [
        TableRow(
            name=name,
            note=f"{enumerated(use.features)}, known at most {use.tolerance_days:g} days before",
            rows=use.snapshot.rows,
            future=use.snapshot.future,
            unplaced=use.snapshot.unplaced,
            without=use.without / used if used else None,
        )
        for name, use in dataset.feature_tables.items()
    ]


class LandingRow(NamedTuple):
    """One reason why records read for this run landed or not, and how many."""

    name: str
    note: str
    records: int


def landing_rows(landing: Manifest) -> list[LandingRow]:
    """Count landed, quarantined and ignored records by reason; together they are all that were read."""
    landed = [LandingRow("Impressions", "", landing.impressions), LandingRow("Feedback", "", landing.feedback)]
    quarantined = [LandingRow("Quarantined", reason, n) for reason, n in _largest_first(landing.quarantine_reasons)]
    ignored = [LandingRow("Ignored", reason, n) for reason, n in _largest_first(landing.ignored_reasons)]
    return landed + quarantined + ignored


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


class Bar(NamedTuple):
    """One column of a drawing, with the ends of its interval where it has one."""

    name: str
    share: float
    low: float | None = None
    high: float | None = None

    @property
    def top(self) -> float:
        """Return how high it is drawn, its interval with it."""
        return self.share if self.high is None else max(self.share, self.high)


_SHOWN_POSITIONS = 20


def position_columns(positions: Mapping[int, int]) -> list[Bar]:
    """Return the share of the impressions at each position that was logged, the tail as one column.

    >>> position_columns({0: 50, 1: 30, 2: 10})
    [Bar(name='1', share=0.75, low=None, high=None), Bar(name='2', share=0.25, low=None, high=None)]
    """
    logged = {position: count for position, count in positions.items() if position > 0}
    if not logged:
        return []
    total = sum(logged.values())
    last = min(max(logged), _SHOWN_POSITIONS)
    columns = [Bar(str(position), logged.get(position, 0) / total) for position in range(1, last + 1)]
    if tail := sum(count for position, count in logged.items() if position > last):
        columns.append(Bar(f"{last + 1}+", tail / total))
    return columns


def examination_columns(examination: Sequence[Examination]) -> list[Bar]:
    """Return how much each rank is looked at, relative to the first."""
    return [Bar(str(each.rank), each.value, each.low, each.high) for each in examination]


class TwoWays(NamedTuple):
    """A rival that the model is compared with both by clicks and by coin pairs."""

    name: str
    version: str
    clicks: Delta | None
    coins: UnbiasedDelta


def two_ways(evidence: Evidence) -> list[TwoWays]:
    """Return the rivals that coin pairs compare with."""
    named = {"Champion": evidence.champion, f"Best of {RECENT_DAYS} days": evidence.best_recent}
    return [
        TwoWays(_rival(name, each).name, each.version or "", each.delta, each.unbiased)
        for name, each in named.items()
        if each and each.unbiased
    ]


def ends(compared: Iterable[TwoWays]) -> Iterator[float]:
    """Return every end of their intervals, for a common axis."""
    for each in compared:
        yield from (each.coins.low, each.coins.high)


def relevances(dataset: DatasetManifest) -> list[str]:
    """Return every relevance that occurs, ascending."""
    return sorted({relevance for part in _parts(dataset) for relevance in part.labels}, key=int)


def positions(dataset: DatasetManifest) -> tuple[list[Bar], int]:
    """Return the histogram of the positions of all parts, and how many impressions have none."""
    counts: Counter[int] = Counter()
    for part in _parts(dataset):
        counts.update({int(position): count for position, count in part.positions.items()})
    return position_columns(counts), counts[0]


def _parts(dataset: DatasetManifest) -> tuple[Part, Part, Part]:
    return dataset.train, dataset.valid, dataset.test
