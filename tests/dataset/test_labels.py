from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset.labels import (
    DROPPED_FEEDBACK,
    DROPPED_IMPRESSIONS,
    FEEDBACK_TYPES,
    Account,
    impression_types,
    label_bucket,
    spelling,
)
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.schema import MAX_GROUP_ROWS

RELEVANCE = {"lost": 0, "declined": 1, "accepted": 2, "won": 3}
WINDOWS = Windows(cutoff=datetime(2025, 1, 21, tzinfo=UTC), window_days=14, attribution_days=3)
NOON = datetime(2025, 1, 10, 12, tzinfo=UTC)  # of the fourth day of 14; mature until 18 January
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
PLACE = {"source": "log", "partition": 0, "item_index": 0}


def shown(item, after=timedelta(), query="q", **more):
    at = NOON + after
    return {"query_id": query, "ranking_id": f"{query}|{at:%Y-%m-%d}", "item_id": item, "time": at, **more}


def said(item, action, after, query="q", **more):
    return {"query_id": query, "item_id": item, "action": action, "time": NOON + after, **more}


def label(impressions, feedback=(), windows=WINDOWS, session_gap=None, lately=None):
    """Place every row where it stands, and label them; `lately` are the numbers of the answers that arrived lately."""

    def table(rows, types):
        return pl.DataFrame([{**PLACE, "offset": n, **row} for n, row in enumerate(rows)], schema=types)

    answers = table(feedback, FEEDBACK_TYPES)
    return label_bucket(
        table(impressions, impression_types(["A"])),
        answers,
        relevance=RELEVANCE,
        features=["A"],
        windows=windows,
        session_gap=session_gap,
        lately=None if lately is None else answers[list(lately)],
    )


def relevance(labelled):
    return {(row["ranking_id"], row["item_id"]): row["relevance"] for row in labelled.table.iter_rows(named=True)}


def items(labelled):
    return dict(labelled.table.select("item_id", "relevance").iter_rows())


def test_relevance_is_the_largest_of_the_interactions():
    feedback = [said("a", "accepted", HOUR), said("a", "declined", 2 * HOUR), said("b", "lost", HOUR)]
    labelled = label([shown("a"), shown("b"), shown("c")], feedback)
    assert items(labelled) == {"a": max(2, 1), "b": 0, "c": 0}
    assert labelled.feedback == Account(landed=3, used=3)
    assert labelled.table["relevance"].dtype == pl.Int8


@pytest.mark.parametrize(
    ("after", "expected", "dropped"),
    [
        (timedelta(), 3, {}),
        (3 * DAY, 3, {}),
        (3 * DAY + MOMENT, 0, {"too_late": 1}),
        (-MOMENT, 0, {"before_impression": 1}),
        (11 * DAY, 0, {"after_cutoff": 1}),
    ],
)
def test_the_attribution_window_is_closed_on_both_sides(after, expected, dropped):
    labelled = label([shown("a"), shown("b")], [said("a", "won", after)])
    assert items(labelled) == {"a": expected, "b": 0}
    assert labelled.feedback.dropped == dropped


@pytest.mark.parametrize("ranking", [None, "q|2025-01-10"])
@pytest.mark.parametrize(
    ("early", "expected", "dropped"),
    [
        (timedelta(seconds=4.999), 3, {}),
        (timedelta(seconds=5), 3, {}),
        (timedelta(seconds=5) + MOMENT, 0, {"before_impression": 1}),
    ],
)
def test_feedback_that_is_early_by_the_clocks_alone_belongs_to_the_next_impression(ranking, early, expected, dropped):
    impressions = [shown(item, HOUR) for item in "ab"]
    feedback = [said("a", "won", HOUR - early, ranking_id=ranking)]
    labelled = label(impressions, feedback, windows=replace(WINDOWS, skew_seconds=5))
    assert items(labelled) == {"a": expected, "b": 0}
    assert labelled.feedback.dropped == dropped
    assert labelled.skewed == (1 if expected else 0)


def test_an_earlier_impression_goes_before_one_that_is_late_by_the_clocks():
    impressions = [shown(item, after) for after in (timedelta(), DAY) for item in "ab"]
    feedback = [said("a", "won", DAY - timedelta(seconds=1))]
    labelled = label(impressions, feedback, windows=replace(WINDOWS, skew_seconds=5))
    assert relevance(labelled)["q|2025-01-10", "a"] == 3


