"""What people did with the lists that each version showed: one record a day and version, measured and judged."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from ltr_pipeline.dataset.build import answered
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.errors import LtrError
from ltr_pipeline.mapping import Mapping as EventMapping
from ltr_pipeline.metrics.resampling import mean_intervals
from ltr_pipeline.monitoring.falls import FALL_MAX, FIGURES, judged
from ltr_pipeline.monitoring.forecast import foreseen
from ltr_pipeline.monitoring.records import Figure, Forecast, Outcomes
from ltr_pipeline.monitoring.shown import Shown, shown
from ltr_pipeline.schema import RATINGS
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.documents import is_id
from ltr_pipeline.versions.registry import Registry

__all__ = ["Promises", "measured", "outcomes", "promises_of", "windows_of"]

log = structlog.get_logger(__name__)

_SURE: Final = 1.96  # standard deviations of a 95 % interval

Promises = Callable[[str], Mapping[str, Figure]]
"""What the gate had measured for a version, by name; nothing where the version is not known."""


def windows_of(day: dt.date, age_days: int, skew_seconds: float = 0.0) -> Windows:
    """Return the window of the lists of one day, with feedback up to an age; all of it is over at the cutoff."""
    cutoff = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=1 + age_days)
    return Windows(cutoff=cutoff, window_days=1 + age_days, attribution_days=age_days, skew_seconds=skew_seconds)


def outcomes(
    data: Storage,
    partitions: Mapping[str, str],
    mapping: EventMapping,
    day: dt.date,
    *,
    attribution_days: int,
    age_days: int | None = None,
    skew_seconds: float = 0.0,
    promises: Promises | None = None,
    former: Sequence[Outcomes] = (),
    forecasts: Mapping[str, Forecast] | None = None,
    fall_max: float = FALL_MAX,
) -> list[Outcomes]:
    """Measure the lists that were shown on a day, by version, and judge them.

    Parameters
    ----------
    partitions
        Folders of the landed partitions and the SHA-256 of each manifest, that cover `windows_of` the day
        (`events.chain.partitions_for` of the window's cutoff and start).
    attribution_days
        Days for which feedback counts; then a day is matured.
    age_days
        Feedback counts up to this age instead, for an early look; None = matured.
    skew_seconds
        As `Windows` has it.
    promises
        What the gate had measured (`promises_of`); an early look has no use for it.
    former
        Outcomes of days before; those of the same age say what is usual.
    forecasts
        Of rows that a version scored on that day (`monitoring.forecast`), by version; only for a matured day.
    fall_max
        Relative fall above which a figure alerts, if its interval lies beyond half of it.

    Returns
    -------
    One record a version, that with most lists first; a version that only scored rows of a database has no lists. None
    where nothing has landed for that day.

    Raises
    ------
    DatasetError
        A partition has not landed whole, or a landed table cannot be read or was altered.
    """
    age = attribution_days if age_days is None else min(age_days, attribution_days)
    if not partitions:
        return []
    windows = windows_of(day, age, skew_seconds)
    buckets = list(answered(data, partitions, mapping, windows))
    lists, ratings = (pl.concat(getattr(one, table) for one in buckets) for table in ("lists", "ratings"))
    matured = age >= attribution_days
    stated = dict(forecasts or {}) if matured else {}
    found = [measured(one, day, age_days=age, matured=matured) for one in shown(lists, ratings, mapping.max_relevance)]
    found += [
        Outcomes(date=day, version=version, age_hours=24.0 * age, matured=True, lists=0)
        for version in sorted(stated.keys() - {one.version for one in found})
    ]
    promised = promises if promises and matured else lambda _version: {}
    return [foreseen(judged(one, promised(one.version), former, fall_max), stated.get(one.version)) for one in found]


def promises_of(registry: Registry) -> Promises:
    """Return what tells the gate's figures of each version, read from its document once."""
    known: dict[str, Mapping[str, Figure]] = {}

    def promised(version: str) -> Mapping[str, Figure]:
        if not is_id(version):
            return {}
        if version not in known:
            try:
                known[version] = _figures_of(registry.documents.stored(version).weights.metrics)
            except LtrError as error:  # pruned, of another registry, or altered: the figures stand without it
                log.warning("what the gate had promised is not known", version=version, error=str(error))
                known[version] = {}
        return known[version]

    return promised


def _figures_of(metrics: Mapping[str, Mapping[str, object]]) -> dict[str, Figure]:
    """Return the metrics of a document that outcomes have, too, as far as they are figures."""
    fields = ("value", "low", "high", "n")
    found = {}
    for name in FIGURES:
        with_fields = {field: metrics.get(name, {}).get(field) for field in fields}
        try:
            figure = msgspec.convert(with_fields | {"n": with_fields["n"] or 0}, Figure)
        except msgspec.ValidationError:
            continue
        if figure.value is not None:
            found[name] = figure
    return found


def measured(lists: Shown, day: dt.date, *, age_days: int, matured: bool) -> Outcomes:
    """Measure the lists of one version, with intervals by users."""
    eligible = ~np.isnan(lists.ndcg_at_5)
    return Outcomes(
        date=day,
        version=lists.version,
        age_hours=24.0 * age_days,
        matured=matured,
        lists=len(lists.asker),
        fallbacks=int(lists.fallback.sum()),
        ndcg_at_5=_figure(lists.ndcg_at_5[eligible], lists.asker[eligible]),
        hit_at_3=_share(lists.hit_at_3[eligible], lists.asker[eligible]),
        conversion=_share(lists.converted.astype(np.float64), lists.asker),
        satisfaction=_figure(lists.rating, lists.rater, RATINGS),
        unplaced=int((~lists.placed).sum()),
    )


def _figure(
    values: NDArray[np.float64], clusters: NDArray[np.int64], limits: tuple[float, float] = (0.0, 1.0)
) -> Figure | None:
    """Return a mean with its interval inside the limits; None of nothing, and no interval of too few users."""
    if not len(values):
        return None
    (found,) = mean_intervals(values[:, None], clusters) or (None,)
    return Figure(
        value=float(values.mean()),
        low=max(found.low, limits[0]) if found else None,
        high=min(found.high, limits[1]) if found else None,
        n=len(values),
    )


def _share(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> Figure | None:
    """Return a share with its interval, which holds Wilson's (1927), too: users who are all alike tell nothing."""
    figure = _figure(values, clusters)
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return figure
    n, z = figure.n, _SURE
    middle = (figure.value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(figure.value * (1 - figure.value) / n + (z / (2 * n)) ** 2)
    low, high = min(figure.low, middle - half), max(figure.high, middle + half)
    return msgspec.structs.replace(figure, low=max(low, 0.0), high=min(high, 1.0))
