"""Which rankings of the test days a report shows, and what it says of them."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from ltr_pipeline.dataset.load import UNKNOWN_POSITION, Dataset
from ltr_pipeline.gate.examples import Examples, Place, choose
from ltr_pipeline.gate.measure import Contest, HeldOut
from ltr_pipeline.gate.rivals import Rival, Rivals
from ltr_pipeline.scoring.scorer import Scorer
from support.nights import DATASET, part

START = dt.datetime(2025, 7, 10, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
CHAMPION = "20250709_0215"
NEW, FORMER = (Scorer.from_linear({name: 1.0}, ("new", "former")) for name in ("new", "former"))


def held_out(lists: list[tuple[list[int], list[int], list[int]]], positions: list[int] | None = None) -> HeldOut:
    """Lists of (relevance, score by the new model, score by the former one), one a day."""
    sizes = [len(relevance) for relevance, _, _ in lists]
    number = np.repeat(np.arange(len(lists)), sizes)
    scores = [np.concatenate([one[which] for one in lists]) for which in (1, 2)]
    shown = np.concatenate([np.arange(1, size + 1) for size in sizes])
    test = Dataset(
        features=np.stack(scores, axis=1).astype(np.float32),
        feature_names=("new", "former"),
        relevance=np.concatenate([one[0] for one in lists]).astype(np.int8),
        group=np.array(sizes, np.int32),
        position=np.array(positions or shown, np.int32),
        ids=pl.DataFrame(
            {
                "query_id": [f"q-{n}" for n in number],
                "ranking_id": [f"r-{n}" for n in number],
                "item_id": [f"i-{n}" for n in shown],
                "user_id": [f"u-{n}" for n in number],
                "time": [START + int(n) * DAY for n in number],
                "protected_group": ["a"] * len(number),
            }
        ),
    )
    trained_on = pl.DataFrame({"item_id": ["i-1"], "protected_group": ["a"]})
    return HeldOut(test, replace(DATASET, train=part(28, 8, 500)), trained_on, seed=1, group_share_min=0.01)


UP, DOWN = [1, 2, 3], [3, 2, 1]
LISTS = [
    ([0, 0, 1], DOWN, DOWN),  # bad before, bad now
    ([0, 0, 1], UP, UP),  # good before, good now
    ([0, 0, 2], UP, DOWN),  # better
    ([0, 0, 0], UP, DOWN),  # nothing is relevant: not judged
    ([3, 0, 0], UP, DOWN),  # worse
    ([0, 1, 0], DOWN, DOWN),
]


def chosen(days: HeldOut, **rivals: object) -> Examples:
    return choose(Contest(days, NEW, Rivals(**rivals)))


def champion(scorer: Scorer = FORMER, seen_until: dt.datetime = START) -> Rival:
    return Rival(version=CHAMPION, scorer=scorer, seen_until=seen_until)


def test_one_got_better_one_is_typical_and_one_got_worse() -> None:
    found = chosen(held_out(LISTS), champion=champion())
    assert (found.against, found.version) == ("champion", CHAMPION)
    assert [(one.kind, one.query_id) for one in found.examples] == [
        ("better", "q-2"),
        ("typical", "q-5"),
        ("worse", "q-4"),
    ]
    better = found.examples[0]
    assert (better.ndcg_at_5, better.rival_ndcg_at_5) == (1, pytest.approx(0.5))
    assert (better.candidates, better.time) == (3, START + 2 * DAY)
    assert better.places == [
        Place(item_id="i-3", rank=1, shown=3, rival=3, relevance=2),
        Place(item_id="i-2", rank=2, shown=2, rival=2, relevance=0),
        Place(item_id="i-1", rank=3, shown=1, rival=1, relevance=0),
    ]


def test_rankings_that_the_champion_was_trained_on_are_no_example_of_a_change() -> None:
    found = chosen(held_out(LISTS), champion=champion(seen_until=START + 3 * DAY))
    assert "q-2" not in [one.query_id for one in found.examples if one.kind == "better"]
    seen_all = chosen(held_out(LISTS), champion=champion(seen_until=START + 30 * DAY))
    assert (seen_all.against, seen_all.version) == ("logged_order", None)


def test_without_a_champion_legacy_weights_or_the_order_shown_take_its_place() -> None:
    assert chosen(held_out(LISTS), legacy_weights={"former": 1.0}).against == "legacy_linear"
    assert chosen(held_out(LISTS)).against == "logged_order"


def test_what_counts_is_shown_the_judged_places_and_all_that_was_relevant() -> None:
    size = 30
    relevance = [1] * 4 + [0] * (size - 4)  # the last four in the new order
    (one, *_) = chosen(held_out([(relevance, list(range(size)), list(range(size)))])).examples
    assert [(place.rank, place.relevance) for place in one.places] == [
        *((rank, 0) for rank in range(1, 6)),
        *((rank, 1) for rank in range(27, 30)),
    ]


def test_a_place_that_was_not_logged_is_none_and_a_long_id_is_cut() -> None:
    days = held_out([([0, 1], [1, 2], [1, 2])], positions=[UNKNOWN_POSITION, 2])
    ids = days.test.ids.with_columns(item_id=pl.lit("x" * 500))
    days = dataclasses.replace(days, test=dataclasses.replace(days.test, ids=ids))
    (one,) = chosen(days).examples
    assert {place.shown for place in one.places} == {None, 2}
    assert all(len(place.item_id) == 80 for place in one.places)


def test_days_on_which_nothing_is_judged_have_no_example() -> None:
    assert chosen(held_out([([0, 0], [1, 2], [1, 2])])).examples == []
