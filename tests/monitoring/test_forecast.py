"""What was stated beside what happened, by hand: whose answers count for a row, and until when."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import polars as pl
import pytest

from ltr_pipeline.dataset.labels import FEEDBACK_TYPES, impression_types
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.monitoring.forecast import forecasts, foreseen
from ltr_pipeline.monitoring.records import Forecast, Outcomes

NOON = dt.datetime(2025, 7, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
STATED = {
    "version": pl.String,
    "query_id": pl.String,
    "item_id": pl.String,
    "user_id": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "probability": pl.Float64,
}


def row(probability: float | None, *, version: str = "v", at: dt.datetime = NOON, **ids: str) -> dict[str, Any]:
    return {"version": version, "time": at, "probability": probability} | {
        f"{name}_id": one for name, one in ids.items()
    }


def shown(user: str | None, query: str = "q", item: str = "i", hours: float = 1, ranking: str = "r") -> dict[str, Any]:
    return {
        "query_id": query,
        "ranking_id": ranking,
        "item_id": item,
        "user_id": user,
        "time": NOON + hours * HOUR,
    }


def said(
    user: str | None,
    action: str | None = "won",
    query: str = "q",
    item: str = "i",
    hours: float = 2,
    ranking: str | None = "r",
) -> dict[str, Any]:
    return shown(user, query, item, hours) | {"action": action, "ranking_id": ranking}


def held(rows: list[Any], impressions: list[Any], feedback: list[Any] = [], days: int = 3) -> dict[str, Forecast]:  # noqa: B006
    """The forecasts, whichever way the events are cut into parts."""

    def parts(*cuts: tuple[list[Any], list[Any]]) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
        types = impression_types(()), FEEDBACK_TYPES
        return [tuple(map(pl.DataFrame, cut, types)) for cut in cuts]  # type: ignore[misc]

    probabilities = pl.DataFrame(rows, STATED)
    whole = forecasts(probabilities, parts((impressions, feedback)), load_mapping(), days)
    queries = sorted({one["query_id"] for one in [*impressions, *feedback]})
    cut = [
        tuple([one for one in some if one["query_id"] == query] for some in (impressions, feedback))
        for query in queries
    ]
    assert forecasts(probabilities, parts(*cut), load_mapping(), days) == whole  # type: ignore[arg-type]
    return whole


def test_the_sum_of_the_probabilities_beside_the_rows_that_were_answered() -> None:
    rows = [row(0.5, user="a"), row(0.3, user="b"), row(0.8, user="c"), row(0.9, user="nobody")]
    impressions = [shown("a"), shown("b", "q2"), shown("c", "q3"), shown("d", "q4")]
    feedback = [said("a"), said("a", "accepted"), said("b", "declined", "q2"), said("d", "won", "q4")]
    (found,) = held(rows, impressions, feedback).values()
    assert found == Forecast(
        rows=3,
        scored=4,
        expected=pytest.approx(1.6),
        happened=1,
        error=pytest.approx(0.6),
        chance=pytest.approx(math.sqrt(0.25 + 0.21 + 0.16)),
    )


def test_each_version_has_its_own() -> None:
    rows = [row(0.5, user="a"), row(0.25, user="a", version="w"), row(0.25, user="b", version="w")]
    found = held(rows, [shown("a"), shown("b", "q2")], [said("a")])
    assert {name: (one.rows, one.expected, one.happened) for name, one in found.items()} == {
        "v": (1, 0.5, 1),
        "w": (2, 0.5, 1),
    }


@pytest.mark.parametrize(
    ("hours", "counts"), [(-0.01, False), (0, True), (72, True), (72.01, False)], ids=["before", "at", "last", "after"]
)
def test_only_what_comes_after_a_row_was_scored_and_within_the_window_counts(hours: float, counts: bool) -> None:
    (found,) = held([row(0.5, user="a")], [shown("a", hours=hours)], [said("a", hours=hours)]).values()
    assert (found.rows, found.happened) == (int(counts), int(counts))


@pytest.mark.parametrize(
    ("ids", "rows", "happened"),
    [
        ({"query": "q"}, 1, 1),
        ({"item": "i"}, 1, 1),
        ({"user": "a"}, 1, 1),
        ({"query": "q", "item": "i"}, 1, 1),
        ({"query": "q", "item": "j"}, 1, 0),
        ({"query": "q2", "item": "i"}, 0, 0),
        ({"item": "j"}, 1, 0),
        ({}, 0, 0),
    ],
)
def test_a_row_is_of_the_ids_that_it_has(ids: dict[str, str], rows: int, happened: int) -> None:
    (found,) = held([row(0.5, **ids)], [shown("a"), shown("a", item="j")], [said("a")]).values()
    assert (found.scored, found.rows, found.happened) == (1, rows, happened)


@pytest.mark.parametrize(("ranking", "user"), [("r", None), (None, None), ("r2", None)])
def test_an_answer_without_a_user_is_that_of_its_list(ranking: str | None, user: str | None) -> None:
    (found,) = held([row(0.5, user="a")], [shown("a")], [said(user, ranking=ranking)]).values()
    assert found.happened == 1


def test_ratings_and_unknown_actions_are_no_positive_answers() -> None:
    feedback = [said("a", None) | {"rating": 5}, said("a", "rated") | {"rating": 5}, said("a", "lost")]
    (found,) = held([row(0.5, user="a")], [shown("a")], feedback).values()
    assert (found.rows, found.happened, found.error) == (1, 0, None)


def test_what_is_no_probability_does_not_count() -> None:
    rows = [row(value, user="a") for value in (math.nan, math.inf, -0.1, 1.1, None)]
    assert held(rows, [shown("a")]) == {}
    (found,) = held([*rows, row(0.0, user="a"), row(1.0, user="a")], [shown("a")]).values()
    assert (found.scored, found.expected, found.chance) == (2, 1.0, 0.0)


def test_nothing_stated_is_no_forecast_and_nothing_shown_is_no_row() -> None:
    assert held([], [shown("a")]) == {}
    (found,) = held([row(0.5, user="a")], []).values()
    assert found == Forecast(rows=0, scored=1, expected=0.0, happened=0, error=None, chance=0.0)


def stated(expected: float, happened: int, chance: float = 5.0) -> Forecast:
    error = abs(expected - happened) / happened if happened else None
    return Forecast(rows=1000, scored=1200, expected=expected, happened=happened, error=error, chance=chance)


@pytest.mark.parametrize(
    ("forecast", "alerts"),
    [
        (stated(100, 100), []),
        (stated(119, 100), []),
        (stated(125, 100), ["calibration"]),
        (stated(75, 100), ["calibration"]),
        (stated(125, 100, chance=10), []),  # 2.5 standard deviations
        (stated(9, 1, chance=1), []),  # too few
        (stated(40, 0), ["calibration"]),
        (stated(0, 0, chance=0), []),
        (stated(0.4, 40, chance=0.6), ["calibration"]),
    ],
)
def test_a_forecast_far_from_what_came_alerts(forecast: Forecast, alerts: list[str]) -> None:
    now = Outcomes(date=NOON.date(), version="v", age_hours=72.0, matured=True, lists=0)
    found = foreseen(now, forecast)
    assert found.forecast == forecast
    assert [alert.kind for alert in found.alerts] == alerts
    assert foreseen(now, None) == now


def test_an_alert_says_what_was_stated_and_what_came() -> None:
    now = Outcomes(date=NOON.date(), version="v", age_hours=72.0, matured=True, lists=0)
    (alert,) = foreseen(now, stated(125, 100)).alerts
    assert alert.what == (
        "Of 1,000 rows that v scored on 2025-07-01, 125 were to be answered positively, and 100 were, an error of "
        "25 %. 20 % is allowed."
    )
    (alert,) = foreseen(now, stated(40, 0)).alerts
    assert "40 were to be answered positively, and 0 were. 20 %" in alert.what
