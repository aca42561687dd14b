"""When a night trains: by the month, by outcomes, by hand, and what it says of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.monitoring.records import NightRecord, Outcomes
from ltr_pipeline.monitoring.retrain import VARIABLES, Due, Retrain, due
from ltr_pipeline.tuning import table
from support.programs import CHECKOUT
from support.watching import DAY, outcome, trained

MADE = dt.date(2025, 6, 15)
VERSION = "20250615_0215"
RULE = Retrain(retrain="policy")


def days(*statuses: str, last: dt.date = MADE + 11 * DAY, version: str = VERSION, **fields: Any) -> list[Outcomes]:
    """Days of outcomes in a row, the last of them on `last`."""
    first = last - (len(statuses) - 1) * DAY
    return [outcome(first + at * DAY, version, status, **fields) for at, status in enumerate(statuses)]


def on(age: int, outcomes: list[Outcomes] | None = None, nights: list[NightRecord] | None = None, **asked: Any) -> Due:
    """Decide so many days after the version in use was trained."""
    known = [trained(MADE)] if nights is None else nights
    return due(MADE + age * DAY, asked.pop("rule", RULE), VERSION, known, outcomes or [], **asked)


def test_a_night_trains_by_default_whatever_the_history_says() -> None:
    assert on(1, rule=Retrain.from_variables({})) == Due(trains=True, because="every night")


def test_the_first_night_trains() -> None:
    assert due(MADE, RULE, None) == Due(trains=True, because="no version is in use yet")


def test_who_asks_gets_a_training_in_the_cooldown_too() -> None:
    assert on(1, asked=True) == Due(trains=True, because="somebody asked for it")


@pytest.mark.parametrize("age", [1, 29, 30, 31])
def test_a_training_is_due_after_a_month(age: int) -> None:
    found = on(age, days(*["fine"] * 5))
    assert found.trains is (age >= 30)
    assert f"the newest good model was trained {age} day" in found.because
    assert "one is due every 30 days" in found.because


FELL, FINE, UNKNOWN = "fell", "fine", "not_evaluable"


@pytest.mark.parametrize(
    ("statuses", "trains"),
    [
        ([FINE, FINE, FINE, FINE, FELL], False),
        ([FINE, FINE, FINE, FELL, FELL], True),
        ([FELL, FINE, FINE, FINE, FELL], True),
        ([FELL, FELL, FELL, FELL, FINE], False),  # it is over
        ([FELL, FINE, FINE, FINE, FINE, FELL], False),  # the first is too long ago
        ([FELL, FELL], True),
        ([FELL], False),
        ([FELL, UNKNOWN, UNKNOWN, FELL], True),  # a day that cannot be judged is no window
        ([FELL, FELL, UNKNOWN], True),
        ([UNKNOWN] * 5, False),
    ],
)
def test_a_training_is_due_when_two_of_five_days_fell_and_the_newest_of_them(statuses: list[str], trains: bool) -> None:
    found = on(15, days(*statuses))
    assert found.trains is trains
    assert VERSION in found.because


def test_the_days_that_fell_are_named() -> None:
    assert on(15, days(FINE, FELL, FINE, FELL)).because == (
        f"{VERSION} fell short of its promise on 2 of its last 4 matured days (2025-06-24, 2025-06-26: the newest "
        "among them)"
    )
    assert on(15, days(FINE, FELL, FINE)).because == (
        "the newest good model was trained 15 days ago, and one is due every 30 days; "
        f"{VERSION} fell short of its promise on 1 of its last 3 matured days (2025-06-25: not the newest)"
    )
    assert on(15, days(FINE)).because.endswith("on none of its last 1 matured day (up to 2025-06-26)")


@pytest.mark.parametrize(
    "other",
    [
        {"version": "20250601_0215"},
        {"matured": False},
        {"last": MADE + 15 * DAY},  # of the night's own day, and later
        {"last": MADE - 30 * DAY},
    ],
    ids=["of another version", "not matured", "of today", "of long ago"],
)
def test_only_matured_days_of_the_version_in_use_count(other: dict[str, Any]) -> None:
    found = on(15, days(FELL, FELL, **other) if "last" not in other else days(FELL, FELL, **other)[1:])
    assert not found.trains
    assert f"no matured outcomes of {VERSION} yet" in found.because


def test_a_long_attribution_delays_what_is_seen_and_hides_nothing() -> None:
    late = days(FELL, FELL, last=MADE + 9 * DAY, age_hours=20 * 24.0)
    rule = Retrain(retrain="policy", retrain_days=60)
    assert [on(age, late, rule=rule).trains for age in (29, 42, 43, 44)] == [True, True, False, False]


def test_of_several_records_of_a_day_the_oldest_feedback_counts() -> None:
    late = days(FINE, FINE, age_hours=96.0)
    assert not on(15, days(FELL, FELL) + late).trains
    assert not on(15, late + days(FELL, FELL)).trains


@pytest.mark.parametrize(("age", "trains"), [(6, False), (7, True)])
def test_a_training_waits_for_the_cooldown(age: int, trains: bool) -> None:
    found = on(age, days(FELL, FELL, last=MADE + 2 * DAY))
    assert found.trains is trains
    assert ("the last training was 6 days ago, and 7 have to pass" in found.because) is not trains


def test_a_rejected_training_is_tried_again_after_the_cooldown() -> None:
    nights = [trained(MADE), trained(MADE + 30 * DAY, passed=False)]
    assert next(age for age in range(30, 45) if on(age, nights=nights[:1]).trains) == 30
    assert next(age for age in range(31, 45) if on(age, nights=nights).trains) == 37


def test_nights_that_trained_nothing_or_only_tried_hold_nothing_up() -> None:
    idle = trained(MADE + 29 * DAY, passed=False, trained=False, verdict="none")
    tried = trained(MADE + 28 * DAY, passed=False, dry_run=True)
    assert on(30, nights=[trained(MADE), tried, idle]).trains


def test_a_pinned_version_is_not_trained_beside_again_and_again() -> None:
    beside = trained(MADE + 30 * DAY, moved=False, latest=VERSION)
    assert not on(45, nights=[trained(MADE), beside]).trains
    assert on(60, nights=[trained(MADE), beside]).trains


def test_what_was_rolled_back_does_not_count_as_a_good_model() -> None:
    nights = [trained(MADE), trained(MADE + 30 * DAY)]  # in use is the first one
    assert not on(36, nights=nights).trains  # the cooldown holds all the same
    assert on(37, nights=nights).trains


def test_without_a_history_the_month_counts_from_the_versions_own_id() -> None:
    trouble = "the history cannot be read: the bucket is gone"
    assert not on(29, nights=[], trouble=trouble).trains
    late = on(30, nights=[], trouble=trouble)
    assert late.trains
    assert late.because.endswith(f"; {trouble}")
    assert due(MADE, RULE, "by-hand").trains  # nobody knows how old it is


def test_a_training_after_a_fall_is_followed_by_one_that_can_learn_from_those_days() -> None:
    again = trained(MADE + 15 * DAY, champion=VERSION)
    fell = days(FELL, FELL, FELL, last=MADE + 12 * DAY)
    at = [age for age in range(16, 40) if due(MADE + age * DAY, RULE, again.run, [again], fell, held_out=8).trains]
    assert at[0] == 23
    because = due(MADE + 23 * DAY, RULE, again.run, [again], fell, held_out=8).because
    assert (
        because == f"{VERSION} had fallen before the training of 2025-06-30, which could not learn from those days yet"
    )
    after = trained(MADE + 23 * DAY, champion=again.run)
    later = [age for age in range(24, 60) if due(MADE + age * DAY, RULE, after.run, [again, after], fell).trains]
    assert later[0] == 53


def test_what_three_trainings_in_a_row_did_not_mend_waits_for_its_month() -> None:
    nights, outcomes, told = [trained(MADE)], [], []
    for age in range(1, 80):
        if age > 4:
            day = MADE + (age - 4) * DAY
            outcomes += days(FELL, last=day, version=max(night.run for night in nights if night.date <= day))
        found = due(MADE + age * DAY, RULE, nights[-1].run, nights, outcomes, held_out=8)
        told.append(found.because)
        if found.trains:
            nights.append(trained(MADE + age * DAY, champion=nights[-1].run))
    assert [(night.date - MADE).days for night in nights] == [0, 7, 14, 21, 51]
    assert "3 trainings in a row have not helped" in told[39]


def test_settings_count() -> None:
    rule = Retrain.from_variables({"ltr_retrain": "policy", "ltr_retrain_days": "10", "ltr_retrain_cooldown_days": "2"})
    assert next(age for age in range(1, 20) if on(age, rule=rule).trains) == 10
    assert on(4, days(FELL, FELL, last=MADE + 2 * DAY), rule=rule).trains


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ltr_retrain", "weekly", "nightly or policy"),
        ("ltr_retrain_days", "0", "a whole number from 1 to 365"),
        ("ltr_retrain_cooldown_days", "-1", "a whole number from 0 to 365"),
        ("ltr_retrain_days", "30.5", "a whole number from 1 to 365"),
    ],
)
def test_a_wrong_value_is_named_with_its_range(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}'; set it to {allowed}"):
        Retrain.from_variables({name: value})


def test_the_page_has_the_table_of_variables() -> None:
    assert table(VARIABLES) in (CHECKOUT / "docs" / "monitoring.md").read_text()
