import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import RankerError, RequestError
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.train import boost
from ltr_pipeline.scoring import scorer
from ltr_pipeline.scoring.kernel import load
from ltr_pipeline.scoring.linear import Linear
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer, rank
from support import forests

NAMES = ("A", "S")
WEIGHTS = {"A": 2.0, "S": 0.5}


def request(*features):
    candidates = [Candidate.of(f"item-{n}", values) for n, values in enumerate(features)]
    return Request(query_id="case-1", candidates=candidates)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    forests.compiled(folder := tmp_path_factory.mktemp("kernel"))
    return load(folder)


@pytest.fixture(autouse=True, params=["compiled", "numpy"])
def way(request, monkeypatch):
    """Every test holds with the compiled kernel and without."""
    if request.param == "numpy":
        monkeypatch.setattr(scorer, "fastest", lambda: None)
        return
    kernel = request.getfixturevalue("kernel")
    monkeypatch.setattr(scorer, "fastest", lambda: kernel)


@pytest.fixture(scope="module")
def model():
    """A model of 200 rankings of two, in which the higher A wins; A is missing now and then."""
    features = np.random.default_rng(1).random((400, 2), dtype=np.float32)
    relevance = (features[:, 0] > 0.5).astype(np.int8)
    features[::7, 0] = np.nan
    data = Rows(features, NAMES, relevance, np.full(200, 2, dtype=np.int32))
    return boost(data, {"num_iterations": 5, "num_leaves": 4}, seed=1)


def test_a_standardised_ranker_sums_signed_weights_to_which_a_missing_feature_adds_nothing():
    linear = Linear(weights={"A": -2.0, "S": 1.0}, means={"A": 3.0, "S": 0.5}, scales={"A": 4.0, "S": 0.5})
    scorer = Scorer.from_standardised(linear, ["S", "A"])
    matrix = np.float32([[1.0, 3.0], [np.nan, 5.0], [0.5, np.nan]])
    assert scorer.score(matrix).tolist() == [1.0, -1.0, 0.0]
    assert scorer.contributions(matrix).tolist() == [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    with pytest.raises(RankerError, match=r"differ in .'S'"):
        Scorer.from_standardised(linear, ["A"])


def test_a_linear_ranker_sums_weighted_features_with_missing_as_0():
    linear = Scorer.from_linear(WEIGHTS, NAMES)
    matrix = np.array([[1, 2], [np.nan, 2], [np.nan, np.nan]], dtype=np.float32)
    assert linear.score(matrix).tolist() == [2.0 * 1 + 0.5 * 2, 0.5 * 2, 0.0]
    assert linear.score(matrix).dtype == np.float64
    assert (linear.features, linear.trees) == (NAMES, 0)


def test_a_feature_without_a_weight_counts_nothing_but_not_the_other_way_round():
    assert Scorer.from_linear({"A": 1.0}, NAMES).score(np.array([[3, 9]], dtype=np.float32)).tolist() == [3.0]
    with pytest.raises(RankerError, match="weights for \\['X'\\]"):
        Scorer.from_linear({"X": 1.0}, NAMES)


def test_items_are_ordered_by_score_and_equal_ones_as_requested():
    ranked = rank(request({"A": 0.25}, {"A": 0.5}, {"A": 0.25}, {"A": 0.75}), Scorer.from_linear(WEIGHTS, NAMES))
    assert [(r.item_id, r.score, r.rank) for r in ranked] == [
        ("item-3", 1.5, 1),
        ("item-1", 1.0, 2),
        ("item-0", 0.5, 3),
        ("item-2", 0.5, 4),
    ]


def test_null_and_absent_features_are_missing_and_unknown_ones_ignored():
    ranked = rank(request({"A": None, "S": 1.0}, {"S": 1.0, "other": 99.0}, {}), Scorer.from_linear(WEIGHTS, NAMES))
    assert [r.score for r in ranked] == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"A": "1"}, "candidate 1 (item_id 'item-1'): feature A is not a number"),
        ({"A": 1.0, "S": True}, "feature S is not a number"),
        ({"A": 1e39}, "candidate 1 (item_id 'item-1'): feature A is beyond a 32-bit float"),
        ([1.0], "1 features, but the model has the 2 features A, S"),
        ([1.0, "x"], "feature 1 is not a number"),
        (7, "features must be an object"),
        ("text", "features must be an object"),
    ],
)
def test_features_that_cannot_be_read_are_named_with_their_candidate(features, said):
    with pytest.raises(RequestError) as error:
        rank(request({"A": 1.0}, features), Scorer.from_linear(WEIGHTS, NAMES))
    assert said in str(error.value)


