from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ltr_pipeline.dataset.load import UNKNOWN_POSITION, Dataset
from ltr_pipeline.errors import RankerError, SettingsError
from ltr_pipeline.metrics.quality import ndcg
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.ranker.data import held_out, preferences
from ltr_pipeline.ranker.data import rankings as rankings_of
from ltr_pipeline.ranker.distil import distilled
from ltr_pipeline.ranker.parameters import PARAMETERS
from ltr_pipeline.ranker.train import Chooser, boost, check_parameters, label_gain, missing_rules, train
from ltr_pipeline.scoring.scorer import Scorer

NAMES = ("A", "S", "T")
ITEMS = 8
QUICK = {"num_iterations": 15, "early_stopping_round": 5}


def rankings(count, seed=0, bias=0.0):
    """Rankings of 8 shown by A; users like A and S, not T, and look at position p with probability p^-bias."""
    random = np.random.default_rng(seed)
    features = random.random((count * ITEMS, 3), dtype=np.float32)
    position = 1 + np.argsort(np.argsort(-features[:, 0].reshape(count, ITEMS), axis=1), axis=1).ravel()
    liked = features[:, 0] + 2 * features[:, 1] + random.normal(0, 0.3, count * ITEMS) > 2
    relevance = liked & (random.random(count * ITEMS) < position**-bias)
    features[random.random(count * ITEMS) < 0.1, 1] = np.nan
    group = np.full(count, ITEMS, dtype=np.int32)
    return Dataset(features, NAMES, relevance.astype(np.int8), group, position.astype(np.int32), None)


TRAIN, VALID, TEST = rankings(300, 1), rankings(60, 2), rankings(200, 3)


@pytest.fixture(scope="module")
def trained():
    return train(TRAIN, VALID, seed=7)


def reached(text, data=TEST):
    return np.nanmean(ndcg(Rankings(data.relevance, Scorer.from_model(text, NAMES).score(data.features), data.group)))


def test_it_learns_the_order(trained):
    text, about = trained
    random_order = np.nanmean(ndcg(Rankings(TEST.relevance, np.zeros(len(TEST.relevance)), TEST.group)))
    assert reached(text) > random_order + 0.2
    assert max(about.importance, key=about.importance.get) == "S"
    assert sum(about.importance.values()) == pytest.approx(1)
    assert about.seconds > 0


def test_the_text_is_the_model_that_validation_chose(trained):
    text, about = trained
    assert about.trees == Scorer.from_model(text, NAMES).trees < PARAMETERS["num_iterations"]
    assert about.valid_ndcg_at_5 == pytest.approx(reached(text, VALID), abs=1e-12)


def test_the_test_days_are_not_looked_at_but_the_validation_days_are():
    shuffled = replace(VALID, relevance=np.random.default_rng(0).permutation(VALID.relevance))
    assert train(TRAIN, VALID, seed=7)[1].trees != train(TRAIN, shuffled, seed=7)[1].trees


@pytest.mark.parametrize("debias", [True, False])
def test_threads_change_no_byte(debias):
    data, valid = rankings(3000, 4, bias=0.5), rankings(300, 5, bias=0.5)
    texts = {train(data, valid, parameters=QUICK, seed=7, threads=n, debias=debias)[0] for n in (1, 2, 2)}
    assert len(texts) == 1
    assert "[num_threads: 1]" in texts.pop()


def test_a_seed_decides_what_is_random():
    sampled = QUICK | {"feature_fraction": 0.5}
    first, again, other = (train(TRAIN, VALID, parameters=sampled, seed=seed) for seed in (7, 7, 8))
    assert first[0] == again[0] != other[0]
    assert replace_seconds(first[1]) == replace_seconds(again[1])


def replace_seconds(about):
    return {name: getattr(about, name) for name in about.__struct_fields__ if name != "seconds"}


def test_positions_are_used_but_are_no_feature(trained):
    biased = rankings(2000, 6, bias=1.0)
    text, about = train(biased, VALID, parameters=QUICK, seed=7)
    plain, _ = train(biased, VALID, parameters=QUICK, seed=7, debias=False)
    assert text != plain
    header = dict(line.split("=", 1) for line in text.split("\n\n")[0].splitlines() if "=" in line)
    assert header["feature_names"] == "A S T"
    assert (about.parameters["debias"], set(about.importance)) == (True, set(NAMES))


def test_debiasing_brings_the_order_closer_to_what_users_like():
    """Shown by A, seen from the top: without debiasing A looks better than it is."""
    biased, loose = rankings(4000, 8, bias=1.5), QUICK | {"lambdarank_position_bias_regularization": 0.0}
    with_bias, without = (train(biased, VALID, parameters=loose, seed=7, debias=debias)[0] for debias in (False, True))
    assert reached(without) > reached(with_bias) + 0.005


