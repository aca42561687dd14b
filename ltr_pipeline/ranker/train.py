"""LambdaMART through `lgb.train`: deterministic, debiased by position, stopped early on rankings not learned from."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import lightgbm as lgb
import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import NothingToLearnError, RankerError, SettingsError
from ltr_pipeline.mapping import POSITIVE
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.metrics.unbiased import Examination
from ltr_pipeline.ranker.calibrate import calibrate
from ltr_pipeline.ranker.data import Rows, TrainingData, held_out, preferences, rankings
from ltr_pipeline.ranker.debias import Debias, examination, weights
from ltr_pipeline.ranker.distil import distilled
from ltr_pipeline.ranker.parameters import CATEGORICAL, FIXED, complete
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.linear import Linear

__all__ = [
    "Chooser",
    "Trained",
    "boost",
    "check_parameters",
    "described",
    "label_gain",
    "row_weights",
    "text_of",
    "train",
    "untrained",
]

log = structlog.get_logger(__name__)

_MIN_GAIN: Final = 1e-6  # of the validation nDCG@5, to count as better: rounding by number of threads is far below it
_SMALLEST_LEAF_SHARE: Final = 20
_MISSING_RULES: Final = {"NaN": "learned", "None": "as zero", "Zero": "learned, for zero too"}
_UNKNOWN_CATEGORY: Final = "as an unknown category"
_UNUSED: Final = "unused"


class Chooser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rankings that chose the number of trees, by nDCG@5.

    Attributes
    ----------
    source
        ``validation`` days; ``training`` days, where the validation days prefer nothing: a model of the rest was judged
        by some that it had not seen; or ``none``, and all `num_iterations` trees were kept.
    rankings
        How many of them prefer one item to another.
    """

    source: Literal["validation", "training", "none"]
    rankings: int


_NOBODY: Final = Chooser(source="none", rankings=0)


