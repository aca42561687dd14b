"""Features of a day beside those of its references: which have changed, how, and which cannot be told."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ltr_pipeline.metrics.drift import Comparison, Difference, compare
from ltr_pipeline.monitoring.drift_rows import Seen
from ltr_pipeline.monitoring.records import Alert, Distribution, FeatureDrift
from ltr_pipeline.monitoring.references import Former
from ltr_pipeline.printable import significant

__all__ = ["LEAST_ROWS", "LEVEL", "Settled", "decided", "feature_drift", "in_words", "matters", "watched"]

LEAST_ROWS: Final = 500
"""Rows below which neither a day nor a reference is judged: PSI is mostly noise there."""

LEVEL: Final = 0.15
"""Probability that is spent on the tests of all features of a day; each gets an equal part of it.

It is that of a test against one reference. As all references have to agree, and the difference has to matter, there are
far fewer false alarms than 0.15 a night: `benchmarks/drift.py` has the figures.
"""

LEAST_KS: Final = 0.05
LEAST_PSI: Final = 0.02
LEAST_MISSING: Final = 0.01
"""A difference matters from one of the first two on, in every reference; one of the share that is missing from the
last: a shift by 0.2 standard deviations makes a distance of 0.08, one by 0.1 makes 0.04."""

LEAST_VALUES: Final = 100
"""Values of a day below which it is not told whether they are higher or wider: the tests take sums to be normal."""

LEAST_IMPORTANCE: Final = 0.02
"""Share of the gain of the model in use below which a feature is shown and alerts of nothing; half of what each would
have if all had the same, where that is less."""

_VANISHED: Final = 0.05  # share of former rows with a value, from which on a day without any is remarkable
_FRACTIONS: Final = 0.05  # share of rows with a fraction, from which on whole numbers alone are another type
_NOT_BY_CHANCE: Final = 7  # users or lists with a fraction, as many as are expected and none is: e^-7 is 0.1 %


@dataclass(frozen=True)
class Settled:
    """What is settled before a feature is looked at.

    Attributes
    ----------
    today
        The day, as an ordinal.
    references
        At least one.
    single
        Why there is only one reference, so that no difference alerts; empty where there are more.
    level
        Part of `LEVEL` that each feature gets.
    """

    today: int
    references: Sequence[Former]
    single: str
    level: float


def watched(names: Sequence[str], importance: Mapping[str, float] | None) -> list[str]:
    """Return the features whose change alerts: those that the model in use needs, or all where there is none."""
    if not importance:
        return list(names)
    return [name for name in names if importance.get(name, 0.0) >= _least(len(names))]


def _least(features: int) -> float:
    return min(LEAST_IMPORTANCE, 0.5 / max(features, 1))


def feature_drift(
    seen: Seen, column: int, settled: Settled, importance: Mapping[str, float] | None
) -> tuple[FeatureDrift, Alert | None, float]:
    """Compare one feature; return what is said of it, the alert that it makes, and its design effect (1 = unknown)."""
    name = seen.names[column]
    share = importance.get(name, 0.0) if importance else None
    found, alert, design = _Feature(seen, column, settled).judged()
    if alert is not None and share is not None and share < _least(len(seen.names)):
        why = f"{alert.what}; it holds {_percent(share)} of the gain of the model in use, so nobody is told"
        found, alert = replace(found, status="fine", reason=why), None
    return replace(found, importance=share), alert, design


class _Feature:
    """One feature on a day."""

    def __init__(self, seen: Seen, column: int, settled: Settled) -> None:
        self.name = seen.names[column]
        self.values = seen.matrix[:, column]
        self.seen = seen
        self.settled = settled
        self.began = seen.began(column, settled.today)
        self.there = ~np.isnan(self.values)
        self.now = seen.rows.day == settled.today
        self.missing = float(1 - self.there[self.now].mean())
        before = seen.rows.on(np.array(settled.references[0].days))
        self.reference_missing = float(1 - self.there[before].mean())

    def judged(self) -> tuple[FeatureDrift, Alert | None, float]:
        references = self.references_since_it_began()
        if self.name in self.seen.unreadable:
            return self.not_evaluable(self.seen.unreadable[self.name]), None, 1.0
        if self.missing == 1 and self.reference_missing == 1:
            return self.not_evaluable("it has no value, neither on this day nor in those before"), None, 1.0
        if self.missing == 1 and self.reference_missing <= 1 - _VANISHED:
            return *self.vanished(), 1.0
        if not references:
            return self.not_evaluable(self.new()), None, 1.0
        if self.missing == 1 or not any(self.there[self.seen.rows.on(np.array(one.days))].any() for one in references):
            return self.not_evaluable("hardly any row had a value before"), None, 1.0
        return self.compared(references)

    def references_since_it_began(self) -> list[Former]:
        """Return the references without days before the feature had its first value; none where too little is left."""
        kept = [one._replace(days=[day for day in one.days if day >= self.began]) for one in self.settled.references]
        enough = (one.days and self.seen.rows.on(np.array(one.days)).sum() >= LEAST_ROWS for one in kept)
        return kept if all(enough) else []

    def new(self) -> str:
        began = dt.date.fromordinal(self.began)
        return f"it is new: it has values since {began}, too few days to compare with"

    def vanished(self) -> tuple[FeatureDrift, Alert]:
        words = self.settled.references[0].words
        what = (
            f"{self.name} has vanished: no row has a value, against {_percent(1 - self.reference_missing)} of the rows "
            f"in {words}"
        )
        remedy = "Restore it where it is made, or take it out of the mapping and let the next night train without it."
        drift = FeatureDrift(
            name=self.name,
            status="alert",
            reason="it has vanished",
            missing=self.missing,
            reference_missing=self.reference_missing,
        )
        return drift, Alert(kind="drift", subject=self.name, what=what, remedy=remedy)

    def not_evaluable(self, reason: str) -> FeatureDrift:
        return FeatureDrift(
            name=self.name,
            status="not_evaluable",
            reason=reason,
            missing=self.missing,
            reference_missing=self.reference_missing,
        )

    def compared(self, references: Sequence[Former]) -> tuple[FeatureDrift, Alert | None, float]:
        found = compare(self.values, self.seen.rows, self.settled.today, {one.name: one.days for one in references})
        told = None if self.settled.single else decided(found, self.settled.level)
        type_changed = self.type_changed(references[0])
        what = type_changed or (self.in_words(told, found, references) if told else "")
        alert = None
        if what:
            alert = Alert(kind="drift", subject=self.name, what=what, remedy=_REMEDY.format(name=self.name))
        status = "alert" if alert else "not_evaluable" if self.settled.single else "fine"
        drift = FeatureDrift(
            name=self.name,
            status=status,  # type: ignore[arg-type]  # a word of its Literal
            reason=what or self.settled.single or self.constant(),
            psi=_finite(found.psi),
            ks=_finite(found.ks),
            missing=found.missing,
            reference_missing=self.reference_missing,
            distribution=distribution(found),
            p=probability(found),
        )
        return drift, alert, found.design

    def constant(self) -> str:
        values = np.unique(self.values[self.now & self.there])
        return f"it is constant: every value is {values[0]:g}" if len(values) == 1 else ""

    def type_changed(self, reference: Former) -> str:
        """Say whether fractions have become whole numbers, or whole numbers fractions."""
        now, before = self.fractions(self.now), self.fractions(self.seen.rows.on(np.array(reference.days)))
        if _turned_whole(before, now):
            return (
                f"{self.name} has changed its type: all its values are whole numbers, and {_percent(before.share)} had "
                f"a fraction in {reference.words}"
            )
        if _turned_whole(now, before):
            return (
                f"{self.name} has changed its type: {_percent(now.share)} of its values have a fraction, and all were "
                f"whole numbers in {reference.words}"
            )
        return ""

    def fractions(self, rows: NDArray[np.bool_]) -> _Fractions:
        values = self.values[rows & self.there]
        share = float((values != np.floor(values)).mean()) if len(values) else 0.0
        return _Fractions(share, len(np.unique(self.seen.rows.code[rows & self.there])))

    def in_words(self, told: Difference, found: Comparison, references: Sequence[Former]) -> str:
        """Say what has changed, with its figures."""
        if told.kind == "missing":
            shares = (f"{_percent(found.reference_missing[one.name])} in {one.words}" for one in references)
            return f"{self.name} is missing in {_percent(found.missing)} of the rows, against {' and '.join(shares)}"
        days = [self.now, *(self.seen.rows.on(np.array(one.days)) for one in references)]
        spans = [np.quantile(self.values[rows & self.there], (0.25, 0.5, 0.75)) for rows in days]
        if told.kind == "location":
            said = f"{self.name} is {'higher' if told.rises else 'lower'}: its median is "
            figures = [significant(middle) for _, middle, _ in spans]
        else:
            said = f"{self.name} is spread {'wider' if told.rises else 'narrower'}: half of its values lie between "
            figures = [f"{significant(low)} and {significant(high)}" for low, _, high in spans]
        against = (f"{figure} in {one.words}" for figure, one in zip(figures[1:], references, strict=True))
        return f"{said}{figures[0]}, against {'; '.join(against)} ({in_words(found, references)})"


_REMEDY: Final = (
    "Look at where {name} is made. If the change is meant, declare the days, or let the next nights learn it: the "
    "references take it up within four weeks."
)


def decided(found: Comparison, level: float) -> Difference | None:
    """Return the first difference that chance does not explain at a level, and that matters; None without one."""
    sure = (one for one in found.differences if found.tests * one.p <= level)
    return next((one for one in sure if matters(one, found)), None)


def matters(difference: Difference, found: Comparison) -> bool:
    """Tell whether a difference is large enough, in every reference, to trouble anybody."""
    if difference.kind == "missing":
        return all(abs(found.missing - before) >= LEAST_MISSING for before in found.reference_missing.values())
    if found.counts[:-1].sum() < LEAST_VALUES:
        return False
    return all(found.ks[name] >= LEAST_KS or found.psi[name] >= LEAST_PSI for name in found.ks)


def probability(found: Comparison) -> float:
    """Return the least probable difference's p, corrected for the number of tests (Bonferroni)."""
    return min(found.tests * found.differences[0].p, 1.0)