def test_positions_that_are_partly_or_nowhere_known_are_no_obstacle():
    part = TRAIN.position.copy()
    part[::3] = UNKNOWN_POSITION
    assert train(replace(TRAIN, position=part), VALID, parameters=QUICK, seed=7)[1].parameters["debias"]
    nowhere = train(replace(TRAIN, position=None), VALID, parameters=QUICK, seed=7)
    assert not nowhere[1].parameters["debias"]
    assert nowhere[0] == train(TRAIN, VALID, parameters=QUICK, seed=7, debias=False)[0]


def test_the_missing_rule_is_what_the_model_does():
    """A has no missing value in training, S has, T says nothing and cannot be split."""
    data = replace(TRAIN, features=TRAIN.features.copy())
    data.features[:, 2] = 0.5
    booster = boost(data, {"num_iterations": 20}, seed=7)
    rules = missing_rules(booster)
    assert rules == {"A": "as zero", "S": "learned", "T": "unused"}
    for column, name in enumerate(NAMES):
        missing, zero = TEST.features.copy(), TEST.features.copy()
        missing[:, column], zero[:, column] = np.nan, 0
        same = np.array_equal(booster.predict(missing), booster.predict(zero))
        assert same == (rules[name] != "learned")
    told = boost(data, {"num_iterations": 20, "zero_as_missing": True}, seed=7)
    assert missing_rules(told)["S"] == "learned, for zero too"


def test_linear_weights_distil_the_model(trained):
    weights = trained[1].linear_weights
    assert list(weights) == list(NAMES)
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert weights["S"] > weights["A"] > weights["T"] >= 0
    linear = Scorer.from_linear(weights, NAMES).score(np.nan_to_num(TEST.features))
    assert np.nanmean(ndcg(Rankings(TEST.relevance, linear, TEST.group))) > 0.9 * reached(trained[0])


