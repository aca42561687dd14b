"""What is read of a small landed log: rows, lists, who asked, and the measures beside the features."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.mapping import FeatureTable
from ltr_pipeline.monitoring import drift_rows
from ltr_pipeline.monitoring.drift import drift_report
from ltr_pipeline.monitoring.drift_rows import Seen, read_seen
from support.landing import Site
from support.messages import FEATURES, answered, shown, without

DAY = dt.timedelta(days=1)
FIRST = dt.date(2025, 7, 14)
DAYS = [FIRST + ahead * DAY for ahead in range(6)]
LAST = DAYS[-1]
NAN = float("nan")


def at(day: dt.date, time: str = "10:00:00") -> str:
    return f"{day}T{time}Z"


def a_list(case: str, day: dt.date, size: int = 3, time: str = "10:00:00", **context: object) -> list[dict]:
    return [shown(case, f"l-{place}", at(day, time), rank_position=place, **context) for place in range(1, size + 1)]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def landed(site: Site, *messages: list[dict], days: list[dt.date] | None = None, **asked: object) -> Seen:
    """What is seen of some messages, landed in one night, on some days or all."""
    site.night(LAST + DAY, [message for some in messages for message in some])
    return read_seen(site.data, site.partitions(LAST + DAY), site.mapping, days or DAYS, **asked)


def of(seen: Seen, name: str, day: dt.date) -> list[float]:
    """A measure's values on a day, in order."""
    found = seen.measures[name]
    return sorted(found.values[found.rows.day == day.toordinal()].tolist())


def test_a_row_is_an_item_shown_on_the_day_and_a_feature_without_a_value_is_nan(site):
    odd = without(shown("b", "l-1", at(LAST), rank_position=1), "context", "features", "S")
    seen = landed(site, a_list("a", FIRST), [odd])
    assert seen.names == tuple(FEATURES)
    assert seen.days == [FIRST.toordinal(), LAST.toordinal()]
    assert seen.totals == {FIRST.toordinal(): (3, 1), LAST.toordinal(): (1, 1)}
    np.testing.assert_array_equal(seen.matrix[:3], np.float32([list(FEATURES.values())] * 3))
    assert np.isnan(seen.matrix[3]).tolist() == [name == "S" for name in FEATURES]
    assert of(seen, "positions", FIRST) == [1, 2, 3]
    assert of(seen, "list_length", FIRST) == [3]


def test_days_that_nobody_asked_for_are_not_kept(site):
    seen = landed(site, *(a_list(f"c-{day}", day) for day in DAYS), days=[DAYS[1], LAST])
    assert seen.days == [DAYS[1].toordinal(), LAST.toordinal()]
    assert {int(day) for one in seen.measures.values() for day in one.rows.day} <= set(seen.days)


def test_what_is_landed_twice_or_shown_twice_is_one_row(site):
    again = [message | {"context": message["context"] | {"rank_position": 9}} for message in a_list("a", LAST)]
    seen = landed(site, a_list("a", LAST), a_list("a", LAST), [*again])
    assert (len(seen.matrix), of(seen, "positions", LAST)) == (3, [1, 2, 3])


def test_items_that_were_unavailable_are_a_share_and_no_rows(site):
    sold = shown("a", "l-9", at(LAST), rank_position=4, available=False)
    seen = landed(site, a_list("a", LAST), [sold])
    assert of(seen, "unavailable_share", LAST) == [0, 0, 0, 1]
    assert (len(seen.matrix), of(seen, "list_length", LAST), of(seen, "labels", LAST)) == (3, [3], [0, 0, 0])
    assert seen.totals[LAST.toordinal()] == (3, 1)


# Lists, and who asked


def test_an_unnamed_list_is_what_a_query_was_shown_on_a_day(site):
    morning, evening = a_list("a", LAST), [shown("a", "l-7", at(LAST, "20:00:00"))]
    seen = landed(site, morning, evening, a_list("a", FIRST))
    assert [of(seen, "list_length", day) for day in (FIRST, LAST)] == [[3], [4]]


