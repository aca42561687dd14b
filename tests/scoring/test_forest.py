"""The quick ways to score agree with LightGBM to the last bit, on values that trees part and on strange ones.

Each test of scores runs for numpy and for the kernel of every width that this processor can run.
"""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.kernel import WIDTHS
from ltr_pipeline.scoring import scorer, tables
from ltr_pipeline.scoring.forest import Forest
from ltr_pipeline.scoring.kernel import Kernel
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.scoring.tables import Tables
from ltr_pipeline.scoring.trees import read_trees
from support import forests
from support.documents import model_text

NAMES = ["a", "b", "c"]
STRANGE = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-36, -1e-36, 1e-35, -1e-35, 1.1e-35, -1.1e-35, 3e38, -3e38]


def train(trees: int = 30, rows: int = 3000, *, gaps: bool = True, **parameters: object) -> lgb.Booster:
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(rows, 3)).round(2)
    target = matrix[:, 0] - matrix[:, 1] ** 2 + rng.normal(size=rows)
    if gaps:
        matrix[rng.random(matrix.shape) < 0.2] = np.nan
        matrix[rng.random(matrix.shape) < 0.2] = 0.0
    parameters |= {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 3}
    return lgb.train(parameters, lgb.Dataset(matrix, target, feature_name=NAMES, params=parameters), trees)


def strange_and_parting(booster: lgb.Booster) -> NDArray[np.float32]:
    """Rows of all sorts of values, among them each threshold and its neighbours in float32."""
    trees = read_trees(booster.model_to_string()).trees
    thresholds = np.array([value for tree in trees for value in tree.thresholds], np.float32)
    values = np.concatenate([thresholds, np.nextafter(thresholds, np.float32(9)), np.float32(STRANGE)])
    return np.random.default_rng(1).choice(values, (4000, 3))


def forest_of(booster: lgb.Booster, kernel: Kernel | None = None) -> Forest | None:
    return Forest.of(read_trees(booster.model_to_string()), kernel)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Kernel]:
    return forests.kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["numpy", *WIDTHS])
def kernel(request: pytest.FixtureRequest) -> Kernel | None:
    """Each way to score; None is numpy's."""
    if request.param == "numpy":
        return None
    found: dict[int, Kernel] = request.getfixturevalue("kernels")
    return found.get(request.param) or pytest.skip(f"this processor cannot score {request.param} rows at once")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"gaps": False},
        {"use_missing": False},
        {"num_leaves": 64},
        {"num_leaves": 2, "trees": 3},
        {"boosting": "dart"},
        {"trees": 600, "num_leaves": 5},
        {"rows": 20, "min_data_in_bin": 1},
    ],
    ids=str,
)
def test_scores_are_those_of_lightgbm(parameters: dict[str, object], kernel: Kernel | None) -> None:
    booster = train(**parameters)  # type: ignore[arg-type]
    made = forest_of(booster, kernel)
    assert made is not None
    matrix = strange_and_parting(booster)
    expected = booster.predict(matrix, raw_score=True)
    assert np.array_equal(made.score(matrix), expected)
    for rows in (1, 3, 17):
        assert np.array_equal(made.score(matrix[:rows]), expected[:rows])
    assert np.array_equal(made.score(np.asfortranarray(matrix)[::2]), expected[::2])


@pytest.mark.parametrize("seed", range(30))
def test_scores_of_trees_that_nobody_would_train_are_those_of_lightgbm(seed: int, kernel: Kernel | None) -> None:
    forests.compare(seed, [kernel])


@pytest.mark.parametrize(
    "threshold", ["0", "-0", "1e-36", "-1e-36", "1e-35", "-1e-35", "1.0000000180025095e-35", "0.5"]
)
@pytest.mark.parametrize("decision", [0, 2, 8, 10])
def test_thresholds_and_values_near_zero_are_taken_as_lightgbm_takes_them(
    threshold: str, decision: int, kernel: Kernel | None
) -> None:
    text = model_text().replace("threshold=0.5", f"threshold={threshold}")
    text = text.replace("decision_type=2", f"decision_type={decision}")
    matrix = np.column_stack([np.float32(STRANGE), np.zeros(len(STRANGE), np.float32)])
    made = Forest.of(read_trees(text), kernel)
    assert made is not None
    assert made.score(matrix).tolist() == lgb.Booster(model_str=text).predict(matrix, raw_score=True).tolist()


@pytest.mark.parametrize(
    "parameters",
    [
        {"zero_as_missing": True},
        {"max_cat_to_onehot": 1},
        {"num_leaves": 65},
        {"linear_tree": True},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"objective": "multiclassova", "num_class": 2},
    ],
    ids=str,
)
def test_what_is_no_order_of_numbers_is_left_to_lightgbm(parameters: dict[str, object]) -> None:
    rng = np.random.default_rng(7)
    matrix = rng.integers(-5, 6, (3000, 3)).astype(float)
    categories = [2] if "max_cat_to_onehot" in parameters else []
    matrix[:, categories] += 5
    target = (matrix[:, 0] * (matrix[:, 2] % 2) > rng.normal(size=3000)).astype(float)
    settings = parameters | {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 3}
    data = lgb.Dataset(matrix, target, feature_name=NAMES, categorical_feature=categories, params=settings)
    booster = lgb.train(settings, data, 5)
    assert forest_of(booster) is None
    if "num_class" not in parameters:
        float32 = matrix.astype(np.float32)
        assert Scorer.from_model(booster.model_to_string(), NAMES).score(float32).tolist() == (
            booster.predict(float32, raw_score=True).tolist()
        )


def test_a_model_of_nothing_but_leaves_is_their_sum(kernel: Kernel | None) -> None:
    booster = train(rows=4)  # too few to split
    made = forest_of(booster, kernel)
    assert made is not None
    assert made.score(np.zeros((2, 3), np.float32)).tolist() == booster.predict(np.zeros((2, 3))).tolist()


def test_rows_that_are_too_short_are_an_error(kernel: Kernel | None) -> None:
    booster = train(3)
    made = forest_of(booster, kernel)
    assert made is not None
    with pytest.raises(IndexError):
        made.score(np.zeros((2, 2), np.float32))


def test_a_quick_way_that_differs_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forest, "score", lambda _self, matrix: np.zeros(len(matrix)))
    found = Scorer.from_model(model_text(), ["A", "S"])
    assert found.score(np.float32([[0.25, 0], [0.75, 0]] * 2000)).tolist() == [0.25, 0.75] * 2000


def test_few_rows_and_many_are_scored_alike(monkeypatch: pytest.MonkeyPatch, kernel: Kernel | None) -> None:
    booster = train(100)
    monkeypatch.setattr(scorer, "fastest", lambda: kernel)
    found = Scorer.from_model(booster.model_to_string(), NAMES)
    matrix = strange_and_parting(booster)[:50]
    assert len(matrix) * 100 > Tables.FEWEST > 10 * 100
    assert found.score(matrix)[:10].tolist() == found.score(matrix[:10]).tolist()


def test_tables_that_would_take_too_much_memory_are_left_to_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = train(30)
    monkeypatch.setattr(tables, "LARGEST_BYTES", 10_000)
    assert forest_of(booster) is None
