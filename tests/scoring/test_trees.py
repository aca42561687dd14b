"""A model text that LightGBM would crash on is an error instead."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from ltr_pipeline.errors import RankerError
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.scoring.trees import read_trees
from support.documents import model_text

TEXT = model_text()


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("leaf_value=", "leaf_walue=", "leaf_value"),
        ("leaf_value=0.25", "leaf_value=abc", "abc"),
        ("leaf_value=0.25 0.75", "leaf_value=0.25", "2 leaves, but 1 of them"),
        ("right_child=-2", "right_child=7", "a child that is not there"),
        ("right_child=-2", "right_child=-3", "a child that is not there"),
        ("right_child=-2", "right_child=x", "a node or a leaf that cannot be read"),
        ("right_child=-2", "right_child=0", "circles"),
        ("split_feature=0", "split_feature=2", "beyond the 2"),
        ("right_child=-2", "right_child=-1", "two parents"),
        ("num_leaves=2\n", "num_leaves=200\n", "200 leaves and not one node less"),
        ("num_leaves=2\n", "", "0 leaves and not one node less"),
        (TEXT[TEXT.index("leaf_value") :], "", "leaf_value"),
    ],
)
def test_a_garbled_tree_is_an_error_and_not_the_end_of_the_process(good: str, bad: str, said: str) -> None:
    assert good in TEXT
    with pytest.raises(RankerError, match=said):
        Scorer.from_model(TEXT.replace(good, bad), ["A", "S"])


def test_a_tree_that_goes_round_in_circles_is_never_walked() -> None:
    nodes = "split_feature=0 0\nthreshold=1 1\ndecision_type=2 2\nleft_child=1 1\nright_child=-1 -2\n"
    tree = f"\nTree=0\nnum_leaves=3\n{nodes}leaf_value=0 0 0\n"
    with pytest.raises(RankerError, match="circles"):
        read_trees(tree)


def test_real_models_score_the_same_with_and_without() -> None:
    """Trees of one leaf, and of many, also on a category."""
    rng = np.random.default_rng(0)
    matrix = rng.random((500, 3))
    matrix[:, 2] = rng.integers(0, 5, 500)
    for target in (matrix[:, 0] + matrix[:, 2] % 2, np.ones(500)):
        data = lgb.Dataset(matrix, target, feature_name=["a", "b", "c"], categorical_feature=[2])
        booster = lgb.train({"verbose": -1, "min_data_in_leaf": 5, "num_threads": 1}, data, 20)
        scorer = Scorer.from_model(booster.model_to_string(), ["a", "b", "c"])
        float32 = matrix.astype(np.float32)
        assert scorer.score(float32).tolist() == booster.predict(float32).tolist()


@pytest.mark.parametrize(
    ("given", "read"),
    [("threshold=0.5", "threshold=0.5\nthreshold=0.75"), ("decision_type=2\n", ""), ("is_linear=0\n", "")],
)
def test_odd_texts_are_read_as_lightgbm_reads_them(given: str, read: str) -> None:
    text = TEXT.replace(given, read)
    assert text != TEXT
    matrix = np.column_stack([np.linspace(0, 1, 2000), np.zeros(2000)]).astype(np.float32)
    scores = lgb.Booster(model_str=text).predict(matrix, raw_score=True)
    assert Scorer.from_model(text, ["A", "S"]).score(matrix).tolist() == scores.tolist()