def test_feedback_without_a_ranking_belongs_to_the_latest_earlier_impression():
    impressions = [shown(item, after) for after in (timedelta(), DAY) for item in "ab"]
    feedback = [said("a", "won", DAY - MOMENT), said("b", "won", DAY)]
    first, second = "q|2025-01-10", "q|2025-01-11"
    expected = {(first, "a"): 3, (first, "b"): 0, (second, "a"): 0, (second, "b"): 3}
    assert relevance(label(impressions, feedback)) == expected


def test_feedback_that_names_a_ranking_belongs_to_it():
    impressions = [shown(item, n * HOUR, ranking_id=ranking) for n, ranking in enumerate(["r1", "r2"]) for item in "ab"]
    feedback = [said("a", "won", 2 * HOUR, ranking_id="r1"), said("a", "accepted", 2 * HOUR, ranking_id="r3")]
    labelled = label(impressions, feedback)
    assert relevance(labelled) == {("r1", "a"): 3, ("r1", "b"): 0, ("r2", "a"): 0, ("r2", "b"): 0}
    assert labelled.feedback.dropped == {"no_impression": 1}


def test_feedback_without_an_impression_or_a_meaning_is_dropped():
    feedback = [said("c", "won", HOUR), said("a", "won", HOUR, query="other"), said("a", "hired", HOUR)]
    labelled = label([shown("a"), shown("b")], feedback)
    assert items(labelled) == {"a": 0, "b": 0}
    assert labelled.feedback.dropped == {"no_impression": 2, "unknown_action": 1}


def test_ratings_never_train():
    impressions, feedback = [shown("a"), shown("b")], [said("a", "accepted", HOUR, rating=1)]
    rated = [said("b", None, HOUR, rating=5), said("b", "rated", HOUR, rating=5), said("a", "hired", HOUR)]
    labelled = label(impressions, feedback + rated)
    assert labelled.table.equals(label(impressions, [said("a", "accepted", HOUR)]).table)
    assert items(labelled) == {"a": 2, "b": 0}
    assert labelled.feedback == Account(landed=4, used=1, dropped={"rated": 2, "unknown_action": 1})


def test_two_ratings_that_differ_are_no_duplicates():
    rated = [said("a", None, HOUR, rating=5), said("a", None, HOUR, rating=4), said("a", None, HOUR, rating=4)]
    assert label([shown("a"), shown("b")], rated).feedback == Account(landed=3, duplicates=1, dropped={"rated": 2})


def sessions(labelled):
    """Items and relevance of each ranking, by user and hour it began."""
    found = {}
    for ranking, user, item, value in labelled.table.select(
        "ranking_id", "user_id", "item_id", "relevance"
    ).iter_rows():
        began = datetime.fromisoformat(ranking.split("|")[-1])
        found.setdefault((user, (began - NOON) / HOUR), {})[item] = value
    return found


def test_a_session_is_what_a_user_was_shown_without_a_gap():
    visits = [("u", 0), ("v", 0), ("u", 0.4), ("u", 0.9), ("u", 2), ("v", 12.2)]
    impressions = [shown(item, n * HOUR, user_id=user) for user, n in visits for item in (f"a{n}", "b")]
    feedback = [said("b", "won", 0.6 * HOUR, user_id="v"), said("a0.9", "accepted", 30 * HOUR, user_id="u")]
    assert sessions(label(impressions, feedback, session_gap=HOUR / 2)) == {
        ("u", 0): {"a0": 0, "a0.4": 0, "a0.9": 2, "b": 0},
        ("v", 0): {"a0": 0, "b": 3},
        ("u", 2): {"a2": 0, "b": 0},
        ("v", 12.2): {"a12.2": 0, "b": 0},
    }
    assert len(label(impressions, feedback).table.unique("ranking_id")) == 2  # a query and a day each


def test_a_session_takes_no_part_in_rankings_that_were_named_and_needs_a_user():
    named = [shown(item, user_id="u", ranking_id="r") for item in "ab"]
    nobody = [shown(item) for item in "ab"]
    feedback = [
        said("a", "won", HOUR, user_id="u", ranking_id="r"),
        said("b", "won", HOUR),
        said("a", "won", HOUR, user_id="w"),
    ]
    labelled = label([*named, *nobody], feedback, session_gap=HOUR)
    assert relevance(labelled) == {
        ("r", "a"): 3,
        ("r", "b"): 0,
        ("q|2025-01-10", "a"): 0,
        ("q|2025-01-10", "b"): 3,
    }
    assert labelled.feedback.dropped == {"no_impression": 1}


