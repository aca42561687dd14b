"""What scores in a database stated, beside what came of the rows.

A version's probability is that of a positive answer to an impression. So of the rows that it scored on a day, those
count that were shown, or who were shown something, before the attribution window was over; and such a row was answered
when there was a positive answer of it, or to it, in that time.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from typing import Final

import msgspec
import polars as pl

from ltr_pipeline.mapping import Mapping
from ltr_pipeline.monitoring.records import Alert, Forecast, Outcomes
from ltr_pipeline.schema import ACTION, ITEM_ID, QUERY_ID, RANKING_ID, TIME, USER_ID

__all__ = ["ERROR_MAX", "LEAST_EXPECTED", "forecasts", "foreseen"]

ERROR_MAX: Final = 0.2
"""Absolute percentage error of a forecast above which it alerts."""

LEAST_EXPECTED: Final = 10.0
"""Positive answers that a forecast must expect, or have, before it is judged."""

_SURE: Final = 2.58  # standard deviations of a 99 % interval: a forecast is judged every day
_IDS: Final = (QUERY_ID, ITEM_ID, USER_ID)


def forecasts(
    stated: pl.DataFrame,
    events: Iterable[tuple[pl.DataFrame, pl.DataFrame]],
    mapping: Mapping,
    attribution_days: int,
) -> dict[str, Forecast]:
    """Hold the probabilities that each version gave against what happened.

    Parameters
    ----------
    stated
        A row a probability: ``version``, the ids of whom it is (`QUERY_ID`, `ITEM_ID`, `USER_ID`; null = any), `TIME`
        and ``probability``; what is no probability does not count.
    events
        Impressions that people saw and their interactions, in parts (`dataset.build.events`), of the days until the
        attribution windows of all rows are over.
    mapping
        Says which answers are positive.

    Returns
    -------
    By version; none for one that gave no probability.
    """
    rows = stated.filter(pl.col("probability").is_between(0, 1)).with_row_index("row")
    if rows.is_empty():
        return {}
    keys = [(ids, some) for ids, some in _by_ids(rows)]
    window = dt.timedelta(days=attribution_days)
    seen: set[int] = set()
    answered: set[int] = set()
    for impressions, feedback in events:
        positive = _positive(feedback, impressions, mapping)
        for ids, some in keys:
            answers = _rows_of(some, positive, ids, window)
            seen |= _rows_of(some, impressions, ids, window) | answers
            answered |= answers
    told = rows.with_columns(seen=pl.col("row").is_in(sorted(seen)), answered=pl.col("row").is_in(sorted(answered)))
    return {str(version): _forecast(of_version) for (version,), of_version in told.group_by("version")}


def _by_ids(rows: pl.DataFrame) -> Iterable[tuple[list[str], pl.DataFrame]]:
    """Yield the rows that have the same ids, with these."""
    for has, some in rows.group_by(pl.col(name).is_not_null().alias(f"has_{name}") for name in _IDS):
        ids = [name for name, there in zip(_IDS, has, strict=True) if there]
        if ids:
            yield ids, some.select("row", *ids, pl.col(TIME).alias("scored_at"))


def _positive(feedback: pl.DataFrame, impressions: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Return the positive answers, each with its user: that of the list where the answer does not say."""
    actions = [action for action, relevance in mapping.relevance.items() if relevance >= mapping.least_positive]
    positive = feedback.filter(pl.col(ACTION).is_in(actions)).select(*_IDS, RANKING_ID, TIME)
    known = impressions.filter(pl.col(USER_ID).is_not_null())
    of_list, of_query = (
        known.group_by(keys).agg(pl.col(USER_ID).first().alias(name))
        for keys, name in (([QUERY_ID, RANKING_ID], "of_list"), ([QUERY_ID], "of_query"))
    )
    named = positive.join(of_list, on=[QUERY_ID, RANKING_ID], how="left").join(of_query, on=QUERY_ID, how="left")
    return named.with_columns(pl.coalesce(USER_ID, "of_list", "of_query").alias(USER_ID))


def _rows_of(rows: pl.DataFrame, events: pl.DataFrame, ids: list[str], window: dt.timedelta) -> set[int]:
    """Return the rows that have an event after they were scored, within the window."""
    met = rows.join(events.select(*ids, TIME), on=ids, how="inner")
    within = met.filter(pl.col(TIME).is_between(pl.col("scored_at"), pl.col("scored_at") + window))
    return set(within["row"].unique().to_list())


def _forecast(rows: pl.DataFrame) -> Forecast:
    seen = rows.filter("seen")
    share, happened = seen["probability"], int(seen["answered"].sum())
    expected = float(share.sum())
    return Forecast(
        rows=seen.height,
        scored=rows.height,
        expected=expected,
        happened=happened,
        error=abs(expected - happened) / happened if happened else None,
        chance=math.sqrt(float((share * (1 - share)).sum())),
    )


def foreseen(now: Outcomes, forecast: Forecast | None) -> Outcomes:
    """Add to outcomes what scores in a database stated, and an alert where that is far from what came.

    It alerts where the error is above `ERROR_MAX`, the difference more than chance explains, and there are enough
    positive answers to tell.
    """
    if forecast is None:
        return now
    missed = abs(forecast.expected - forecast.happened)
    far = forecast.error is None or forecast.error > ERROR_MAX
    enough = max(forecast.expected, forecast.happened) >= LEAST_EXPECTED
    if not (far and enough and missed > _SURE * forecast.chance):
        return msgspec.structs.replace(now, forecast=forecast)
    by = "" if forecast.error is None else f", an error of {100 * forecast.error:.0f} %"
    alert = Alert(
        kind="calibration",
        subject=now.version,
        what=(
            f"Of {forecast.rows:,} rows that {now.version} scored on {now.date}, {forecast.expected:,.0f} were to be "
            f"answered positively, and {forecast.happened:,} were{by}. {100 * ERROR_MAX:g} % is allowed."
        ),
        remedy="Look at the drift of that day; a version of the next night is calibrated on newer answers.",
    )
    return msgspec.structs.replace(now, forecast=forecast, alerts=[*now.alerts, alert])
