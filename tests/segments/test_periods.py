"""Whole days, weeks and months."""

import datetime as dt
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.segments.periods import GRANULARITIES, whole_periods


@given(st.sampled_from(GRANULARITIES), st.integers(1, 60), st.dates(dt.date(2000, 1, 1), dt.date(2100, 1, 1)))
def test_periods_are_whole_follow_each_other_and_are_over(granularity, count, until):
    found = whole_periods(granularity, count, until)
    assert len(found) == count
    assert all(before.end == after.start for before, after in pairwise(found))
    last = found[-1]
    assert last.end <= until < last.end + {"day": 1, "week": 7, "month": 31}[granularity] * dt.timedelta(days=1)
    for start, end in found:
        match granularity:
            case "day":
                assert (end - start).days == 1
            case "week":
                assert (start.weekday(), (end - start).days) == (0, 7)
            case "month":
                assert (start.day, end.day) == (1, 1)
                assert 28 <= (end - start).days <= 31