def test_named_lists_of_a_query_are_told_apart_and_belong_to_the_day_they_began_on(site):
    begun = [shown("a", "l-1", at(DAYS[4], "23:59:59"), ranking_id="r1"), shown("a", "l-2", at(LAST), ranking_id="r1")]
    seen = landed(site, begun, a_list("a", LAST, ranking_id="r2"), a_list("a", LAST, ranking_id="r3"))
    assert [of(seen, "list_length", day) for day in (DAYS[4], LAST)] == [[2], [3, 3]]
    assert Counter(seen.rows.day.tolist()) == {DAYS[4].toordinal(): 2, LAST.toordinal(): 6}


def test_without_users_each_list_is_a_cluster_of_its_own(site):
    seen = landed(site, *(a_list(case, day) for case in "ab" for day in (FIRST, LAST)))
    assert Counter(Counter(seen.asker.tolist()).values()) == {3: 4}
    assert seen.rows.clusters.tolist() == [2, 2]
    assert seen.measures["list_length"].rows.clusters.tolist() == [2, 2]


def test_a_user_is_one_cluster_whatever_he_asked_and_known_on_every_day(site):
    seen = landed(site, *(a_list(case, day, user_id="u") for case in "ab" for day in (FIRST, LAST)))
    assert len(set(seen.asker.tolist())) == 1
    assert seen.rows.clusters.tolist() == [1, 1]
    assert seen.measures["labels"].rows.clusters.tolist() == [1, 1]


# Answers


def test_labels_are_those_of_the_end_of_the_lists_own_day(site):
    accepted = answered("a", "l-1", at(LAST - DAY, "23:59:59"))
    late = answered("a", "l-2", at(LAST, "00:00:00"), action="won")
    seen = landed(site, a_list("a", LAST - DAY), [accepted, late, answered("a", "l-1", at(LAST - DAY, "11:00:00"))])
    assert of(seen, "labels", LAST - DAY) == [0, 0, 2]


def test_feedback_that_finds_no_impression_is_counted_on_its_day(site):
    every = [a_list("a", day) for day in DAYS]
    lost = [answered("a", "stranger", at(LAST)), answered("nobody", "l-1", at(LAST))]
    seen = landed(site, *every, [answered("a", "l-1", at(LAST)), *lost])
    assert of(seen, "joined_share", LAST) == [0, 0, 1]


def test_feedback_on_lists_of_before_the_log_is_not_counted(site):
    """On the first days nothing can be said: what it belongs to may have been shown before."""
    every = [a_list("a", day) for day in DAYS]
    lost = [answered("a", "stranger", at(day)) for day in DAYS]
    seen = landed(site, *every, lost)
    assert [of(seen, "joined_share", day) for day in DAYS] == [[], [], [], [0], [0], [0]]


def test_days_of_two_years_are_read_without_what_lies_between(site):
    former = LAST - 364 * DAY
    every = [a_list("a", day) for day in (former - 3 * DAY, former, LAST - 100 * DAY, LAST - 3 * DAY, LAST)]
    answers = [answered("a", "l-1", at(day, "12:00:00")) for day in (former, LAST - 100 * DAY, LAST)]
    seen = landed(site, *every, answers, days=[former, LAST])
    assert seen.days == [former.toordinal(), LAST.toordinal()]
    assert [of(seen, "joined_share", day) for day in (former, LAST)] == [[1], [1]]


# What is missing, new, or too much


def test_a_night_without_events_has_no_rows(site):
    seen = landed(site)
    assert (seen.matrix.shape, seen.days, seen.totals) == ((0, len(FEATURES)), [], {})
    report = drift_report(site.data, site.partitions(LAST + DAY), site.mapping, LAST)
    assert (report.status, report.reason) == ("not_evaluable", "no list was shown on 2025-07-19")


