import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import RankerError
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.parameters import PARAMETERS, complete
from ltr_pipeline.ranker.train import boost

FEATURES = ("A", "S", "T", "G")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"mc": "1,0,-1,0"}, {"monotone_constraints": [1, 0, -1, 0]}),
        ({"feature_penalty": [0.5, 1, 1, 0]}, {"feature_contri": [0.5, 1, 1, 0]}),
        ({"max_bin_by_feature": [2, 3.0, 255, 63]}, {"max_bin_by_feature": [2, 3, 255, 63]}),
        ({"cat_feature": "name:G,S"}, {"categorical_feature": ["S", "G"]}),
        ({"categorical_feature": "3, 1"}, {"categorical_feature": ["S", "G"]}),
        ({"categorical_feature": ["T", 0, "A"]}, {"categorical_feature": ["A", "T"]}),
        ({"categorical_feature": "T"}, {"categorical_feature": ["T"]}),
        ({"categorical_feature": ""}, {"categorical_feature": []}),
        ({"interaction_constraints": "[0,1],[2]"}, {"interaction_constraints": [[0, 1], [2]]}),
        ({"interaction_constraints": [["S", "A"], [3]]}, {"interaction_constraints": [[0, 1], [3]]}),
        ({"eta": 0.3, "early_stopping_rounds": -1}, {"learning_rate": 0.3, "early_stopping_round": -1}),
        ({"scale_pos_weight": 2.0}, {"scale_pos_weight": 2.0}),  # of another objective, as LightGBM's list says
    ],
)
def test_parameters_are_taken_by_first_names_on_top_of_the_defaults(given, taken):
    assert complete(given, FEATURES) == PARAMETERS | taken


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"monotone_constraints": [1, 0, 0]}, "monotone_constraints has 3 values for the 4 features A, S, T, G; give"),
        ({"max_bin_by_feature": 3}, "max_bin_by_feature has 1 value for the 4 features"),
        ({"feature_contri": []}, "feature_contri has 0 values for the 4 features"),
        ({"monotone_constraints": [0.5, 0, 0, 0]}, "its values must be -1, 0 or 1"),
        ({"monotone_constraints": ["up", 0, 0, 0]}, "its values must be -1, 0 or 1"),
        ({"max_bin_by_feature": [2.5, 9, 9, 9]}, "must be whole numbers from 2"),
        ({"feature_contri": [float("nan"), 1, 1, 1]}, "must be finite numbers"),
        ({"categorical_feature": "name:X"}, "categorical_feature: 'X' is none of the 4 features A, S, T, G; give"),
        ({"categorical_feature": [4]}, "categorical_feature: 4 is none of the 4 features"),
        ({"categorical_feature": "-1"}, "categorical_feature: '-1' is none of"),
        ({"categorical_feature": True}, "categorical_feature: True is none of"),
        ({"categorical_feature": "name:T", "mc": [0, 0, 1, 0]}, "monotone_constraints: T is categorical"),
        ({"interaction_constraints": [[0, 99]]}, "interaction_constraints: 99 is none of the 4 features"),
        ({"interaction_constraints": [0, 1]}, "not a list of lists of features"),
        ({"interaction_constraints": "[0,"}, "not a list of lists of features"),
        ({"interaction_constraints": []}, "not a list of lists of features"),
        ({"valid_data": "x", "train_data": "y"}, r"\['train_data', 'valid_data'\] would have no effect: they are for"),
        ({"machines": "127.0.0.1:80"}, "would have no effect: they are for several machines"),
        ({"pred_early_stop": True}, "would have no effect: they are for a model that is trained already"),
        ({"first_metric_only": False}, "the pipeline stops by nDCG@5 alone"),
        ({"force_col_wise": True}, "are set by the pipeline"),
        ({"eta": 0.1, "learning_rate": 0.2}, "eta and learning_rate are two names of one parameter; keep one"),
        ({"max_depth": None}, "max_depth has no value"),
        ({"num_iterations": "500"}, "num_iterations is '500', not a whole number from 1"),
        ({"n_estimators": 0}, "num_iterations is 0, not a whole number from 1"),
        ({"min_data_in_leaf": 1.5}, "min_data_in_leaf is 1.5, not a whole number"),
        ({"early_stopping_round": True}, "early_stopping_round is True, not a whole number"),
        ({"forcedsplits_filename": "/nowhere"}, "forcedsplits_filename: /nowhere: No such file or directory"),
    ],
)
def test_what_would_have_no_effect_or_another_one_is_refused(parameters, said):
    with pytest.raises(RankerError, match=said):
        complete(parameters, FEATURES)


def test_of_many_features_the_first_are_named():
    with pytest.raises(RankerError, match=r"the 300 features f0, f1, .*f19 and 280 more; give"):
        complete({"monotone_constraints": [0]}, [f"f{n}" for n in range(300)])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("forcedsplits_filename", "not json", "is not JSON"),
        ("forcedsplits_filename", "[]", "holds no JSON object"),
        ("forcedbins_filename", "{}", "holds no JSON array"),
    ],
)
def test_a_file_that_lightgbm_would_go_on_without_is_refused(tmp_path, name, text, said):
    path = tmp_path / "forced.json"
    path.write_text(text)
    with pytest.raises(RankerError, match=said):
        complete({name: str(path)}, FEATURES)


@given(st.lists(st.integers(-1, 9) | st.sampled_from([*FEATURES, "X"])))
def test_names_and_numbers_mean_the_same_features(given):
    known = [one for one in given if one in FEATURES or one in range(len(FEATURES))]
    if known == given:
        wanted = {one if isinstance(one, str) else FEATURES[one] for one in given}
        assert set(complete({"categorical_feature": given}, FEATURES)["categorical_feature"]) == wanted
    else:
        with pytest.raises(RankerError, match="is none of the 4 features"):
            complete({"categorical_feature": given}, FEATURES)


def data():
    random = np.random.default_rng(1)
    features = random.random((800, 4), dtype=np.float32)
    features[:, 3] = random.integers(0, 12, 800)
    relevance = (features[:, 0] + 2 * features[:, 1] + features[:, 3] % 3 > 2.5).astype(np.int8)
    return Rows(features, FEATURES, relevance, np.full(100, 8, np.int32))


@pytest.mark.parametrize(
    "parameters",
    [
        {"monotone_constraints": [0, -1, 0, 0]},
        {"feature_contri": [1, 0.1, 1, 1]},
        {"max_bin_by_feature": [255, 3, 255, 255]},
        {"cegb_penalty_feature_coupled": [0, 50, 0, 0]},
        {"categorical_feature": ["G"]},
        {"interaction_constraints": [["A", "S"], ["T", "G"]]},
    ],
)
def test_what_is_taken_has_an_effect(parameters):
    trees = {
        boost(data(), complete(chosen, FEATURES) | {"num_iterations": 5}, seed=1).predict(data().features).tobytes()
        for chosen in ({}, parameters)
    }
    assert len(trees) == 2
