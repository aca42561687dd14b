"""Drift of the data of one day: what was shown on it, beside what was shown on former days.

Everything is compared with two references, the `TRAILING_DAYS` before and the same weekday among them, and an alert
needs both: the former alone cries out on every Saturday, and the latter has few days. A day that is a declared event is
compared with the same event of former years instead of its weekday. Where there is only one reference, in the first
week of a log or on an event day without a former year, figures are shown, and nothing alerts but what needs no second
one: a feature that vanishes or changes its type, and what is wrong with clocks and types of messages.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from collections.abc import Mapping as Partitions
from collections.abc import Mapping as Shares
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.mapping import Mapping
from ltr_pipeline.monitoring.arrivals import arrival_alerts
from ltr_pipeline.monitoring.domain import (
    MOST_CURRENT,
    MOST_REFERENCE,
    Sides,
    by_rank,
    domain_drift,
    some_clusters,
)
from ltr_pipeline.monitoring.drift_features import LEAST_ROWS, LEVEL, Settled, feature_drift, watched
from ltr_pipeline.monitoring.drift_measures import MEASURES, measure_drift
from ltr_pipeline.monitoring.drift_rows import Column, Seen, read_seen
from ltr_pipeline.monitoring.records import Alert, DomainDrift, DriftReport, FeatureDrift, MeasureDrift, Reference
from ltr_pipeline.monitoring.references import TRAILING_DAYS, Former, days_before, references
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.storage.base import Storage

__all__ = ["LEAST_AUC", "TRAILING_DAYS", "drift_report", "report_of"]

LEAST_AUC: Final = 0.55
"""An area under the curve of the domain classifier alerts when its whole 95 % interval lies above this, and that of
the ranks does, too."""

_EXPLAINED: Final = 0.5
"""Share of what the classifier goes by, from which on features that alert by themselves explain it."""


def drift_report(
    data: Storage,
    partitions: Partitions[str, str],
    mapping: Mapping,
    date: dt.date,
    *,
    scorer: Scorer | None = None,
    importance: Shares[str, float] | None = None,
    events: Sequence[str] = (),
    left_out: Collection[dt.date] = (),
    former: Collection[dt.date] = (),
    sources: Sources | None = None,
    lookback: int = 3,
    skew_seconds: float = 0.0,
) -> DriftReport:
    """Compare what was shown on a day (UTC, by the time of the events) with what was shown before.

    It is a function of its arguments and of what has landed, so a task that is tried again reports the same; but for
    feature tables of the mapping, which are read as they are now, and joined as of the moment each list was shown.

    Parameters
    ----------
    partitions
        Folders of landed tables that have the day, the `TRAILING_DAYS` before, `lookback` days more, and the days of
        `former`; with each the SHA-256 of its manifest, empty = any (`events.chain.partitions_for`).
    scorer
        The model in use, whose scores are compared; None: they are not.
    importance
        Share of the gain of that model by feature; None: every feature alerts.
    events
        Names of the declared events of the day.
    left_out
        Days that belong in no reference: other declared events.
    former
        Days of the same event in former years.
    sources
        How feature tables are reached; None = files on disk, and S3 as boto3 finds it.
    lookback
        Days that feedback may come later than its list (attribution).
    skew_seconds
        As in `dataset.windows.Windows`.

    Raises
    ------
    DatasetError
        A partition has not landed whole, or a landed table cannot be read or was altered.
    """
    days = {date, *days_before(date, left_out), *former}
    if not partitions:
        return DriftReport(date=date, status="not_evaluable", reason="nothing has landed", events=list(events))
    seen = read_seen(data, partitions, mapping, days, lookback=lookback, sources=sources, skew_seconds=skew_seconds)
    return report_of(
        seen,
        date,
        scorer=scorer,
        importance=importance,
        events=events,
        left_out=left_out,
        former=former,
        alerts=arrival_alerts(data, list(partitions), date),
    )


def report_of(
    seen: Seen,
    date: dt.date,
    *,
    scorer: Scorer | None = None,
    importance: Shares[str, float] | None = None,
    events: Sequence[str] = (),
    left_out: Collection[dt.date] = (),
    former: Collection[dt.date] = (),
    alerts: Sequence[Alert] = (),
) -> DriftReport:
    """Compare a day with its references: `drift_report` without reading; a pure function.

    Parameters
    ----------
    alerts
        Of what arrived, which the report takes up.
    """
    against = references(date, seen.days, left_out, former)
    rows, lists = seen.totals.get(date.toordinal(), (0, 0))
    report = _Report(seen, date, against, importance, bool(events))
    why = report.not_evaluable()
    features = report.features(why)
    measures = [] if why else report.measures(scorer)
    domain = [] if why else report.domain()
    every = [*alerts, *report.alerts]
    return DriftReport(
        date=date,
        status="alert" if every else "not_evaluable" if why or report.single else "fine",
        reason=why or report.single,
        rows=rows,
        rankings=lists,
        references=[report.reference(one) for one in against],
        features=features,
        domain=domain,
        measures=measures,
        alerts=every,
        events=list(events),
    )


class _Report:
    """A report that is being made.

    Attributes
    ----------
    single
        Why nothing alerts by its distribution: there is only one reference; empty where there are two.
    alerts
        Those that were found so far.
    design
        Of each feature, float64 (f,).
    comparable
        Features that the classifier may go by, bool (f,): those that could be compared, and were there when the
        references begin. By another a day is told apart whatever it is like, as it has a value where none was, or none
        where there was one.
    """

    def __init__(
        self,
        seen: Seen,
        date: dt.date,
        against: Sequence[Former],
        importance: Shares[str, float] | None,
        declared: bool,
    ) -> None:
        self.seen = seen
        self.date = date
        self.today = date.toordinal()
        self.against = against
        self.importance = importance
        self.single = self._single(declared=declared)
        self.alerts: list[Alert] = []
        self.design = np.ones(len(seen.names))
        self.comparable = np.zeros(len(seen.names), dtype=bool)

    def _single(self, *, declared: bool) -> str:
        names = {one.name for one in self.against}
        if declared and "event" not in names:
            return (
                "the day is a declared event of which there is no former year to compare with, so its figures are "
                "shown and do not alert"
            )
        if names == {"event"}:
            return (
                f"nothing was shown in the {TRAILING_DAYS} days before {self.date}, so figures are those of the "
                "event's former years alone, are shown and do not alert"
            )
        if len(names) == 1:
            return (
                f"no {self.date:%A} before has any list, and other days alone cannot tell a change from a weekday, so "
                f"its figures are shown and do not alert; from {self.date + dt.timedelta(days=7)} on they can"
            )
        return ""

    def not_evaluable(self) -> str:
        """Say why the day cannot be compared at all; empty where it can."""
        rows = int((self.seen.rows.day == self.today).sum())
        if not rows:
            return f"no list was shown on {self.date}"
        if rows < LEAST_ROWS:
            return f"{rows:,} impressions were shown on {self.date}; it takes {LEAST_ROWS:,} to compare"
        if not self.against:
            return f"nothing was shown in the {TRAILING_DAYS} days before {self.date}"
        for one in self.against:
            rows = int(self.seen.rows.on(np.array(one.days)).sum())
            if rows < LEAST_ROWS:
                return f"{rows:,} impressions were shown in {one.words}; it takes {LEAST_ROWS:,} to compare"
        return ""

    def reference(self, one: Former) -> Reference:
        totals = [self.seen.totals.get(day, (0, 0)) for day in one.days]
        return Reference(
            name=one.name,
            first=dt.date.fromordinal(one.days[0]),
            last=dt.date.fromordinal(one.days[-1]),
            days=len(one.days),
            rows=sum(rows for rows, _ in totals),
            rankings=sum(lists for _, lists in totals),
        )

    def features(self, why: str) -> list[FeatureDrift]:
        if why:
            return [FeatureDrift(name=name, status="not_evaluable", reason=why) for name in self.seen.names]
        level = LEVEL / max(len(watched(self.seen.names, self.importance)), 1)
        settled = Settled(self.today, self.against, self.single, level)
        found = []
        for column in range(len(self.seen.names)):
            drift, alert, self.design[column] = feature_drift(self.seen, column, settled, self.importance)
            self.comparable[column] = drift.distribution is not None and self._was_there(column)
            found.append(drift)
            self.alerts += [alert] if alert else []
        return found

    def _was_there(self, column: int) -> bool:
        """Tell whether a feature had a value by the first day of the references."""
        return self.seen.began(column, self.today) <= min(one.days[0] for one in self.against)

    def measures(self, scorer: Scorer | None) -> list[MeasureDrift]:
        columns = dict(self.seen.measures)
        if scorer:
            columns["scores"] = Column(_scores(self.seen, scorer), self.seen.rows)
        found = []
        for name in MEASURES:
            if name in columns:
                drift, alert = measure_drift(name, columns[name], self.today, self._with(columns[name]), self.single)
                found.append(drift)
                self.alerts += [alert] if alert else []
        return found

    def _with(self, column: Column) -> list[Former]:
        """Return the references, with the days on which the column has rows."""
        known = set(column.rows.days.tolist())
        return [one._replace(days=[day for day in one.days if day in known]) for one in self.against]

    def domain(self) -> list[DomainDrift]:
        wanted = set(watched(self.seen.names, self.importance))
        columns = [place for place, name in enumerate(self.seen.names) if name in wanted and self.comparable[place]]
        if not columns:
            return []
        sides: dict[str, Sides] = {one.name: self._sides(one, columns) for one in self.against}
        found = [domain_drift(name, of, self.today) for name, of in sides.items()]
        if self.single or not all(map(_apart, found)) or self._explained(found):
            return found
        ranked = (domain_drift(one.reference, by_rank(sides[one.reference], self.today), self.today) for one in found)
        found = [replace(one, together=of_ranks.auc) for one, of_ranks in zip(found, ranked, strict=True)]
        if all(one.together and (one.together.low or 0) > LEAST_AUC for one in found):
            self.alerts.append(self._told_apart(found))
        return found

    def _sides(self, one: Former, columns: list[int]) -> Sides:
        rows = self.seen.rows
        now, before = (np.flatnonzero(rows.on(np.array(days))) for days in ([self.today], one.days))
        now = now[some_clusters(rows.code[now], MOST_CURRENT, self.today)]
        before = before[some_clusters(rows.code[before], MOST_REFERENCE, self.today)]
        return Sides(
            self.seen.matrix[before][:, columns],
            self.seen.matrix[now][:, columns],
            self.seen.asker[np.concatenate([before, now])],
            [self.seen.names[place] for place in columns],
            self.design[columns],
        )

    def _explained(self, apart: Sequence[DomainDrift]) -> bool:
        """Tell whether the classifier goes by features that alert by themselves."""
        told = {alert.subject for alert in self.alerts}
        return all(sum(share for name, share in one.leading.items() if name in told) >= _EXPLAINED for one in apart)

    def _told_apart(self, apart: Sequence[DomainDrift]) -> Alert:
        words = {one.name: one.words for one in self.against}
        figures = (f"{one.auc.value:.3f} against {words[one.reference]}" for one in apart)  # type: ignore[index]
        leading = ", ".join(list(apart[0].leading)[:3])
        return Alert(
            kind="drift",
            subject="all features together",
            what=(
                f"features go together otherwise than before: a classifier tells this day's rows from former ones, its "
                f"area under the curve is {' and '.join(figures)} (0.5 = they are alike); it goes by {leading}"
            ),
            remedy=f"Look at how {leading} go together now: one may be made from another, or from other rows.",
        )


def _apart(one: DomainDrift) -> bool:
    return one.auc.low is not None and one.auc.low > LEAST_AUC


def _scores(seen: Seen, scorer: Scorer) -> NDArray[np.float32]:
    """Score the sample; a feature that the mapping has no more is missing."""
    place = {name: column for column, name in enumerate(seen.names)}
    matrix = np.full((len(seen.matrix), len(scorer.features)), np.nan, dtype=np.float32)
    for column, name in enumerate(scorer.features):
        if name in place:
            matrix[:, column] = seen.matrix[:, place[name]]
    return scorer.score(matrix).astype(np.float32)