def test_where_nothing_has_landed_the_report_says_so(site):
    report = drift_report(site.data, {}, site.mapping, LAST, events=["Price war"])
    assert (report.status, report.reason, report.alerts) == ("not_evaluable", "nothing has landed", [])
    assert report.events == ["Price war"]


def test_a_night_that_has_not_landed_whole_is_an_error(site):
    with pytest.raises(DatasetError, match="2031-01-01"):
        read_seen(site.data, site.partitions(dt.date(2031, 1, 1)), site.mapping, DAYS)


def test_a_feature_that_the_mapping_has_only_now_is_missing_in_what_landed_before(site):
    site.night(LAST, a_list("a", LAST - DAY))
    site.mapping = replace(site.mapping, features=(*site.mapping.features, "new"))
    site.night(LAST + DAY, a_list("a", LAST, features=FEATURES | {"new": 5.0}))
    seen = read_seen(site.data, site.partitions(LAST, LAST + DAY), site.mapping, DAYS)
    assert seen.names[-1] == "new"
    assert np.isnan(seen.matrix[:, -1]).tolist() == [True] * 3 + [False] * 3


def test_of_a_large_day_whole_lists_are_drawn_and_the_same_ones_again(site, monkeypatch):
    monkeypatch.setattr(drift_rows, "MOST_ROWS_A_DAY", 60)
    lists = [a_list(f"c-{n}", LAST) for n in range(60)]
    seen = landed(site, *lists, a_list("small", FIRST))
    drawn = Counter(seen.asker[seen.rows.day == LAST.toordinal()].tolist())
    assert 5 < len(drawn) < 40
    assert set(drawn.values()) == {3}
    assert (seen.rows.day == FIRST.toordinal()).sum() == 3, "a small day is read whole"
    assert seen.totals[LAST.toordinal()] == (180, 60)
    assert len(of(seen, "labels", LAST)) == 180, "measures are those of all rows"
    again = read_seen(site.data, site.partitions(LAST + DAY), site.mapping, DAYS)
    np.testing.assert_array_equal(again.matrix, seen.matrix)
    np.testing.assert_array_equal(again.asker, seen.asker)


# Feature tables


@pytest.fixture
def profiles(tmp_path, site):
    """A mapping with a feature of items in a table."""
    table = FeatureTable(
        name="profiles",
        address=str(tmp_path / "profiles.csv"),
        entity="item",
        time="at",
        features=("stars",),
        tolerance_days=30,
    )
    site.mapping = replace(site.mapping, feature_tables=(table,))
    return tmp_path / "profiles.csv"


def test_features_of_tables_are_those_of_the_moment_the_list_was_shown(profiles, site):
    pl.DataFrame(
        {"item_id": ["l-1", "l-1", "l-2"], "at": [at(FIRST), at(LAST, "09:00:00"), at(LAST)], "stars": [3.0, 4.0, 5.0]}
    ).write_csv(profiles)
    seen = landed(site, a_list("a", LAST - DAY), a_list("a", LAST))
    assert seen.names[-1] == "stars"
    assert seen.matrix[:, -1].tolist() == pytest.approx([3, NAN, NAN, 4, NAN, NAN], nan_ok=True)
    assert seen.unreadable == {}


def test_a_table_that_cannot_be_read_says_why_and_the_rest_is_read(profiles, site):
    seen = landed(site, a_list("a", LAST))
    assert np.isnan(seen.matrix[:, -1]).all()
    assert not np.isnan(seen.matrix[:, :-1]).any()
    assert set(seen.unreadable) == {"stars"}
    assert "profiles" in seen.unreadable["stars"]


def test_a_night_without_events_needs_no_table(profiles, site):
    seen = landed(site)
    assert (seen.matrix.shape, seen.unreadable) == ((0, len(FEATURES) + 1), {})
