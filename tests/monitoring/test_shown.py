"""What is measured of each shown list, and which version it counts for."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from ltr_pipeline.monitoring.shown import MOST_VERSIONS, Shown, shown

NOON = dt.datetime(2025, 7, 1, 12, tzinfo=dt.UTC)
LISTS = {
    "query_id": pl.String,
    "ranking_id": pl.String,
    "item_id": pl.String,
    "user_id": pl.String,
    "policy": pl.String,
    "position": pl.Int32,
    "relevance": pl.Int8,
}
RATINGS = {"query_id": pl.String, "ranking_id": pl.String, "item_id": pl.String, "rating": pl.Int8}


def a_list(name: str, relevance: list[int], policy: str | None = "v", user: str | None = "u", **more: object) -> list:
    """Rows of one list, in shown order."""
    return [
        {
            "query_id": f"q-{name}",
            "ranking_id": name,
            "item_id": f"i-{place}",
            "user_id": user,
            "policy": policy,
            "position": place,
            "relevance": value,
        }
        | more
        for place, value in enumerate(relevance, 1)
    ]


def measured(*rows: list, ratings: tuple[tuple[str, int], ...] = ()) -> list[Shown]:
    said = [{"query_id": f"q-{name}", "ranking_id": name, "item_id": "i-1", "rating": one} for name, one in ratings]
    table = pl.DataFrame([row for some in rows for row in some], LISTS)
    return shown(table, pl.DataFrame(said, RATINGS), highest=3)


def test_figures_are_those_of_the_shown_order() -> None:
    """Of a won one in second place and an accepted one in first, by hand."""
    (one,) = measured(a_list("a", [2, 3, 0]), a_list("b", [0, 0, 0]), a_list("c", [1, 1]), a_list("d", [3]))
    ideal = 7 + 3 / np.log2(3)
    np.testing.assert_allclose(one.ndcg_at_5, [(3 + 7 / np.log2(3)) / ideal, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(one.hit_at_3, [1, np.nan, np.nan, np.nan])
    assert one.converted.tolist() == [True, False, False, True], "of all lists, also of one with a single candidate"
    assert one.placed.all()


def test_rows_may_come_in_any_order() -> None:
    rows = [*a_list("a", [0, 3, 0, 0, 1]), *a_list("b", [1, 0])]
    (straight,), (mixed,) = measured(rows), measured([rows[place] for place in (3, 6, 0, 4, 5, 2, 1)])
    np.testing.assert_array_equal(straight.ndcg_at_5, mixed.ndcg_at_5)
    np.testing.assert_array_equal(straight.converted, mixed.converted)


@pytest.mark.parametrize(
    ("policy", "version", "fallback"),
    [
        ("20250714_0215", "20250714_0215", False),
        ("20250714_0215+explore", "20250714_0215", False),
        ("20250714_0215+linear", "20250714_0215", True),
        ("20250714_0215_2+request", "20250714_0215_2", True),
        ("legacy", "legacy", False),
        ("legacy+explore", "legacy", False),
        ("interleave:20250714_0215:legacy", "interleaved", False),
        ("balanced", "balanced", False),
        ("+linear", "+linear", True),
        (None, "unknown", False),
    ],
)
def test_the_policy_says_which_version_ranked(policy: str | None, version: str, fallback: bool) -> None:
    (one,) = measured(a_list("a", [1, 0], policy))
    assert (one.version, one.fallback.tolist()) == (version, [fallback])


def test_lists_of_each_version_are_apart_the_most_shown_first() -> None:
    found = measured(
        a_list("a", [1, 0], "old"), *(a_list(name, [0, 1], "new") for name in "bcd"), ratings=(("a", 2), ("b", 5))
    )
    assert [(one.version, len(one.asker), one.rating.tolist()) for one in found] == [("new", 3, [5.0]), ("old", 1, [2])]


def test_of_many_policies_the_rest_are_together() -> None:
    many = [a_list(f"{number}-{copy}", [1, 0], f"p{number:02}") for number in range(40) for copy in range(40 - number)]
    found = measured(*many)
    assert len(found) == MOST_VERSIONS
    assert [one.version for one in found][:2] == ["p00", "p01"]
    assert found[-1].version == "other"
    assert len(found[-1].asker) == sum(40 - number for number in range(MOST_VERSIONS - 1, 40))
    assert len(measured(*(a_list(str(n), [1, 0], f"p{n}") for n in range(MOST_VERSIONS)))) == MOST_VERSIONS


def test_a_user_is_one_wherever_he_asks_and_without_one_a_query_is() -> None:
    (one,) = measured(
        a_list("a", [1, 0], user="u-1"),
        a_list("b", [1, 0], user="u-2"),
        a_list("c", [1, 0], user="u-1"),
        a_list("d", [1, 0], user=None),
        a_list("e", [1, 0], user=None, query_id="u-1"),
        ratings=(("c", 4), ("d", 3)),
    )
    of = dict(zip("abcde", one.asker.tolist(), strict=True))
    assert of["a"] == of["c"]
    assert len(set(of.values())) == 4
    assert one.rater.tolist() == [of["c"], of["d"]]


def test_lists_without_positions_have_no_order_but_an_outcome() -> None:
    (one,) = measured(a_list("a", [3, 0], position=None), a_list("b", [0, 3]), a_list("c", [3, 0])[:1])
    assert one.placed.tolist() == [False, True, True]
    assert np.isnan(one.ndcg_at_5).tolist() == [True, False, True]
    assert one.converted.tolist() == [True, True, True]


def test_items_at_one_position_share_it() -> None:
    (one,) = measured(a_list("a", [3, 0], position=1))
    assert one.ndcg_at_5.tolist() == [pytest.approx((1 + 1 / np.log2(3)) / 2)]


def test_nothing_shown_is_nothing() -> None:
    assert measured() == []