def test_a_session_has_the_same_name_whatever_else_is_in_the_window():
    impressions = [shown(item, after, user_id="u") for after in (timedelta(), DAY) for item in "ab"]
    later = label(impressions[2:], session_gap=HOUR).table["ranking_id"].unique().to_list()
    assert later == ["q|u|2025-01-11T12:00:00.000000Z"]
    assert set(later) < set(label(impressions, session_gap=HOUR).table["ranking_id"])


def test_what_was_never_shown_for_its_query_is_known_by_its_spelling():
    feedback = [
        said("A ", "won", HOUR),
        said("c", "won", HOUR),
        said("a", "won", HOUR, ranking_id="r"),  # shown, in another ranking
        said("B", "won", HOUR, query="Q "),
    ]
    labelled = label([shown("a"), shown("b")], feedback)
    assert labelled.feedback.dropped == {"no_impression": 4}
    pairs = pl.DataFrame({"query_id": ["q", "q", "q"], "item_id": ["a", "c", "b"]})
    assert sorted(labelled.unseen) == sorted(pairs.select(spelling()).to_series())


def test_the_first_place_of_an_event_stays():
    again = {"event_id": "e1", "position": 7, "offset": 100}
    labelled = label([shown("a", **again), shown("a", event_id="e1", position=1), shown("b", event_id="e2")])
    assert labelled.table.filter(item_id="a")["position"].to_list() == [1]
    assert labelled.impressions == Account(landed=3, used=2, duplicates=1)


def test_an_event_that_shows_a_list_is_no_duplicate_of_itself():
    listed = label([shown("a", event_id="e"), shown("b", event_id="e"), shown("a", query="p", event_id="e")])
    assert listed.impressions == Account(landed=3, used=2, dropped={"single_candidate": 1})


def test_without_an_event_id_equal_fields_are_a_duplicate():
    nan = float("nan")
    same = [shown("a", feature_A=nan), shown("a", feature_A=nan), shown("a", event_id="e", feature_A=nan), shown("b")]
    assert label(same).impressions == Account(landed=4, used=2, duplicates=1, dropped={"repeated": 1})
    other = [shown("a", position=1), shown("a", position=2), shown("b")]
    assert label(other).impressions == Account(landed=3, used=2, dropped={"repeated": 1})
    twice = [said("a", "won", HOUR)] * 2 + [said("a", "won", 2 * HOUR)]
    assert label([shown("a"), shown("b")], twice).feedback == Account(landed=3, used=2, duplicates=1)


def test_an_unavailable_item_is_no_candidate_and_not_labelled_0():
    labelled = label([shown("a"), shown("b"), shown("c", available=False)], [said("c", "declined", HOUR)])
    assert items(labelled) == {"a": 0, "b": 0}
    assert labelled.impressions.dropped == {"unavailable": 1}
    assert labelled.feedback.dropped == {"impression_dropped": 1}


def test_what_was_not_shown_gets_no_feedback():
    labelled = label([shown("a"), shown("b"), shown("a", HOUR, shadow=True)], [said("a", "won", 2 * HOUR)])
    assert items(labelled) == {"a": 3, "b": 0}
    assert labelled.impressions.dropped == {"shadow": 1}


def test_an_item_repeated_in_a_ranking_is_one_candidate():
    impressions = [shown("a", position=4), shown("b"), shown("a", 2 * HOUR, position=1)]
    labelled = label(impressions, [said("a", "declined", HOUR), said("a", "won", 3 * HOUR)])
    assert items(labelled) == {"a": max(1, 3), "b": 0}
    assert labelled.table.filter(item_id="a")["position"].to_list() == [4]
    assert labelled.impressions.dropped == {"repeated": 1}


