"""A refit keeps the trees and learns from fresh rankings alone; what stands beside it is made anew."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.errors import NothingToLearnError, RankerError
from ltr_pipeline.metrics.quality import ndcg
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.unbiased import Examination
from ltr_pipeline.ranker.data import joined
from ltr_pipeline.ranker.refresh import FEWEST_POSITIVE, check_enough, refit, refreshed
from ltr_pipeline.ranker.train import Trained, train
from ltr_pipeline.scoring.scorer import Scorer

NAMES = ("A", "S")
ITEMS = 8


def lists(count: int, seed: int, sign: float = 1.0) -> Dataset:
    """Lists of eight shown in any order; users want much of A, or little of it, and some of S."""
    random = np.random.default_rng(seed)
    features = random.random((count * ITEMS, 2), dtype=np.float32)
    liked = sign * features[:, 0] + 0.3 * features[:, 1] + random.normal(0, 0.1, count * ITEMS)
    relevance = (liked > np.quantile(liked, 0.7)).astype(np.int8)
    position = np.tile(np.arange(1, ITEMS + 1, dtype=np.int32), count)
    return Dataset(features, NAMES, relevance, np.full(count, ITEMS, np.int32), position, None)


LEARNED, VALID = lists(300, 1), lists(100, 2)
TURNED, TURNED_TEST = lists(200, 3, sign=-1), lists(200, 4, sign=-1)


@pytest.fixture(scope="module")
def parent() -> tuple[str, Trained]:
    return train(LEARNED, VALID, parameters={"num_iterations": 20}, positive=1, seed=7)


def reached(text: str, data: Dataset) -> float:
    scores = Scorer.from_model(text, NAMES).score(data.features)
    return float(np.nanmean(ndcg(Rankings(data.relevance, scores, data.group))))


def made(parent: tuple[str, Trained], fresh: Dataset = TURNED, **more: Any) -> tuple[str, Trained]:
    return refreshed(parent[0], fresh, VALID, parameters=parent[1].parameters, positive=1, **more)


def test_the_trees_stay_and_what_changed_is_learned(parent: tuple[str, Trained]) -> None:
    text, trained = parent
    found = refit(text, TURNED, decay=0.0)
    assert reached(found, TURNED_TEST) > reached(text, TURNED_TEST) + 0.2
    splits = [re.findall(rf"^{part}=(.*)$", text, re.MULTILINE) for part in ("split_feature", "threshold")]
    assert splits == [re.findall(rf"^{part}=(.*)$", found, re.MULTILINE) for part in ("split_feature", "threshold")]
    assert Scorer.from_model(found, NAMES).trees == trained.trees


def test_a_leaf_keeps_the_decay_of_its_value(parent: tuple[str, Trained]) -> None:
    """The first tree is refitted from the same gradients whatever the decay is, so its values lie on a line."""
    first = [
        np.array([float(value) for value in re.findall(r"^leaf_value=(.*)$", text, re.MULTILINE)[0].split()])
        for text in (parent[0], *(refit(parent[0], TURNED, decay=decay) for decay in (0.0, 0.9)))
    ]
    former, new, mixed = first
    assert mixed == pytest.approx(0.9 * former + 0.1 * new)
    assert new != pytest.approx(former, abs=0.01)


def test_threads_and_repetition_change_no_byte(parent: tuple[str, Trained]) -> None:
    assert refit(parent[0], TURNED) == refit(parent[0], TURNED) == refit(parent[0], TURNED, threads=2)


def test_what_stands_beside_the_trees_is_made_anew_on_the_right_rankings(parent: tuple[str, Trained]) -> None:
    text, trained = made(parent)
    before = parent[1]
    assert trained.importance == pytest.approx(before.importance)
    assert (trained.missing_rules, trained.trees) == (before.missing_rules, before.trees)
    assert trained.valid_ndcg_at_5 == pytest.approx(reached(text, VALID))
    assert trained.calibration is not None
    assert trained.calibration.x != before.calibration.x
    assert trained.linear != before.linear
    assert trained.parameters == before.parameters | {"refit_decay_rate": 0.9, "debias": False}
    assert before.parameters["debias"] is True
    other, _ = made(parent, fresh=replace(TURNED, position=None))
    assert other == text, "positions are not looked at"


def test_answers_are_weighted_where_coins_tell_how_much_a_rank_is_looked_at(parent: tuple[str, Trained]) -> None:
    looked_at = [Examination(rank=rank, value=1 / rank, low=1 / rank, high=1 / rank) for rank in range(1, ITEMS + 1)]
    text, trained = made(parent, looked_at=looked_at)
    assert trained.parameters["debias"] == "coins"
    assert text == refit(parent[0], TURNED, looked_at=looked_at) != refit(parent[0], TURNED)


def test_lists_that_weigh_nothing_teach_nothing(parent: tuple[str, Trained]) -> None:
    both = joined(TURNED, LEARNED)
    weight = np.repeat([0, 1], [len(TURNED.group), len(LEARNED.group)]).astype(np.float32)
    found = refit(parent[0], replace(both, weight=weight), decay=0.0)
    scores = [
        Scorer.from_model(text, NAMES).score(VALID.features) for text in (found, refit(parent[0], LEARNED, decay=0))
    ]
    assert scores[0] == pytest.approx(scores[1])


def test_below_200_positive_answers_there_is_nothing_to_refresh(parent: tuple[str, Trained]) -> None:
    positives = np.flatnonzero(TURNED.relevance)

    def with_positives(count: int) -> Dataset:
        relevance = TURNED.relevance.copy()
        relevance[positives[count:]] = 0
        return replace(TURNED, relevance=relevance)

    assert check_enough(with_positives(200), 1) == FEWEST_POSITIVE == 200
    with pytest.raises(NothingToLearnError, match="there is nothing to refresh: 199 positive answers"):
        made(parent, fresh=with_positives(199))
    with pytest.raises(NothingToLearnError, match="0 positive answers"):
        check_enough(TURNED, 2)


def test_a_model_of_other_features_is_left_to_the_night(parent: tuple[str, Trained]) -> None:
    for names in (("S", "A"), ("A", "T")):
        with pytest.raises(NothingToLearnError, match=r"the model has the features \['A', 'S'\]"):
            refit(parent[0], replace(TURNED, feature_names=names))


def test_what_lightgbm_cannot_refit_is_said_in_one_line(parent: tuple[str, Trained]) -> None:
    with pytest.raises(RankerError, match=r"LightGBM refuses to refit the model: .*LTR_HOURLY_MODE=full"):
        refit(parent[0], replace(TURNED, relevance=TURNED.relevance * 40))
    with pytest.raises(RankerError, match="refuses to refit"):
        refit("no model", TURNED)


def test_categories_stay_categories() -> None:
    learned, fresh = (
        replace(data, features=np.floor(data.features * 6).astype(np.float32)) for data in (LEARNED, TURNED)
    )
    text, _ = train(learned, VALID, parameters={"categorical_feature": "name:A", "num_iterations": 5}, seed=7)
    found = refit(text, fresh)
    assert "==" in lgb.Booster(model_str=found).dump_model()["tree_info"][0]["tree_structure"]["decision_type"]
    assert re.findall("^cat_threshold=.*$", found, re.MULTILINE) == re.findall("^cat_threshold=.*$", text, re.MULTILINE)
