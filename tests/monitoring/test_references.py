"""The days that a day is compared with."""

from __future__ import annotations

import datetime as dt

import pytest

from ltr_pipeline.monitoring.references import days_before, references

DAY = dt.timedelta(days=1)
TUESDAY = dt.date(2025, 7, 29)


def shown(days):
    return [day.toordinal() for day in days]


EVERY = [TUESDAY - 400 * DAY + n * DAY for n in range(401)]


def told(found):
    return {one.name: [dt.date.fromordinal(day) for day in one.days] for one in found}


def test_four_weeks_and_their_four_tuesdays():
    found = told(references(TUESDAY, shown(EVERY)))
    assert found["trailing"] == [TUESDAY - n * DAY for n in range(28, 0, -1)]
    assert found["weekday"] == [TUESDAY - n * DAY for n in (28, 21, 14, 7)]


def test_days_that_are_left_out_are_in_neither():
    event = TUESDAY - 7 * DAY
    found = told(references(TUESDAY, shown(EVERY), left_out=[event]))
    assert event not in found["trailing"]
    assert found["weekday"] == [TUESDAY - n * DAY for n in (28, 21, 14)]
    assert event not in days_before(TUESDAY, [event])


def test_days_without_lists_do_not_count():
    found = told(references(TUESDAY, shown([TUESDAY, TUESDAY - DAY, TUESDAY - 3 * DAY])))
    assert found == {"trailing": [TUESDAY - 3 * DAY, TUESDAY - DAY]}


def test_the_same_event_of_former_years_takes_the_place_of_the_weekday():
    former = [TUESDAY - 364 * DAY, TUESDAY - 2000 * DAY]  # of the latter nothing is left
    found = told(references(TUESDAY, shown(EVERY), former=former))
    assert list(found) == ["trailing", "event"]
    assert found["event"] == [TUESDAY - 364 * DAY]


@pytest.mark.parametrize(
    ("days", "words"),
    [(28, ["the 28 days before", "the 4 Tuesdays before"]), (7, ["the 7 days before", "the Tuesday before"])],
)
def test_sentences_speak_of_them_by_number(days, words):
    assert [one.words for one in references(TUESDAY, shown(EVERY[-days - 1 :]))] == words


def test_a_log_that_begins_today_has_none():
    assert references(TUESDAY, shown([TUESDAY])) == []