class Straight:
    """A model that is a weighted sum already, with one term for the ranking."""

    def __init__(self, weights):
        self.weights = np.array(weights)

    def predict(self, features, **_):
        return features.astype(float) @ self.weights + np.repeat(np.arange(len(features) // ITEMS) * 100, ITEMS)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_linear_weights_are_shares_of_what_helps(weights):
    data = replace(TEST, features=np.nan_to_num(TEST.features, nan=0.5))
    linear, shares = distilled(Straight(weights), data)
    assert min(shares.values()) >= 0
    assert abs(sum(shares.values()) - 1) <= 1e-9
    if min(weights) >= 0 and sum(weights) > 0.1:
        expected = np.array(weights) / sum(weights)
        assert list(shares.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    steepness = [linear.weights[name] / linear.scales[name] for name in NAMES]
    assert steepness == pytest.approx(weights, abs=1e-4)


def test_linear_weights_are_equal_when_nothing_helps():
    data = replace(TEST, features=np.nan_to_num(TEST.features))
    assert list(distilled(Straight([-1, -1, -1]), data)[1].values()) == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_the_fallback_knows_that_less_of_a_cost_is_better():
    costs = {part: replace(data, features=-data.features) for part, data in {"train": TRAIN, "test": TEST}.items()}
    booster = boost(costs["train"], {"num_iterations": 20}, seed=7)
    linear, shares = distilled(booster, costs["train"])
    assert linear.weights["S"] < 0
    by_linear = Scorer.from_standardised(linear, NAMES).score(costs["test"].features)
    by_shares = Scorer.from_linear(shares, NAMES).score(costs["test"].features)
    good, bad = (np.nanmean(ndcg(Rankings(TEST.relevance, score, TEST.group))) for score in (by_linear, by_shares))
    assert good > 0.9 * reached(booster.model_to_string(), costs["test"])
    assert good > bad + 0.1


def test_the_fallback_standardises_by_what_is_known_and_a_feature_that_is_all_alike_has_no_effect():
    data = replace(TRAIN, features=TRAIN.features.copy())
    data.features[:, 2] = 4
    data.features[::2, 0] = np.nan
    linear, _ = distilled(boost(data, {"num_iterations": 5}, seed=7), data)
    assert (linear.means["T"], linear.scales["T"], linear.weights["T"]) == (4, 1, 0)
    assert linear.means["A"] == pytest.approx(float(np.nanmean(data.features[:, 0])), rel=0.05)
    assert linear.scales["A"] == pytest.approx(float(np.nanstd(data.features[:, 0])), rel=0.05)


def test_a_small_log_gives_a_model_to_judge():
    assert train(rankings(6, 9), VALID, seed=7)[1].parameters["min_data_in_leaf"] == 6 * ITEMS // 20


def test_without_a_judgment_in_validation_all_trees_are_kept():
    nothing = replace(VALID, relevance=np.zeros_like(VALID.relevance))
    empty = Dataset(VALID.features[:0], NAMES, VALID.relevance[:0], VALID.group[:0], None, None)
    for valid in (nothing, empty):
        with capture_logs() as logs:
            _, about = train(TRAIN, valid, parameters={"num_iterations": 12}, seed=7)
        assert (about.trees, about.valid_ndcg_at_5) == (12, None)
        assert [entry["event"] for entry in logs] == ["no validation ranking has a preference: all trees are kept"]


NOTHING = replace(VALID, relevance=np.zeros_like(VALID.relevance))
FEW = {"num_iterations": 200, "early_stopping_round": 10, "learning_rate": 0.3, "min_data_in_leaf": 50}


def queries(data):
    """Two rankings for each query."""
    return [f"case-{number // 2}" for number in range(len(data.group))]


def test_without_a_judgment_in_validation_held_out_training_rankings_choose_the_number_of_trees():
    with capture_logs() as logs:
        text, about = train(TRAIN, NOTHING, queries=queries(TRAIN), parameters=FEW, seed=7)
    out = held_out(queries(TRAIN))
    most, judges = rankings_of(TRAIN, ~out), rankings_of(TRAIN, out)
    _, chosen = train(most, judges, parameters=FEW, seed=7)
    assert 1 < chosen.trees < 100
    assert about.chosen_by == Chooser(source="training", rankings=preferences(judges))
    assert chosen.chosen_by == Chooser(source="validation", rankings=preferences(judges))
    assert about.valid_ndcg_at_5 is None
    whole, _ = train(TRAIN, NOTHING, parameters=FEW | {"num_iterations": chosen.trees}, seed=7)
    assert trees_of(text) == trees_of(whole)  # all rankings were learned from
    assert {entry["log_level"] for entry in logs} == {"info"}


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_on_noisy_clicks_the_trees_that_held_out_rankings_choose_are_better_than_all(seed):
    data = rankings(150, seed)
    noise = np.random.default_rng(seed).random(len(data.relevance)) < 0.35
    noisy = replace(data, relevance=np.where(noise, 1 - data.relevance, data.relevance).astype(np.int8))
    chosen, kept = (train(noisy, NOTHING, queries=names, seed=7)[0] for names in (queries(noisy), None))
    assert reached(chosen) > reached(kept) + 0.02


def trees_of(text):
    """The model without its parameters, of which `num_iterations` may differ."""
    return text.partition("\nparameters:")[0]


def test_held_out_rankings_choose_the_same_again_and_whatever_the_threads():
    models = {train(TRAIN, NOTHING, queries=queries(TRAIN), parameters=FEW, seed=7, threads=n)[0] for n in (1, 2, 1)}
    assert len(models) == 1


@pytest.mark.parametrize(
    ("data", "names", "more"),
    [
        (TRAIN, None, {}),
        (TRAIN, ["case-1"] * 300, {}),  # nothing is held out
        (TRAIN, ["case-2"] * 300, {}),  # all would be
        (TRAIN, queries(TRAIN), {"early_stopping_round": 0}),
        (TRAIN, queries(TRAIN), {"boosting": "dart"}),  # LightGBM cannot stop it early
    ],
)
def test_all_trees_are_kept_where_nobody_can_choose(data, names, more):
    with capture_logs() as logs:
        _, about = train(data, NOTHING, queries=names, parameters={"num_iterations": 12} | more, seed=7)
    assert (about.trees, about.chosen_by) == (12, Chooser(source="none", rankings=0))
    assert [entry["event"] for entry in logs] == ["no validation ranking has a preference: all trees are kept"]


def test_all_trees_are_kept_where_the_held_out_rankings_prefer_nothing():
    out = np.repeat(held_out(queries(TRAIN)), TRAIN.group)
    data = replace(TRAIN, relevance=np.where(out, 0, TRAIN.relevance).astype(np.int8))
    _, about = train(data, NOTHING, queries=queries(TRAIN), parameters={"num_iterations": 12}, seed=7)
    assert (about.trees, about.chosen_by.source) == (12, "none")


def one_ranking():
    return Dataset(TRAIN.features[:ITEMS], NAMES, np.arange(ITEMS, dtype=np.int8), TRAIN.group[:1], None, None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Dataset(TRAIN.features[:0], NAMES, TRAIN.relevance[:0], TRAIN.group[:0], None, None), "no training ranking"),
        (replace(TRAIN, relevance=np.zeros_like(TRAIN.relevance)), "0 of 300 training rankings prefer"),
        (one_ranking(), "1 of 1 training rankings prefer"),
        (replace(TRAIN, features=np.full_like(TRAIN.features, np.nan)), "none of the features"),
        (replace(TRAIN, features=np.full_like(TRAIN.features, 0.5)), "none of the features"),
        (
            replace(TRAIN, features=TRAIN.features[::ITEMS].repeat(ITEMS, axis=0)),
            "tells two items of a training ranking",
        ),
        (replace(TRAIN, relevance=np.ones_like(TRAIN.relevance)), "0 of 300 training rankings prefer"),
    ],
)
def test_nothing_to_learn_is_an_error(data, message):
    with pytest.raises(RankerError, match=message):
        train(data, VALID, seed=7)


def test_a_model_without_a_split_is_an_error():
    with pytest.raises(RankerError, match="found no split"):
        train(TRAIN, VALID, parameters={"min_gain_to_split": 1e9}, seed=7)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_leafs": 7}, "no parameters num_leafs"),
        ({"application": "binary"}, r"parameters \['application'\] are set by the pipeline"),
        ({"n_jobs": 4}, "are set by the pipeline"),
        ({"num_leaves": "many"}, "LightGBM refuses to train"),
        ({"learning_rate": -1}, "LightGBM refuses to train"),
    ],
)
def test_a_wrong_parameter_is_an_error(parameters, message):
    with pytest.raises(RankerError, match=message):
        train(TRAIN, VALID, parameters=parameters, seed=7)


