"""The marks of columns that know the outcome, and of inputs that broke, on windows made to have them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from numpy.typing import NDArray

from ltr_pipeline.metrics.audit import FeatureAudit, Gains, measure
from ltr_pipeline.metrics.window import Window

DAYS, A_DAY, ITEMS = 25, 30, 6
TRAIN, VALID = 20, 22
FIRST = dt.date(2025, 7, 1)
ROWS = DAYS * A_DAY * ITEMS
DAY = np.repeat(np.arange(DAYS), A_DAY * ITEMS)
RNG = np.random.default_rng(3)
WORTH = RNG.normal(size=ROWS)
RELEVANCE = ((WORTH + RNG.normal(size=ROWS) > 1) & (RNG.random(ROWS) < 0.7)).astype(np.int8)
RELEVANT = RELEVANCE > 0


def looked_at(
    values: NDArray[np.generic],
    users: int = DAYS * A_DAY,
    train: int = TRAIN,
    as_served: NDArray[np.bool_] | None = None,
) -> FeatureAudit:
    day = np.repeat(np.arange(DAYS), A_DAY)
    part = np.digitize(day, [train, VALID])
    window = Window(
        features=np.column_stack([values, WORTH]).astype(np.float32),
        relevance=RELEVANCE,
        group=np.full(DAYS * A_DAY, ITEMS),
        day=FIRST.toordinal() + day,
        part=part,
        user=np.arange((part == 2).sum()) % users,
        as_served=as_served,
    )
    found, worth = measure(window, ["z", "worth"], Gains(now={"z": 0.4}, before={}, vouched=["worth"]))
    assert (worth.gain, worth.was, worth.vouched, found.vouched) == (0, 0, True, False)
    return found


def test_what_a_feature_can_do_alone_is_said_for_the_better_direction() -> None:
    rising, falling = looked_at(WORTH), looked_at(-WORTH)
    assert rising.alone == falling.alone
    assert rising.alone > looked_at(np.zeros(ROWS)).alone + 0.1
    assert (rising.falling, falling.falling) == (False, True)


@pytest.mark.parametrize("known", [0.7, 0.5])
@pytest.mark.parametrize("blank", [0.0, np.nan, 5.0])
def test_a_column_that_only_relevant_impressions_have_tells_the_outcome(known: float, blank: float) -> None:
    told = looked_at(np.where(RELEVANT & (RNG.random(ROWS) < known), 1.0, blank)).told
    assert told is not None
    assert told.known == pytest.approx(known, abs=0.12)
    assert told.relevant == 1
    assert told.low > 0.9
    assert told.usual == pytest.approx(RELEVANT.mean(), abs=0.05)


@pytest.mark.parametrize(
    "values",
    [WORTH, WORTH > 1.5, WORTH > 2.5, RNG.random(ROWS) < 0.01, np.where(WORTH > 2, WORTH, np.nan), np.exp(3 * WORTH)],
    ids=["worth", "the best", "rare", "chance", "mostly missing", "skewed"],
)
def test_a_feature_that_is_known_before_does_not(values: NDArray[np.generic]) -> None:
    found = looked_at(values)
    assert found.told is None or found.told.low < 0.9
    assert found.defaults.fading < 0.1


def test_a_single_user_who_always_takes_what_he_likes_proves_nothing() -> None:
    told = looked_at(RELEVANT & (RNG.random(ROWS) < 0.5), users=3).told
    assert told is not None
    assert told.relevant == 1
    assert told.low < 0.5


def test_a_column_that_is_filled_in_later_is_emptier_in_the_newest_days() -> None:
    filled = RNG.random(ROWS) < (DAYS - DAY) / DAYS
    late = looked_at(np.where(filled, WORTH, np.nan)).defaults
    assert late.by_age == sorted(late.by_age)
    assert 0.3 < late.fading < 0.65
    assert looked_at(np.where(~filled, WORTH, np.nan)).defaults.fading == 0  # rolled out, as new features are


def test_a_feature_that_turns_0_on_the_last_day_changes_as_never_before() -> None:
    *normal, last = looked_at(np.where(DAY == DAYS - 1, 0, WORTH)).changes
    assert last.day == FIRST + dt.timedelta(days=DAYS - 1)
    assert last.distance > 0.4 > last.limit
    assert [one.distance < one.limit for one in normal] == [True] * (DAYS - TRAIN - 1)


def test_an_outage_in_training_does_not_make_one_in_the_test_days_normal() -> None:
    *_, last = looked_at(np.where(np.isin(DAY, [4, DAYS - 1]), 0, WORTH)).changes
    assert last.distance > last.limit


def test_what_changes_every_weekend_is_normal() -> None:
    weekend = np.isin(DAY % 7, [5, 6])
    changes = looked_at(WORTH + 3 * weekend).changes
    assert max(one.distance for one in changes) > 0.7
    assert all(one.distance < one.limit for one in changes)


def test_too_few_training_days_say_nothing_about_changes() -> None:
    assert looked_at(WORTH, train=7).changes == []
    assert len(looked_at(WORTH, train=8).changes) == DAYS - 8


SERVED = np.arange(DAYS * A_DAY) % 3 == 0  # a ranking of three
SERVED_ROWS = np.repeat(SERVED, ITEMS)


def test_marks_are_looked_for_only_where_the_service_did_not_log() -> None:
    leak = RELEVANT & (RNG.random(ROWS) < 0.7)
    others, logged = (looked_at(np.where(where, leak, 0), as_served=SERVED) for where in (~SERVED_ROWS, SERVED_ROWS))
    assert others.as_served == pytest.approx(1 / 3, abs=0.01)
    assert (others.known_before, logged.known_before) == (False, False)
    assert others.told is not None
    assert others.told.low > 0.9
    assert others.told.known == pytest.approx(0.7, abs=0.12), "of the relevant ones that the service did not log"
    assert logged.told is None


def test_what_is_filled_in_later_is_seen_among_the_others_alone() -> None:
    filled = np.where(RNG.random(ROWS) < (DAYS - DAY) / DAYS, WORTH, np.nan)
    late, fine = (
        looked_at(np.where(where, filled, WORTH), as_served=SERVED).defaults for where in (~SERVED_ROWS, SERVED_ROWS)
    )
    assert late.fading > 0.3
    assert fine.fading == 0
    assert looked_at(filled).defaults.fading > 0.3


@pytest.mark.parametrize(("others", "trusted"), [(0, True), (7, True), (8, False)])
def test_a_few_that_the_service_did_not_log_say_nothing(others: int, trusted: bool) -> None:
    """Of 750 rankings 1 % is 7.5."""
    leak = RELEVANT & (RNG.random(ROWS) < 0.7)
    found = looked_at(leak, as_served=np.arange(DAYS * A_DAY) >= others)
    assert found.known_before == trusted
    assert found.as_served == pytest.approx(1 - others / 750)
    assert (found.told is not None) == trusted, "where all is trusted, the figures are those of all"


def test_without_a_flag_all_is_looked_at() -> None:
    found = looked_at(RELEVANT & (RNG.random(ROWS) < 0.7), as_served=np.zeros(DAYS * A_DAY, bool))
    assert (found.as_served, found.known_before, found.told is None) == (0.0, False, False)
