from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset.windows import Windows, since_test, split
from ltr_pipeline.errors import DatasetError

CUTOFF = datetime(2025, 7, 15, tzinfo=UTC)
DEFAULT = Windows(cutoff=CUTOFF, min_queries=100)  # 28 days, of which 25 are mature


def days(eligible, windows=DEFAULT):
    """Lengths of train, valid and test."""
    return tuple((span.end - span.start).days for span in split(eligible, windows))


def test_the_parts_follow_each_other_up_to_the_mature_end():
    train, valid, test = split([50] * 25, DEFAULT)
    assert train.start == datetime(2025, 6, 17, tzinfo=UTC) == DEFAULT.start
    assert train.end == valid.start == datetime(2025, 7, 7, tzinfo=UTC)
    assert valid.end == test.start == datetime(2025, 7, 9, tzinfo=UTC)
    assert test.end == datetime(2025, 7, 12, tzinfo=UTC) == DEFAULT.mature_end


@pytest.mark.parametrize(
    ("a_day", "expected"),
    [
        (50, (20, 2, 3)),
        (34, (20, 2, 3)),  # 3 * 34 = 102 are enough
        (33, (19, 2, 4)),  # 3 * 33 = 99 are not, 4 * 33 = 132 are
        (10, (13, 2, 10)),  # 10 * 10 = 100: as far back as it may go, 25 // 2 = 12 days are held out
        (9, (13, 2, 10)),
        (0, (13, 2, 10)),
    ],
)
def test_the_test_part_grows_back_until_it_is_large_enough(a_day, expected):
    assert days([a_day] * 25) == expected


@pytest.mark.parametrize(
    ("young", "expected"),
    [
        (25, (20, 2, 3)),
        (6, (20, 2, 3)),
        (5, (23, 1, 1)),
        (4, (23, 1, 1)),
        (3, (24, 0, 1)),
        (2, (24, 0, 1)),
        (1, (25, 0, 0)),
    ],
)
def test_young_data_keeps_half_of_its_days_for_training(young, expected):
    assert days([0] * (25 - young) + [1000] * young) == expected


@given(
    st.lists(st.integers(0, 60), min_size=25, max_size=25), st.integers(1, 6), st.integers(0, 6), st.integers(0, 400)
)
def test_growing_leaves_training_its_half(eligible, test_days, valid_days, min_queries):
    windows = Windows(cutoff=CUTOFF, test_days=test_days, valid_days=valid_days, min_queries=min_queries)
    train, valid, test = days(eligible, windows)
    assert train + valid + test == 25
    first = next((day for day, count in enumerate(eligible) if count), 0)
    if test > test_days:
        assert train - first >= (25 - first) // 2
        assert sum(eligible[25 - test + 1 :]) < min_queries
    assert train > first


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cutoff": CUTOFF + timedelta(hours=2)}, "not a midnight in UTC"),
        ({"cutoff": datetime(2025, 7, 15)}, "not a midnight in UTC"),  # noqa: DTZ001
        ({"cutoff": CUTOFF.replace(tzinfo=timezone(timedelta(hours=2)))}, "not a midnight in UTC"),
        ({"window_days": 3}, "use a longer window"),
        ({"test_days": 0}, "test_days at least 1"),
        ({"valid_days": -1}, "must not be negative"),
    ],
)
def test_windows_that_contradict_themselves_are_refused(wrong, message):
    with pytest.raises(DatasetError, match=message):
        Windows(**{"cutoff": CUTOFF} | wrong)


def occasion(first, last, weight=0.0):
    """From one to another day before the cutoff, both inclusive."""
    return Occasion(
        name="Sale",
        first=(CUTOFF - timedelta(days=first)).date(),
        last=(CUTOFF - timedelta(days=last)).date(),
        weight=weight,
    )


def parts(eligible, *occasions, **fields):
    """Days of train, valid and test that count, and how many days before the cutoff test begins."""
    windows = replace(DEFAULT, occasions=occasions, **fields)
    spans = split(eligible, windows)
    left_out = set(windows.left_out)
    counted = [
        sum(span.start.date() <= day < span.end.date() for day in set(windows.days) - left_out) for span in spans
    ]
    assert all(former.end == span.start for former, span in pairwise(spans))
    return (*counted, (CUTOFF - spans[-1].start).days)