def in_words(found: Comparison, references: Sequence[Former]) -> str:
    """Return the distances of a comparison in words."""
    ks, psi = (" and ".join(f"{by[one.name]:.2f}" for one in references) for by in (found.ks, found.psi))
    return f"KS distance {ks}, PSI {psi}"


def distribution(found: Comparison) -> Distribution:
    """Return the histograms of a comparison; of the outer bins, those that are empty in both are left out."""
    edges, rows = [float(f"{edge:.7g}") for edge in found.edges], np.stack([found.reference_counts, found.counts])
    if len(edges) > 1 and not rows[:, 0].any():
        edges, rows = edges[1:], rows[:, 1:]
    if len(edges) > 1 and not rows[:, -2].any():
        edges, rows = edges[:-1], np.delete(rows, -2, axis=1)
    reference, current = (rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)).round(5).tolist()
    return Distribution(edges=edges, reference=reference, current=current)


def _finite(by: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in by.items() if math.isfinite(value)}


class _Fractions(NamedTuple):
    """Share of some values that have a fraction, and how many clusters they are of."""

    share: float
    clusters: int


def _turned_whole(some: _Fractions, others: _Fractions) -> bool:
    """Tell whether some values have fractions, and others, which are enough to have them, too, have none."""
    expected = some.share * min(some.clusters, others.clusters)
    return some.share >= _FRACTIONS and others.share == 0 and expected >= _NOT_BY_CHANCE


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