class Trained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How training went.

    Attributes
    ----------
    trees
        In the model text: as many as `chosen_by` chose.
    importance
        Share of the total gain, by feature; sums to 1.
    valid_ndcg_at_5
        Mean over the eligible validation rankings; None without any. They chose the number of trees, so it flatters.
    parameters
        In effect, without those that do not change the model.
    missing_rules
        What a missing value means to the model, by feature: ``learned`` (sent to the better side of each split),
        ``as zero`` (training had none, so LightGBM reads NaN as 0), ``learned, for zero too`` (with `zero_as_missing`),
        ``as an unknown category`` (the values are categories) or ``unused``.
    linear_weights
        For readers of the document that know no others: non-negative, sum 1.
    seconds
        Wall-clock time of the whole training.
    model_sha256
        Of the model text.
    untrained
        Why there is no model; empty when there is one.
    due
        False where nobody tried, as no training was due.
    chosen_by
        Which rankings chose the number of trees; None without a model, and from a release that did not record it.
    linear
        The fallback: signed weights of standardised features; None without a model, and from a release without it.
    calibration
        From scores to probabilities, fitted on the validation days; None without a model, where these days have too
        little to tell, and from a release without it.
    """

    trees: int
    importance: dict[str, float]
    valid_ndcg_at_5: float | None
    parameters: dict[str, Any]
    missing_rules: dict[str, str]
    linear_weights: dict[str, float]
    seconds: float
    model_sha256: str
    untrained: str = ""
    chosen_by: Chooser | None = None
    linear: Linear | None = None
    calibration: Calibration | None = None
    due: bool = True


def untrained(why: str, *, due: bool = True) -> tuple[str, Trained]:
    """Return an empty model and the reason: there was nothing to learn, or no training was due."""
    return "", Trained(
        trees=0,
        importance={},
        valid_ndcg_at_5=None,
        parameters={},
        missing_rules={},
        linear_weights={},
        seconds=0.0,
        model_sha256=_sha256(""),
        untrained=why,
        due=due,
    )


def check_parameters(parameters: Mapping[str, Any], features: Sequence[str]) -> None:
    """Try the parameters of ``LTR_PARAMETERS`` on four rows of `features`.

    Raises
    ------
    SettingsError
        They would be refused after an hour of training, too, or have no effect.
    """
    few = Rows(
        features=np.repeat(np.array([[0], [1], [0], [1]], np.float32), len(features), axis=1),
        feature_names=tuple(features),
        relevance=np.array([0, 1, 0, 1], np.int8),
        group=np.array([2, 2], np.int32),
    )
    # With leaves larger than that, no split is tried: one that is forced may suit the real rows and not these.
    small = {"num_iterations": 1, "min_data_in_leaf": len(few.relevance) + 1, "label_gain": label_gain(1)}
    try:
        boost(few, complete(parameters, features) | small, valid=few, seed=0)
    except RankerError as error:
        raise SettingsError(f"LTR_PARAMETERS: {error}") from error


def label_gain(max_relevance: int) -> list[float]:
    """Return the gain 2^r − 1 of each relevance up to the highest.

    >>> label_gain(3)
    [0.0, 1.0, 3.0, 7.0]
    """
    return [2.0**relevance - 1 for relevance in range(max_relevance + 1)]


def train(
    train: TrainingData,
    valid: TrainingData,
    *,
    queries: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    max_relevance: int = 0,
    positive: int = POSITIVE,
    seed: int,
    threads: int = 1,
    debias: Debias = True,
) -> tuple[str, Trained]:
    """Train a ranker; its text form and how it went.

    The same data, parameters and seed give the same text, byte for byte, with any number of threads. Validation
    rankings choose the number of trees by nDCG@5 and nothing else. Where none of them prefers one item to another,
    training rankings choose it, those that `held_out` names; where those prefer nothing either, all trees are kept.
    Rankings that have a `weight` count for so much, both in learning and in choosing.
    Positions go to LightGBM's `position` field, whose bias factors are learned beside the trees and are not part of the
    model (Hu et al. 2019, arXiv 1809.05818); they are never a feature.

    Parameters
    ----------
    queries
        Query of each training ranking; needed only where no validation ranking has a preference.
    parameters
        LightGBM parameters on top of `parameters.PARAMETERS`, by any of their aliases.
    max_relevance
        Highest relevance there can be, when higher than in the data.
    positive
        Least relevance whose probability the scores are calibrated to.
    threads
        For LightGBM. With several, the process needs ``OMP_WAIT_POLICY=PASSIVE`` from its start.
    debias
        How to remove position bias, where positions were logged. ``coins`` weighs answers by how much their rank is
        looked at, estimated from exploration; with too few coin pairs for that it is the same as True.

    Raises
    ------
    RankerError
        A parameter is unknown, reserved, without effect or wrong (`parameters.complete`).
    NothingToLearnError
        Fewer than two training rankings have a preference, the features are constant, or no split was found.
    """
    started = time.perf_counter()
    _check(train)
    chosen = _fitted_to(complete(parameters or {}, train.feature_names), len(train.relevance))
    _warn_of_fractions(train, chosen.get(CATEGORICAL, []))
    highest = max(max_relevance, *(int(part.relevance.max(initial=0)) for part in (train, valid)))
    looked_at = examination(train) if debias == "coins" else []
    if debias == "coins" and not looked_at:
        log.warning("too few coin pairs to tell position bias: LightGBM estimates it beside the trees")
    by_position = bool(debias) and not looked_at
    fit = partial(boost, seed=seed, threads=threads, debias=by_position, looked_at=looked_at)
    booster, chosen_by = _boosted(train, valid, queries, chosen | {"label_gain": label_gain(highest)}, fit)
    debiased = "coins" if looked_at else by_position and train.position is not None
    text, trained = described(
        booster,
        train,
        valid,
        parameters=chosen | {"seed": seed, "debias": debiased},
        positive=positive,
        seconds=time.perf_counter() - started,
    )
    return text, msgspec.structs.replace(trained, chosen_by=chosen_by)


def described(
    booster: lgb.Booster,
    learned: TrainingData,
    valid: TrainingData,
    *,
    parameters: Mapping[str, Any],
    positive: int,
    seconds: float,
) -> tuple[str, Trained]:
    """Return the text of a model that was made, with all that is told of it and measured beside it.

    Parameters
    ----------
    learned
        What the linear weights are distilled on.
    valid
        What the calibration is fitted on; the trees must not have been.
    parameters
        That the trees and their values were made with.
    seconds
        It took so long.

    Raises
    ------
    NothingToLearnError
        No tree has a split.
    """
    text = text_of(booster)
    linear, shares = distilled(booster, learned)
    scores = _scores(booster, valid)
    return text, Trained(
        trees=text.count("\nTree="),
        importance=_importance(booster),
        valid_ndcg_at_5=_ndcg(scores, valid) if preferences(valid) else None,
        parameters=dict(parameters),
        missing_rules=missing_rules(booster),
        linear_weights=shares,
        seconds=seconds,
        model_sha256=_sha256(text),
        linear=linear,
        calibration=calibrate(scores, valid.relevance, positive),
    )


def _boosted(
    train: TrainingData,
    valid: TrainingData,
    queries: Sequence[str] | None,
    parameters: dict[str, Any],
    fit: Callable[..., lgb.Booster],
) -> tuple[lgb.Booster, Chooser]:
    """Train with as many trees as do best on rankings that are not learned from; say which rankings those were."""
    if judges := preferences(valid):
        booster = fit(train, parameters, valid=valid)
        return booster, Chooser(source="validation", rankings=judges) if booster.best_iteration > 0 else _NOBODY
    trees, chosen_by = _trees_by_held_out(train, queries, parameters, fit)
    if chosen_by is _NOBODY:
        log.warning("no validation ranking has a preference: all trees are kept", trees=trees)
    else:
        log.info("no validation ranking has a preference: held-out training rankings chose", trees=trees)
    # On all rankings: those held out have told a number, and a fifth of what users did is too much to learn nothing
    # else from. A quarter more rows hardly ask for another number of trees.
    return fit(train, parameters | {"num_iterations": trees}), chosen_by


def _trees_by_held_out(
    train: TrainingData, queries: Sequence[str] | None, parameters: dict[str, Any], fit: Callable[..., lgb.Booster]
) -> tuple[int, Chooser]:
    """Return the number of trees with which a model of most rankings orders the held-out ones best, and who chose it.

    All trees are kept where nothing is held out, where one side prefers too little, and where early stopping is off.
    """
    trees: int = parameters["num_iterations"]
    if queries is None or parameters["early_stopping_round"] <= 0:
        return trees, _NOBODY
    out = held_out(queries)
    most, judges = rankings(train, ~out), rankings(train, out)
    if not preferences(judges) or not _learnable(most):
        return trees, _NOBODY
    best = fit(most, parameters, valid=judges).best_iteration
    return (best, Chooser(source="training", rankings=preferences(judges))) if best > 0 else (trees, _NOBODY)


def boost(
    train: TrainingData,
    parameters: Mapping[str, Any],
    *,
    valid: TrainingData | None = None,
    seed: int,
    threads: int = 1,
    debias: bool = False,
    looked_at: Sequence[Examination] = (),
) -> lgb.Booster:
    """Train with bare LightGBM, made deterministic: `parameters` as `parameters.complete` has them, nothing checked."""
    if threads > 1 and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        log.warning("set OMP_WAIT_POLICY=PASSIVE before the process starts: waiting threads burn the cores")
    options = dict(parameters)
    rounds, patience = options.pop("num_iterations", 100), options.pop("early_stopping_round", 0)
    categories = options.pop(CATEGORICAL, [])
    options |= FIXED | {"seed": seed, "num_threads": threads}
    rows = _lightgbm_rows(
        train,
        options,
        categories,
        position=train.position if debias else None,
        weight=row_weights(train, weights(train, looked_at)),
    )
    held_out = []
    if valid:
        held_out = [_lightgbm_rows(valid, options, categories, weight=row_weights(valid), reference=rows)]
    stop = lgb.early_stopping(patience, first_metric_only=True, verbose=False, min_delta=_MIN_GAIN)
    try:
        return lgb.train(options, rows, rounds, valid_sets=held_out, callbacks=[stop] if valid and patience else [])
    except (lgb.basic.LightGBMError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())  # LightGBM's own ends with an empty line
        raise RankerError(f"LightGBM refuses to train: {reason}; check the parameters {options}") from error


def row_weights(data: TrainingData, of_answers: NDArray[np.float32] | None = None) -> NDArray[np.float32] | None:
    """Return what each row counts for: what its ranking does, times what its answer does; None where all are alike.

    LightGBM multiplies a row's gradient and hessian by it after the pairs of its ranking were added up, and before
    they move the bias of its position; of a validation ranking, which is weighed by the mean, the nDCG.
    """
    if data.weight is None:
        return of_answers
    of_rankings = np.repeat(data.weight, data.group).astype(np.float32)
    return of_rankings if of_answers is None else of_rankings * of_answers


def _lightgbm_rows(
    data: TrainingData,
    options: dict[str, Any],
    categories: list[str],
    *,
    position: NDArray[np.int32] | None = None,
    weight: NDArray[np.float32] | None = None,
    reference: lgb.Dataset | None = None,
) -> lgb.Dataset:
    return lgb.Dataset(
        data.features,
        label=data.relevance,
        group=data.group,
        position=position,
        weight=weight,
        feature_name=list(data.feature_names),
        categorical_feature=categories,  # of the Dataset: among the parameters LightGBM knows no names of features
        reference=reference,
        params=options,
    )


def _fitted_to(parameters: dict[str, Any], rows: int) -> dict[str, Any]:
    smallest = min(parameters["min_data_in_leaf"], max(1, rows // _SMALLEST_LEAF_SHARE))
    return parameters | {"min_data_in_leaf": smallest}


def _check(train: TrainingData) -> None:
    rankings = len(train.group)
    if not rankings:
        raise NothingToLearnError("there is no training ranking")
    if (found := preferences(train)) < 2:
        raise NothingToLearnError(
            f"{found} of {rankings} training rankings prefer one item to another, and two is the least to learn from"
        )
    first = np.repeat(starts(train.group), train.group)
    if not any(_differ(column, column[first]) for column in train.features.T):
        raise NothingToLearnError(
            f"none of the features {list(train.feature_names)} tells two items of a training ranking apart; "
            "are they logged under these names?"
        )


def _learnable(train: TrainingData) -> bool:
    try:
        _check(train)
    except NothingToLearnError:
        return False
    return True


def _warn_of_fractions(train: TrainingData, categorical: Sequence[str]) -> None:
    """Say which features are no whole numbers from 0, which LightGBM makes of them where they are categories."""
    for name in categorical:
        values = train.features[:, train.feature_names.index(name)]
        known = values[~np.isnan(values)]
        if ((known < 0) | (known != np.floor(known))).any():
            log.warning(
                "categories are whole numbers from 0: fractions are cut off, and negative values are read as missing",
                feature=name,
            )


def _differ(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return bool(((left != right) & ~(np.isnan(left) & np.isnan(right))).any())


def text_of(booster: lgb.Booster) -> str:
    """Return the model's text without the parts that depend on the machine."""
    text: str = booster.model_to_string()
    return re.sub(r"^\[num_threads: \d+\]$", "[num_threads: 1]", text, flags=re.MULTILINE)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _importance(booster: lgb.Booster) -> dict[str, float]:
    gain = booster.feature_importance("gain")
    if not gain.sum() > 0:
        raise NothingToLearnError(
            "LightGBM found no split that orders the training rankings better: the features say nothing about "
            "relevance, or there are too few rows"
        )
    return dict(zip(booster.feature_name(), (gain / gain.sum()).tolist(), strict=True))


def _ndcg(scores: NDArray[np.float64], valid: TrainingData) -> float:
    return float(np.nanmean(quality.ndcg(Rankings(valid.relevance, scores, valid.group))))


def _scores(booster: lgb.Booster, data: TrainingData) -> NDArray[np.float64]:
    if not len(data.features):
        return np.empty(0)
    return np.asarray(booster.predict(data.features, raw_score=True), dtype=np.float64)


def missing_rules(booster: lgb.Booster) -> dict[str, str]:
    """Tell from the trees what a missing value means, by feature; see `Trained.missing_rules`."""
    names = booster.feature_name()
    rules = dict.fromkeys(names, _UNUSED)
    nodes = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while nodes:
        node = nodes.pop()
        if "split_feature" in node:
            categories = node["decision_type"] == "=="
            rules[names[node["split_feature"]]] = (
                _UNKNOWN_CATEGORY if categories else _MISSING_RULES[node["missing_type"]]
            )
            nodes += [node["left_child"], node["right_child"]]
    return rules
