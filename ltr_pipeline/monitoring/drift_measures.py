"""Labels, positions, list lengths, scores and shares of a day beside those of its references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.drift import Comparison, compare
from ltr_pipeline.monitoring.drift_features import LEAST_ROWS, decided, in_words, probability
from ltr_pipeline.monitoring.drift_rows import Column
from ltr_pipeline.monitoring.records import Alert, MeasureDrift
from ltr_pipeline.monitoring.references import Former
from ltr_pipeline.printable import significant

__all__ = ["LEAST_EVENTS", "LEVEL_OF_MEASURES", "MEASURES", "measure_drift"]

LEVEL_OF_MEASURES: Final = 0.05
"""As `drift_features.LEVEL`, spent on all measures."""

LEAST_EVENTS: Final = 100
"""Lists or interactions below which their lengths, and the share that joins, are not judged."""

LEAST_SHARE: Final = 0.02
"""Difference of a share that matters, from 0 to 1."""

LEAST_CHANGE_OF_LABELS: Final = 0.2
"""Change of the mean label that matters, relative to what it was."""

MEASURES: Final = {
    "labels": "the mean label by the end of the day",
    "positions": "the mean position",
    "list_length": "the mean length of a list",
    "scores": "the mean score of the model in use",
    "unavailable_share": "the share of shown items that were unavailable",
    "joined_share": "the share of interactions that belong to an impression",
}
"""What is compared beside features, and how sentences speak of its mean."""

_REMEDIES: Final = {
    "labels": "Look at whether feedback arrives as before; if it does, people act otherwise, and a retrain learns it.",
    "positions": "Look at what logs positions, and at what shows the lists.",
    "list_length": "Look at what chooses the candidates of a list.",
    "scores": "Look at the features that have changed; if none has, at which version ranks.",
    "unavailable_share": "Look at the stock: what cannot be had is shown, gets no answer, and is not learned from.",
    "joined_share": "Look at the ids that feedback is sent with: what finds no impression is not learned from.",
}
_SHARES: Final = ("unavailable_share", "joined_share")
_EVENTS: Final = ("list_length", "joined_share")


def measure_drift(
    name: str, column: Column, today: int, references: Sequence[Former], single: str
) -> tuple[MeasureDrift, Alert | None]:
    """Compare one measure of a day with that of its references; return what is said of it, and the alert it makes.

    Parameters
    ----------
    single
        Why there is only one reference, so that no difference alerts; empty where there are more.
    """
    now = column.values[column.rows.day == today]
    former: dict[str, NDArray[np.float32]] = {
        one.name: column.values[column.rows.on(np.array(one.days))] for one in references
    }
    current, means = _mean(now), {key: mean for key, of in former.items() if (mean := _mean(of)) is not None}
    if current is None and not means:
        return MeasureDrift(name=name, status="not_evaluable", reason="it is not logged"), None
    if not means and any(map(len, former.values())):
        reason = "it is new: it was not logged in the days before"
        return MeasureDrift(name=name, status="not_evaluable", reason=reason, current=current), None
    least = LEAST_EVENTS if name in _EVENTS else LEAST_ROWS
    if min(len(now), *map(len, former.values())) < least:
        reason = f"there are {len(now):,} on this day, and {_fewest(former)} before; it takes {least:,}"
        found = MeasureDrift(name=name, status="not_evaluable", reason=reason, current=current, reference=means)
        return found, None
    compared = compare(column.values, column.rows, today, {one.name: one.days for one in references})
    alert = None if single else _alert(name, compared, references, current, means)
    found = MeasureDrift(
        name=name,
        status="alert" if alert else "not_evaluable" if single else "fine",
        reason=alert.what if alert else single,
        current=current,
        reference=means,
        distance=_differences(current, means) if name in _SHARES else compared.psi,
        p=probability(compared),
    )
    return found, alert


def _mean(values: NDArray[np.float32]) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean(dtype=np.float64)) if len(there) else None


def _fewest(former: dict[str, NDArray[np.float32]]) -> str:
    return f"{min(map(len, former.values())):,}"


def _differences(current: float | None, means: dict[str, float]) -> dict[str, float]:
    return {} if current is None else {name: current - mean for name, mean in means.items()}


def _alert(
    name: str, found: Comparison, references: Sequence[Former], current: float | None, means: dict[str, float]
) -> Alert | None:
    level = LEVEL_OF_MEASURES / len(MEASURES)
    told = _sure_and_large(name, found, level, current, means)
    if not told:
        return None
    if current is None or len(means) < len(references):
        here, before = found.missing, " and ".join(f"{share:.1%}" for share in found.reference_missing.values())
        what = f"{name} is missing in {here:.1%} of the rows, against {before} before"
    else:
        against = " and ".join(f"{_figure(name, means[one.name])} in {one.words}" for one in references)
        distances = "" if name in _SHARES else f" ({in_words(found, references)})"
        what = f"{MEASURES[name]} is {_figure(name, current)}, against {against}{distances}"
    return Alert(kind="drift", subject=name, what=what, remedy=_REMEDIES[name])


def _sure_and_large(name: str, found: Comparison, level: float, current: float | None, means: dict[str, float]) -> bool:
    """Tell whether chance does not explain a difference, and it matters as those of this measure do."""
    if name not in ("labels", *_SHARES) or current is None:
        return decided(found, level) is not None
    if probability(found) > level:
        return False
    if name == "labels":
        return all(abs(current - mean) >= LEAST_CHANGE_OF_LABELS * max(mean, 1e-9) for mean in means.values())
    return all(abs(current - mean) >= LEAST_SHARE for mean in means.values())


def _figure(name: str, mean: float) -> str:
    return f"{mean:.1%}" if name in _SHARES else significant(mean)