def test_an_alias_replaces_the_default():
    assert train(TRAIN, VALID, parameters=QUICK | {"eta": 0.3}, seed=7)[1].parameters["learning_rate"] == 0.3
    assert train(TRAIN, VALID, parameters={"n_estimators": 3}, seed=7)[1].trees <= 3


def test_gains_are_exponential_and_reach_the_highest_relevance():
    assert label_gain(3) == [2.0**0 - 1, 2.0**1 - 1, 2.0**2 - 1, 2.0**3 - 1]
    text, _ = train(TRAIN, VALID, parameters=QUICK, max_relevance=3, seed=7)
    assert "[label_gain: 0,1,3,7]" in text


def test_spinning_threads_are_warned_about(monkeypatch):
    for policy, threads, warned in (("", 2, True), ("PASSIVE", 2, False), ("", 1, False)):
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
        with capture_logs() as logs:
            boost(TRAIN, {"num_iterations": 1}, seed=7, threads=threads)
        assert any("OMP_WAIT_POLICY" in entry["event"] for entry in logs) == warned


def test_training_prints_nothing(capfd):
    train(rankings(6, 9), VALID, seed=7)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "wrong", [{"learning_rat": 0.1}, {"num_leaves": -1}, {"num_threads": 8}, {"learning_rate": "x"}]
)
def test_parameters_that_lightgbm_would_refuse_are_found_in_a_moment(wrong):
    with pytest.raises(SettingsError, match=r"^LTR_PARAMETERS: ") as error:
        check_parameters(wrong, NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"eta": 0.1, "max_depth": 4, "n_estimators": 1000},
        {"monotone_constraints": [1, 0, -1]},
        {"feature_contri": "0.5,1,1", "max_bin_by_feature": [255, 63, 2]},
        {"cegb_penalty_feature_lazy": [0, 0.5, 1]},
        {"categorical_feature": "name:T", "monotone_constraints": [1, 1, 0]},
        {"interaction_constraints": [["A", "S"], [2]]},
    ],
)
def test_parameters_that_lightgbm_takes_pass_by_any_of_their_names(parameters):
    check_parameters(parameters, NAMES)