def test_a_logged_label_counts_as_an_interaction():
    labelled = label([shown("a", label=2), shown("b", label=0), shown("c")], [said("b", "declined", HOUR)])
    assert items(labelled) == {"a": 2, "b": 1, "c": 0}


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([-4 * DAY + 12 * HOUR, timedelta()], None),  # midnight of the first day
        ([-4 * DAY + 12 * HOUR - MOMENT, timedelta()], "before_window"),
        ([timedelta(), 7 * DAY + 12 * HOUR - MOMENT], None),  # the last moment that is mature
        ([timedelta(), 7 * DAY + 12 * HOUR], "immature"),
    ],
)
def test_rankings_are_kept_or_dropped_whole(times, reason):
    labelled = label([shown(item, after, ranking_id="r") for item, after in zip("ab", times, strict=True)])
    assert labelled.impressions == Account(landed=2, used=0 if reason else 2, dropped={reason: 2} if reason else {})
    assert labelled.table["time"].to_list() == ([] if reason else [NOON + times[0]] * 2)


@pytest.mark.parametrize(
    ("begins", "ends", "reason"),
    [
        (-12 * HOUR, timedelta(), "left_out"),  # from the first moment of the day
        (12 * HOUR - MOMENT, DAY, "left_out"),  # to the last; it goes on where it began
        (-12 * HOUR - MOMENT, timedelta(), None),
        (12 * HOUR, DAY, None),
    ],
)
def test_rankings_that_begin_on_a_day_that_is_left_out_are_dropped_whole(begins, ends, reason):
    sale = Occasion(name="Sale", first=NOON.date(), last=NOON.date(), weight=0)
    fair = Occasion(name="Fair", first=(NOON - DAY).date(), last=(NOON + DAY).date(), weight=0.5)
    impressions = [shown(item, after, ranking_id="r") for item, after in (("a", begins), ("b", ends))]
    answers = [said("a", "accepted", begins + HOUR)]
    labelled = label(impressions, answers, replace(WINDOWS, occasions=(fair, sale)))
    assert labelled.impressions == Account(landed=2, used=0 if reason else 2, dropped={reason: 2} if reason else {})
    assert labelled.feedback.dropped == ({"impression_dropped": 1} if reason else {})


def test_events_from_the_future_are_dropped_one_by_one():
    labelled = label([shown("a", ranking_id="r"), shown("b", ranking_id="r"), shown("c", 20 * DAY, ranking_id="r")])
    assert labelled.impressions == Account(landed=3, used=2, dropped={"after_cutoff": 1})


def test_lists_of_one_and_of_more_than_lightgbm_can_train_on_are_dropped():
    longest = [shown(f"i{n}") for n in range(MAX_GROUP_ROWS)]
    assert label(longest).impressions.used == MAX_GROUP_ROWS
    labelled = label([*longest, shown("one more"), shown("a", query="single")])
    assert labelled.impressions.dropped == {"list_too_long": MAX_GROUP_ROWS + 1, "single_candidate": 1}


def test_the_order_of_rows_says_nothing_about_the_order_shown():
    for places in ((1, 2, 3), (3, 1, 2)):
        labelled = label([shown(item, position=place) for item, place in zip("cab", places, strict=True)])
        assert labelled.table["item_id"].to_list() == ["a", "b", "c"]


def test_columns_that_are_missing_are_empty():
    bare = pl.DataFrame([{**PLACE, "offset": n, **shown(item)} for n, item in enumerate("ab")])
    labelled = label_bucket(
        bare, pl.DataFrame(schema=FEEDBACK_TYPES), relevance=RELEVANCE, features=["A"], windows=WINDOWS
    )
    assert labelled.table["feature_A"].is_nan().to_list() == [True, True]
    assert labelled.table["user_id"].to_list() == [None, None]


def test_nothing_landed_is_nothing_used():
    labelled = label([])
    assert (labelled.table.height, labelled.impressions, labelled.feedback) == (0, Account(), Account())


QUERIES = st.sampled_from(["p", "q", "r"])
ITEMS = st.sampled_from(["a", "b", "c"])
HOURS = st.integers(-5 * 24, 12 * 24).map(lambda hours: timedelta(hours=hours))
EVENTS = st.sampled_from([None, None, "e1", "e2"])
IMPRESSION = st.builds(
    shown,
    ITEMS,
    HOURS,
    QUERIES,
    event_id=EVENTS,
    available=st.sampled_from([True, True, False, None]),
    shadow=st.sampled_from([False, False, True, None]),
    position=st.sampled_from([None, 1, 2]),
    label=st.sampled_from([None, None, 1]),
    feature_A=st.sampled_from([0.5, float("nan")]),
)
INTERACTION = st.builds(
    said,
    ITEMS,
    st.sampled_from([*RELEVANCE, "hired"]),
    HOURS,
    QUERIES,
    event_id=EVENTS,
    ranking_id=st.sampled_from([None, None, "q|2025-01-10", "q|2025-01-12"]),
)
IMPRESSION_ROWS = st.lists(IMPRESSION, max_size=30)
FEEDBACK_ROWS = st.lists(INTERACTION, max_size=15)