def test_features_come_by_name_or_in_order_and_unknown_ones_are_told():
    linear = Scorer.from_linear(WEIGHTS, NAMES)
    read = linear.read(request({"S": 2, "A": 1}, [1, 2], [1, None], {"A": 1, "x": None, "B": 3}).candidates)
    np.testing.assert_array_equal(read.matrix, np.array([[1, 2], [1, 2], [1, np.nan], [1, np.nan]], dtype=np.float32))
    assert read.matrix.dtype == np.float32
    assert read.unknown == ("B", "x")


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["A", "S", "other"]), st.none() | st.floats(-1e30, 1e30) | st.integers(-9, 9)),
        max_size=5,
    )
)
def test_reading_is_what_looking_up_each_name_would_give(rows):
    read = Scorer.from_linear(WEIGHTS, NAMES).read(request(*rows).candidates)
    expected = [[np.nan if row.get(name) is None else row[name] for name in NAMES] for row in rows]
    np.testing.assert_array_equal(read.matrix, np.array(expected, dtype=np.float32).reshape(len(rows), 2))


def test_contributions_sum_to_the_score(model):
    for each in (Scorer.from_linear(WEIGHTS, NAMES), Scorer.from_model(model.model_to_string(), NAMES)):
        matrix = each.read(request({"A": 0.7, "S": 0.2}, {"A": None}, {}).candidates).matrix
        contributions = each.contributions(matrix)
        assert contributions.shape == (3, 3)
        np.testing.assert_allclose(contributions.sum(axis=1), each.score(matrix), atol=1e-12)
        assert each.contributions(matrix[:0]).shape == (0, 3)


def test_no_items_have_no_ranks(model):
    for each in (Scorer.from_linear(WEIGHTS, NAMES), Scorer.from_model(model.model_to_string(), NAMES)):
        assert rank(request(), each) == []


def test_a_loaded_model_scores_to_the_bit_as_the_trained_one(model):
    scorer = Scorer.from_model(model.model_to_string(), NAMES)
    matrix = np.random.default_rng(2).random((50, 2), dtype=np.float32)
    matrix[::5, 0] = np.nan
    expected = model.predict(matrix)
    assert scorer.score(matrix).tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 2
    items = [dict(zip(NAMES, (None if np.isnan(a) else float(a), float(s)), strict=True)) for a, s in matrix]
    assert {r.item_id: r.score for r in rank(request(*items), scorer)} == {
        f"item-{n}": score for n, score in enumerate(expected.tolist())
    }
    assert scorer.trees == 5


def test_features_are_float32_as_in_training():
    from_json = msgspec.json.decode(
        b'{"query_id": "q", "candidates": [{"item_id": "a", "features": {"A": 0.1}}]}', type=Request
    )
    assert rank(from_json, Scorer.from_linear({"A": 1.0}, ["A"]))[0].score == float(np.float32(0.1)) != 0.1


def test_many_equal_items_keep_their_order():
    ranked = rank(request(*[{"A": 0.5}, {"A": 0.25}] * 200), Scorer.from_linear(WEIGHTS, NAMES))
    assert [r.item_id for r in ranked] == [f"item-{n}" for n in [*range(0, 400, 2), *range(1, 400, 2)]]


@pytest.mark.parametrize("features", [("S", "A"), ("A",), ("A", "S", "T")])
def test_a_model_of_other_features_is_refused(model, features):
    with pytest.raises(RankerError, match="trained on the features \\['A', 'S'\\]"):
        Scorer.from_model(model.model_to_string(), features)


@pytest.mark.parametrize("text", ["", "tree\nversion=v4\n", "no model"])
def test_what_is_no_model_is_refused(text):
    with pytest.raises(RankerError, match="no LightGBM model"):
        Scorer.from_model(text, NAMES)


def test_a_matrix_of_another_width_is_refused():
    with pytest.raises(RankerError, match=r"shape \(3, 1\) does not have 2 features"):
        Scorer.from_linear(WEIGHTS, NAMES).score(np.zeros((3, 1), dtype=np.float32))
