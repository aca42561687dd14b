"""Counts of engagement, held against a loop over events."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from zlib import crc32

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.dataset.labels import FEEDBACK_TYPES, impression_types
from ltr_pipeline.segments.engagement import ENTITY, FEATURES, PERIOD, by_day, by_period
from ltr_pipeline.segments.periods import whole_periods

START = dt.datetime(2025, 7, 7, tzinfo=dt.UTC)  # a Monday
RELEVANCE = {"declined": 1, "won": 3}
WEEKS = whole_periods("week", 2, dt.date(2025, 7, 21))


def shown(*rows: tuple[str, str | None, str, float, int | None]) -> pl.DataFrame:
    """Impressions: query (its ranking too), user, item, day from the start, label."""
    columns = [
        {"query_id": query, "ranking_id": query, "user_id": user, "item_id": item, "label": label}
        | {"time": START + dt.timedelta(days=day)}
        for query, user, item, day, label in rows
    ]
    return pl.DataFrame(columns, schema=impression_types(())).sort("time")


def answered(*rows: tuple[str, str | None, str, float, str]) -> pl.DataFrame:
    """Interactions: query, user, item, day from the start, action."""
    columns = [
        {"query_id": query, "user_id": user, "item_id": item, "action": action}
        | {"time": START + dt.timedelta(days=day)}
        for query, user, item, day, action in rows
    ]
    return pl.DataFrame(columns, schema=FEEDBACK_TYPES).sort("time")


def counted(level, impressions, interactions, periods=WEEKS):
    days = by_day(impressions, interactions, RELEVANCE, level)
    found = by_period([days], periods)
    return {(row[ENTITY], row[PERIOD].day): tuple(row[name] for name in FEATURES) for row in found.to_dicts()}


TWO = shown(("q1", "ann", "a", 0.5, None), ("q1", "ann", "b", 0.5, None), ("q2", "ben", "a", 8, None))


def test_counts_are_by_entity_and_week():
    answers = answered(("q1", "ann", "b", 1.5, "won"), ("q2", "ben", "a", 8.5, "unheard of"))
    assert counted("user", TWO, answers) == {
        ("ann", 7): (1, 2, 2, 1, 3),  # lists, days, impressions, interactions, relevance
        ("ann", 14): (0, 0, 0, 0, 0),  # fell silent
        ("ben", 14): (1, 1, 1, 1, 0),  # came later, and was not silent before
    }
    assert counted("item", TWO, answers) == {
        ("a", 7): (1, 1, 1, 0, 0),
        ("a", 14): (1, 1, 1, 1, 0),
        ("b", 7): (1, 2, 1, 1, 3),
        ("b", 14): (0, 0, 0, 0, 0),
    }


def test_an_interaction_without_a_user_is_of_whom_its_query_was_last_shown_to():
    lists = shown(("q", "ann", "a", 0, None), ("q", "ben", "a", 2, None), ("other", "cy", "a", 0, None))
    answers = answered(("q", None, "a", 1, "won"), ("q", None, "a", 3, "declined"), ("q", "cy", "a", 3, "won"))
    found = counted("user", lists, answers, WEEKS[:1])
    assert {user: counts[3:] for (user, _), counts in found.items()} == {"ann": (1, 3), "ben": (1, 1), "cy": (1, 3)}


def test_a_list_without_a_user_counts_for_items_alone():
    lists = shown(("q", None, "a", 0, None))
    nobody = answered(("q", None, "a", 1, "won"))
    assert counted("user", lists, nobody) == {}
    assert counted("item", lists, nobody)["a", 7] == (1, 2, 1, 1, 3)


def test_a_label_that_an_impression_was_logged_with_is_an_interaction():
    lists = shown(("q", "ann", "a", 0, 2), ("q", "ann", "b", 0, 0))
    assert counted("user", lists, answered(), WEEKS[:1]) == {("ann", 7): (1, 1, 2, 1, 2)}


def test_events_outside_the_periods_do_not_count():
    lists = shown(("q1", "ann", "a", -0.1, None), ("q2", "ann", "a", 14, None))
    assert counted("user", lists, answered()) == {}


USERS, ITEMS = st.sampled_from(["ann", "ben", "cy"]), st.sampled_from(["a", "b"])
DAYS = st.integers(-30, 16 * 24).map(lambda hours: hours / 24)
QUERIES = st.sampled_from(["q1", "q2", "q3", "q4"])


@given(
    st.lists(st.tuples(QUERIES, USERS, ITEMS, DAYS, st.sampled_from([None, 0, 2])), max_size=25),
    st.lists(st.tuples(QUERIES, USERS, ITEMS, DAYS, st.sampled_from(["won", "declined", "seen"])), max_size=25),
    st.sampled_from(["user", "item"]),
    st.integers(1, 3),
)
def test_counts_are_those_of_a_loop_over_events_however_many_buckets(impressions, interactions, level, buckets):
    place = {"user": 1, "item": 2}[level]
    lists, days = defaultdict(set), defaultdict(set)
    counts = defaultdict(lambda: [0, 0, 0])
    began = {}
    for query, _, _, day, _ in impressions:
        began[query] = min(day, began.get(query, day))
    weeks = {0: 7, 1: 14}
    for row in impressions:
        day = began[row[0]] // 1
        if 0 <= day < 14:
            key = row[place], weeks[day // 7]
            lists[key].add(row[0])
            days[key].add(day)
            label = row[4] or 0
            counts[key] = [n + more for n, more in zip(counts[key], (1, label > 0, label), strict=True)]
    for row in interactions:
        day = row[3] // 1
        if 0 <= day < 14:
            key = row[place], weeks[day // 7]
            days[key].add(day)
            counts[key] = [n + m for n, m in zip(counts[key], (0, 1, RELEVANCE.get(row[4], 0)), strict=True)]
    expected = {key: (len(lists[key]), len(days[key]), *counts[key]) for key in counts}
    for entity, _ in [*expected]:
        if (entity, 7) in expected:
            expected.setdefault((entity, 14), (0, 0, 0, 0, 0))
    parts = [
        by_day(
            shown(*(row for row in impressions if crc32(row[0].encode()) % buckets == bucket)),
            answered(*(row for row in interactions if crc32(row[0].encode()) % buckets == bucket)),
            RELEVANCE,
            level,
        )
        for bucket in range(buckets)
    ]
    found = by_period(parts, WEEKS)
    assert found.select(ENTITY, PERIOD).is_duplicated().sum() == 0
    assert {
        (row[ENTITY], row[PERIOD].day): tuple(row[name] for name in FEATURES) for row in found.to_dicts()
    } == expected


@pytest.mark.parametrize("level", ["user", "item"])
def test_nothing_gives_an_empty_table_with_all_columns(level):
    found = by_period([by_day(shown(), answered(), RELEVANCE, level)], WEEKS)
    assert (found.columns, found.height) == ([ENTITY, PERIOD, *FEATURES], 0)