@given(IMPRESSION_ROWS, FEEDBACK_ROWS)
def test_every_record_is_used_duplicate_or_dropped_once(impressions, feedback):
    labelled = label(impressions, feedback)
    account_for(labelled, len(impressions), len(feedback))


def account_for(labelled, impressions, feedback):
    for account, reasons in ((labelled.impressions, DROPPED_IMPRESSIONS), (labelled.feedback, DROPPED_FEEDBACK)):
        assert account.landed == account.used + account.duplicates + sum(account.dropped.values())
        assert set(account.dropped) <= set(reasons)
    assert labelled.impressions.landed == impressions
    assert labelled.impressions.used == labelled.table.height
    assert labelled.feedback.landed == feedback


@given(IMPRESSION_ROWS, FEEDBACK_ROWS, st.sets(st.integers(0, 14)))
def test_rankings_answered_lately_are_those_of_all_that_such_an_answer_counts_for(impressions, feedback, chosen):
    lately = sorted(number for number in chosen if number < len(feedback))
    found, everything = label(impressions, feedback, lately=lately), label(impressions, feedback)
    account_for(found, len(impressions), len(lately))
    ranking = ["query_id", "ranking_id"]
    assert found.table.equals(everything.table.join(found.table, on=ranking, how="semi", maintain_order="left"))
    assert bool(found.table.height) == bool(found.feedback.used)
    assert label(impressions, feedback, lately=range(len(feedback))).feedback == everything.feedback


def test_a_ranking_counts_whole_when_one_answer_to_it_arrived_lately():
    impressions = [shown(item, query=query) for query in "pqr" for item in "ab"]
    feedback = [said("a", "accepted", HOUR, "p"), said("b", "won", 2 * HOUR, "p"), said("a", "won", HOUR, "q")]
    found = label(impressions, [*feedback, said("a", "hired", HOUR, "r")], lately=[1, 3])
    assert relevance(found) == {("p|2025-01-10", "a"): 2, ("p|2025-01-10", "b"): 3}
    assert (found.impressions.used, found.impressions.dropped) == (2, {"unanswered": 4})
    assert (found.feedback.landed, found.feedback.used, found.feedback.dropped) == (2, 1, {"unknown_action": 1})


def test_what_arrives_again_did_not_arrive_lately():
    impressions = [shown("a"), shown("b")]
    answers = [said("a", "accepted", HOUR, event_id="e")] * 2
    assert label(impressions, answers, lately=[1]).table.is_empty()
    assert label(impressions, answers, lately=[0]).table.height == 2


def test_labels_known_by_a_moment_need_not_be_mature():
    young = replace(WINDOWS, known_by=WINDOWS.cutoff - 6 * HOUR)
    impressions, feedback = [shown(item, 10 * DAY) for item in "ab"], [said("a", "won", 10 * DAY + HOUR)]
    assert label(impressions, feedback).impressions.dropped == {"immature": 2}
    assert relevance(label(impressions, feedback, young)) == {("q|2025-01-20", "a"): 3, ("q|2025-01-20", "b"): 0}
    late = [said("a", "won", 3 * DAY + MOMENT)]
    assert label([shown("a"), shown("b")], late, young).feedback.dropped == {"too_late": 1}


@given(IMPRESSION_ROWS, FEEDBACK_ROWS, st.randoms(use_true_random=False))
def test_neither_buckets_nor_the_order_of_rows_change_a_label(impressions, feedback, random):
    impressions, feedback = ([row | {"offset": n} for n, row in enumerate(rows)] for rows in (impressions, feedback))
    whole = label(impressions, feedback)
    random.shuffle(impressions)
    random.shuffle(feedback)
    buckets = [
        label([row for row in impressions if row["query_id"] == q], [row for row in feedback if row["query_id"] == q])
        for q in "pqr"
    ]
    table = pl.concat([bucket.table for bucket in buckets]).sort("time", "query_id", "ranking_id", "item_id")
    assert table.equals(whole.table)
    assert sum((bucket.impressions for bucket in buckets), Account()) == whole.impressions
    assert sum((bucket.feedback for bucket in buckets), Account()) == whole.feedback