@pytest.mark.parametrize(
    ("occasions", "expected"),
    [
        ([], (20, 2, 3, 6)),
        ([occasion(20, 15)], (14, 2, 3, 6)),
        ([occasion(5, 5)], (19, 2, 3, 7)),
        ([occasion(4, 1)], (19, 2, 3, 7)),  # the immature days are in no part anyway
        ([occasion(9, 4)], (14, 2, 3, 12)),
        ([occasion(7, 7)], (19, 2, 3, 6)),
        ([occasion(40, 20)], (11, 2, 3, 6)),
        ([occasion(27, 4)], (1, 0, 0, 3)),
        ([occasion(28, 1)], (0, 0, 0, 3)),
        ([occasion(5, 5, weight=0.2), occasion(9, 8, weight=1)], (20, 2, 3, 6)),
    ],
)
def test_the_parts_reach_over_days_that_are_left_out(occasions, expected):
    left_out = set(replace(DEFAULT, occasions=tuple(occasions)).left_out)
    eligible = [0 if day in left_out else 50 for day in DEFAULT.days[:25]]
    assert parts(eligible, *occasions) == expected


def test_the_test_part_grows_over_days_that_are_left_out():
    assert parts([34] * 20 + [0] + [34] * 4, occasion(8, 8), min_queries=200) == (16, 2, 6, 10)


@given(st.sets(st.integers(4, 28), max_size=24), st.integers(1, 6), st.integers(0, 6), st.integers(0, 400))
def test_days_that_are_left_out_change_nothing_but_where_the_parts_begin(left_out, test_days, valid_days, min_queries):
    fields = {"test_days": test_days, "valid_days": valid_days, "min_queries": min_queries}
    eligible = [0 if 28 - day in left_out else 20 for day in range(25)]
    split_by = parts(eligible, *(occasion(day, day) for day in left_out), **fields)
    dense = [0] * len(left_out) + [20] * (25 - len(left_out))
    train, valid, test = days(dense, replace(DEFAULT, **fields))
    assert split_by[:3] == (train - len(left_out), valid, test)


def test_a_window_of_a_year_has_its_seasons():
    windows = replace(DEFAULT, window_days=365)
    train, valid, test = split([50] * 362, windows)
    assert (train.start, (train.end - train.start).days) == (datetime(2024, 7, 15, tzinfo=UTC), 357)
    assert ((valid.end - valid.start).days, (test.end - test.start).days) == (2, 3)


def test_the_days_since_a_nights_test_part_begin_where_it_ends():
    young = since_test(DEFAULT, DEFAULT.mature_end, datetime(2025, 7, 15, 23, 35, tzinfo=UTC), occasions=(SALE,))
    assert (young.start, young.cutoff) == (DEFAULT.mature_end, CUTOFF + timedelta(days=1))
    assert (young.mature_end, young.end) == (young.cutoff, datetime(2025, 7, 15, 23, 35, tzinfo=UTC))
    assert young.left_out == [SALE.first]
    before_the_night = since_test(DEFAULT, DEFAULT.mature_end, datetime(2025, 7, 16, 1, 35, tzinfo=UTC))
    assert (before_the_night.start, before_the_night.window_days) == (DEFAULT.mature_end, 5)


def test_a_moment_is_taken_in_utc():
    moment = datetime(2025, 7, 16, 1, 35, tzinfo=timezone(timedelta(hours=2)))
    assert since_test(DEFAULT, DEFAULT.mature_end, moment).end == datetime(2025, 7, 15, 23, 35, tzinfo=UTC)


def test_a_moment_before_the_night_is_refused():
    with pytest.raises(DatasetError, match="use a longer window"):
        since_test(DEFAULT, DEFAULT.mature_end, CUTOFF - timedelta(days=2))


SALE = Occasion(name="Sale", first=date(2025, 7, 14), last=date(2025, 7, 14), weight=0)
