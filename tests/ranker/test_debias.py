"""Weights of answers, from coin pairs among the training rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from ltr_pipeline.metrics.unbiased import Examination
from ltr_pipeline.ranker.data import Rows, rankings
from ltr_pipeline.ranker.debias import examination, weights
from ltr_pipeline.ranker.train import train

LISTS, ITEMS, BIAS = 3000, 4, 1.0
QUICK = {"num_iterations": 30, "num_leaves": 7, "min_data_in_leaf": 20}


def explored(seed: int = 6) -> Rows:
    """Lists shown by feature A, swapped by coins; users like what B says, at rank r they look with chance 1 / r."""
    rng = np.random.default_rng(seed)
    features = rng.random((LISTS, ITEMS, 2)).astype(np.float32)
    order = np.argsort(-features[..., 0], axis=1)
    cut, swap = rng.integers(2, size=LISTS), rng.random((LISTS, 2)) < 0.5
    propensity = np.full((LISTS, ITEMS), 0.5, np.float32)
    for row in range(LISTS):
        for number, first in enumerate(range(cut[row], ITEMS - 1, 2)):
            if swap[row, number]:
                order[row, [first, first + 1]] = order[row, [first + 1, first]]
        if cut[row]:
            propensity[row, [0, -1]] = 1.0
    features = np.take_along_axis(features, order[..., None], axis=1).reshape(-1, 2)
    position = np.tile(np.arange(ITEMS) + 1, LISTS).astype(np.int32)
    liked = rng.random(len(position)) < 0.1 + 0.8 * features[:, 1]
    relevance = (liked & (rng.random(len(position)) < position**-BIAS)).astype(np.int8)
    return Rows(features, ("A", "B"), relevance, np.full(LISTS, ITEMS, np.int32), position, propensity.ravel())


def test_an_answer_weighs_the_more_the_less_its_rank_is_looked_at() -> None:
    data = explored()
    looked_at = examination(data)
    found = weights(data, looked_at)
    assert found is not None
    assert (found[data.relevance == 0] == 1).all()
    for rank in range(1, ITEMS + 1):
        answered = found[(data.relevance > 0) & (data.position == rank)]
        assert set(answered.tolist()) == {answered[0]}
        assert answered[0] == pytest.approx(rank, rel=0.25)


def test_an_answer_below_the_curve_weighs_as_at_its_end_and_none_outweighs_all() -> None:
    curve = [Examination(rank=rank, value=value, low=0, high=2) for rank, value in ((1, 1.0), (2, 0.5), (3, 0.01))]
    rows = Rows(np.zeros((5, 1)), ("A",), np.ones(5, np.int8), np.array([5]), np.array([1, 2, 3, 4, 10_001]))
    assert weights(rows, curve).tolist() == [1, 2, 10, 10, 10]
    assert weights(rows, []) is None


def test_training_with_coins_says_so_and_without_enough_of_them_does_as_by_default() -> None:
    data = explored()
    text, about = train(data, explored(5), parameters=QUICK, seed=1, debias="coins")
    assert about.parameters["debias"] == "coins"
    assert about.importance["B"] > 0.6
    plain = Rows(data.features, data.feature_names, data.relevance, data.group, data.position)
    with capture_logs() as logs:
        same, about = train(plain, explored(5), parameters=QUICK, seed=1, debias="coins")
    assert about.parameters["debias"] is True
    assert "too few coin pairs" in logs[0]["event"]
    assert same == train(plain, explored(5), parameters=QUICK, seed=1)[0] != text


def test_what_an_answer_weighs_and_what_its_ranking_weighs_are_multiplied() -> None:
    data = explored()
    alike = replace(data, weight=np.ones(LISTS, np.float32))
    same = train(alike, explored(5), parameters=QUICK, seed=1, debias="coins")[0]
    assert same == train(data, explored(5), parameters=QUICK, seed=1, debias="coins")[0]
    half = replace(data, weight=np.where(np.arange(LISTS) % 2, 1e-6, 1).astype(np.float32))
    kept = rankings(data, np.arange(LISTS) % 2 == 0)
    found = train(half, explored(5), parameters=QUICK, seed=1, debias="coins")[1].importance["B"]
    assert found == pytest.approx(
        train(kept, explored(5), parameters=QUICK, seed=1, debias="coins")[1].importance["B"], abs=0.05
    )
