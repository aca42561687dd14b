"""Which alerts stand, since when, and when people are told."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from ltr_pipeline.monitoring.alerts import standing
from ltr_pipeline.monitoring.records import Alert, DriftReport, Outcomes
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.storage.local import LocalStorage

FIRST = dt.date(2025, 7, 1)
PRICE = Alert(kind="drift", subject="price", what="price has moved")
AREA = Alert(kind="drift", subject="area", what="area has moved")
FELL = Alert(kind="outcome", subject="20250601_0215", what="conversion fell")
EARLY = Alert(kind="early", subject="20250601_0215", what="the first day looks bad")


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(LocalStorage(tmp_path))


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number)


def drift(history: History, number: int, *alerts: Alert) -> None:
    history.write(DriftReport(date=day(number), status="alert" if alerts else "fine", alerts=list(alerts)))


def outcome(history: History, number: int, age: float, *alerts: Alert) -> None:
    matured = age > 24
    found = Outcomes(date=day(number), version="v", age_hours=age, matured=matured, lists=9, alerts=list(alerts))
    history.write(found)


def test_an_alert_stands_since_the_first_look_in_a_row_that_found_it(history: History) -> None:
    for number, alerts in enumerate([[PRICE], [], [PRICE], [PRICE, AREA]]):
        drift(history, number, *alerts)
    found = standing(history, day(3))
    assert [(one.alert, one.since, one.looks) for one in found] == [(PRICE, day(2), 2), (AREA, day(3), 1)]
    assert [one.is_news for one in found] == [False, True]


def test_an_alert_that_is_gone_does_not_stand(history: History) -> None:
    drift(history, 0, PRICE)
    drift(history, 1)
    assert standing(history, day(1)) == []
    assert [one.alert for one in standing(history, day(0))] == [PRICE]


def test_a_day_without_a_look_neither_ends_nor_lengthens_it(history: History) -> None:
    drift(history, 0, PRICE)
    drift(history, 5, PRICE)
    assert [(one.since, one.looks) for one in standing(history, day(9))] == [(day(0), 2)]


def test_data_outcomes_and_early_looks_stand_each_by_their_own_days(history: History) -> None:
    drift(history, 9, PRICE)
    outcome(history, 8, 24.0, EARLY)
    outcome(history, 6, 72.0, FELL)
    assert [one.alert for one in standing(history, day(9))] == [PRICE, FELL, EARLY]
    outcome(history, 7, 72.0)
    assert [one.alert for one in standing(history, day(9))] == [PRICE, EARLY]


def test_people_are_told_of_it_again_after_a_week(history: History) -> None:
    news = []
    for number in range(16):
        drift(history, number, PRICE)
        (found,) = standing(history, day(number))
        news.append(found.is_news)
    assert [number for number, told in enumerate(news) if told] == [0, 7, 14]


def test_what_is_said_may_change_while_it_is_the_same_alert(history: History) -> None:
    drift(history, 0, PRICE)
    drift(history, 1, Alert(kind="drift", subject="price", what="price has moved further"))
    (found,) = standing(history, day(1))
    assert (found.looks, found.alert.what) == (2, "price has moved further")


def test_without_a_history_nothing_stands(history: History) -> None:
    assert standing(history, FIRST) == []