def test_a_file_of_splits_or_bins_is_tried_against_the_features(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text('{"feature": 1, "threshold": 1000}')  # which no row of the trial reaches
    check_parameters({"forcedsplits_filename": str(path), "min_data_in_leaf": 1}, NAMES)
    path.write_text('{"feature": 3, "threshold": 0.5}')
    with pytest.raises(SettingsError, match="includes feature index 3"):
        check_parameters({"forcedsplits_filename": str(path)}, NAMES)


def categories(count, seed=0):
    """Rankings in which users like the odd ones of ten categories C, which are not always known, and S."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 10, count * ITEMS).astype(np.float32)
    features = np.column_stack([random.random((count * ITEMS, 2), dtype=np.float32), kind])
    relevance = (kind % 2 + features[:, 1] + random.normal(0, 0.1, count * ITEMS) > 1.2).astype(np.int8)
    features[::9, 2] = np.nan
    return Dataset(features, ("A", "S", "C"), relevance, np.full(count, ITEMS, np.int32), None, None)


@pytest.mark.parametrize("given", ["name:C", "2", ["C"], 2])
def test_features_are_categories_where_that_is_asked_for(given):
    data, valid = categories(300, 1), categories(60, 2)
    small = QUICK | {"num_leaves": 3, "num_iterations": 5}  # too few splits to single out categories one by one
    _, about = train(data, valid, parameters=small | {"categorical_feature": given}, seed=7)
    _, told_nothing = train(data, valid, parameters=small, seed=7)
    assert about.parameters["categorical_feature"] == ["C"]
    assert about.valid_ndcg_at_5 > told_nothing.valid_ndcg_at_5 + 0.05
    assert about.missing_rules["C"] == "as an unknown category"
    assert told_nothing.missing_rules["C"] == "learned"


def test_a_model_with_categories_scores_as_lightgbm_and_reads_a_missing_one_as_unknown():
    data = categories(300, 1)
    booster = boost(data, {"num_iterations": 200, "categorical_feature": ["C"]}, seed=7)
    scorer = Scorer.from_model(booster.model_to_string(), data.feature_names)
    many = categories(100, 3).features
    assert scorer.score(many).tolist() == booster.predict(many).tolist()
    missing, unknown = many.copy(), many.copy()
    missing[:, 2], unknown[:, 2] = np.nan, 77
    assert scorer.score(missing).tolist() == scorer.score(unknown).tolist() != scorer.score(many).tolist()


def test_values_that_are_no_categories_are_warned_about():
    for data, warned in ((categories(300, 1), []), (TRAIN, ["A"])):
        with capture_logs() as logs:
            train(data, data, parameters=QUICK | {"categorical_feature": [0] if warned else [2]}, seed=7)
        assert [entry["feature"] for entry in logs if "categories are" in entry["event"]] == warned


def with_turned(data, weight):
    """The rankings, and after each of them two more in which users like the opposite, which weigh so much."""
    turned = rankings(2 * len(data.group), seed=21)
    every = Dataset(
        np.concatenate([data.features, turned.features]),
        NAMES,
        np.concatenate([data.relevance, 1 - turned.relevance]),
        np.concatenate([data.group, turned.group]),
        np.concatenate([data.position, turned.position]),
        None,
    )
    counts = np.repeat(np.float32([1, weight]), [len(data.group), len(turned.group)])
    return replace(every, weight=None if weight == 1 else counts)


@pytest.mark.parametrize("debias", [True, False])
def test_a_ranking_that_weighs_nothing_is_as_one_that_is_not_there(debias):
    """But for what does not depend on gradients: the borders of bins, and how many rows a leaf has."""
    by_weight = {
        weight: reached(train(with_turned(TRAIN, weight), VALID, seed=7, debias=debias)[0]) for weight in (0, 0.1, 1)
    }
    without = reached(train(TRAIN, VALID, seed=7, debias=debias)[0])
    assert by_weight[0] == pytest.approx(without, abs=0.02)
    assert by_weight[0.1] == pytest.approx(without, abs=0.03)
    assert by_weight[1] < without - 0.1


def test_weights_that_are_all_alike_change_nothing():
    ones = replace(TRAIN, weight=np.ones(len(TRAIN.group), np.float32))
    assert (
        train(ones, replace(VALID, weight=np.ones(len(VALID.group), np.float32)), seed=7)[0]
        == train(TRAIN, VALID, seed=7)[0]
    )


def test_a_validation_ranking_that_weighs_next_to_nothing_chooses_no_tree(trained):
    text, about = trained
    weighed, nearly = train(TRAIN, with_turned(VALID, 1e-6), seed=7)
    assert (weighed, nearly.trees) == (text, about.trees)
    assert train(TRAIN, with_turned(VALID, 1), seed=7)[1].trees < about.trees


def test_weights_count_where_held_out_rankings_choose_the_trees():
    noise = with_turned(TRAIN, 1e-6)
    names = [*queries(TRAIN), *(f"turned-{number}" for number in range(2 * len(TRAIN.group)))]
    weighed, about = train(noise, NOTHING, queries=names, parameters=FEW, seed=7)
    alike, _ = train(replace(noise, weight=None), NOTHING, queries=names, parameters=FEW, seed=7)
    assert about.chosen_by.source == "training"
    assert reached(weighed) > reached(alike) + 0.1
