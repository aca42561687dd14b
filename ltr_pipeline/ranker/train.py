"""LambdaMART through `lgb.train`: deterministic, debiased by position, stopped early on validation days only."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Final

import lightgbm as lgb
import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import NothingToLearnError, RankerError
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.ranker.data import Rows, TrainingData
from ltr_pipeline.ranker.distil import linear_weights

__all__ = ["PARAMETERS", "Trained", "boost", "check_parameters", "label_gain", "train", "untrained"]

log = structlog.get_logger(__name__)

PARAMETERS: Final[dict[str, Any]] = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "lambda_l2": 1.0,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
    "lambdarank_truncation_level": 10,
    "lambdarank_position_bias_regularization": 0.1,
    "num_iterations": 500,
    "early_stopping_round": 50,
}
"""Defaults for 100,000 to 1,000,000 impressions; any LightGBM parameter that is not reserved may join or replace them.

Small steps on samples of rows and features make the models of two nights alike, and so a real difference between them
easier to see. `num_iterations` is the cap where validation days stop earlier. `min_data_in_leaf` is at most a twentieth
of the rows, so that a small log, too, gives a model that can be judged.
"""

_FIXED: Final[dict[str, Any]] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [5],
    "deterministic": True,
    "force_row_wise": True,  # else LightGBM times both layouts and takes the faster, which is not deterministic
    "verbosity": -1,  # its warnings are a line for every tree that could not grow further
}
_RESERVED: Final = {*_FIXED, "label_gain", "num_threads", "seed"}  # set by this module or by arguments

_MIN_GAIN: Final = 1e-6  # of the validation nDCG@5, to count as better: rounding by number of threads is far below it
_SMALLEST_LEAF_SHARE: Final = 20
_MISSING_RULES: Final = {"NaN": "learned", "None": "as zero", "Zero": "learned, for zero too"}
_UNUSED: Final = "unused"


class Trained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How training went.

    Attributes
    ----------
    trees
        In the model text: those up to the best validation score.
    importance
        Share of the total gain, by feature; sums to 1.
    valid_ndcg_at_5
        Mean over the eligible validation rankings; None without any. It chose the number of trees, so it flatters.
    parameters
        In effect, without those that do not change the model.
    missing_rules
        What a missing value means to the model, by feature: ``learned`` (sent to the better side of each split),
        ``as zero`` (training had none, so LightGBM reads NaN as 0), ``learned, for zero too`` (with `zero_as_missing`)
        or ``unused``.
    linear_weights
        The fallback: non-negative, sum 1.
    seconds
        Wall-clock time of the whole training.
    model_sha256
        Of the model text.
    untrained
        Why there is no model; empty when there is one.
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


def untrained(why: NothingToLearnError) -> tuple[str, Trained]:
    """Return an empty model and the reason: there was nothing to learn."""
    return "", Trained(
        trees=0,
        importance={},
        valid_ndcg_at_5=None,
        parameters={},
        missing_rules={},
        linear_weights={},
        seconds=0.0,
        model_sha256=_sha256(""),
        untrained=str(why),
    )


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Try LightGBM parameters on four rows; RankerError when it would refuse them after an hour, too."""
    few = Rows(
        features=np.array([[0], [1], [0], [1]], np.float32),
        feature_names=("x",),
        relevance=np.array([0, 1, 0, 1], np.int8),
        group=np.array([2, 2], np.int32),
    )
    chosen = PARAMETERS | _canonical(parameters)
    boost(few, chosen | {"num_iterations": 1, "label_gain": label_gain(1)}, valid=few, seed=0)


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
    parameters: Mapping[str, Any] | None = None,
    max_relevance: int = 0,
    seed: int,
    threads: int = 1,
    debias: bool = True,
) -> tuple[str, Trained]:
    """Train a ranker; its text form and how it went.

    The same data, parameters and seed give the same text, byte for byte, with any number of threads. Validation
    rankings choose the number of trees by nDCG@5 and nothing else; without eligible ones all trees are kept. Positions
    go to LightGBM's `position` field, whose bias factors are learned beside the trees and are not part of the model
    (Hu et al. 2019, arXiv 1809.05818); they are never a feature.

    Parameters
    ----------
    parameters
        LightGBM parameters on top of `PARAMETERS`, by any of their aliases.
    max_relevance
        Highest relevance there can be, when higher than in the data.
    threads
        For LightGBM. With several, the process needs ``OMP_WAIT_POLICY=PASSIVE`` from its start.
    debias
        Estimate and remove position bias, where positions were logged.

    Raises
    ------
    RankerError
        A parameter is unknown, reserved or wrong.
    NothingToLearnError
        Fewer than two training rankings have a preference, the features are constant, or no split was found.
    """
    started = time.perf_counter()
    _check(train)
    chosen = _fitted_to(PARAMETERS | _canonical(parameters or {}), len(train.relevance))
    highest = max(max_relevance, *(int(part.relevance.max(initial=0)) for part in (train, valid)))
    judged = valid if _preferences(valid) else None
    if judged is None:
        log.warning("no validation ranking has a preference: all trees are kept", trees=chosen["num_iterations"])
    booster = boost(
        train,
        chosen | {"label_gain": label_gain(highest)},
        valid=judged,
        seed=seed,
        threads=threads,
        debias=debias,
    )
    text = _text(booster)
    return text, Trained(
        trees=text.count("\nTree="),
        importance=_importance(booster),
        valid_ndcg_at_5=_ndcg(booster, judged) if judged else None,
        parameters=chosen | {"seed": seed, "debias": debias and train.position is not None},
        missing_rules=missing_rules(booster),
        linear_weights=linear_weights(booster, train),
        seconds=time.perf_counter() - started,
        model_sha256=_sha256(text),
    )


def boost(
    train: TrainingData,
    parameters: Mapping[str, Any],
    *,
    valid: TrainingData | None = None,
    seed: int,
    threads: int = 1,
    debias: bool = False,
) -> lgb.Booster:
    """Train with bare LightGBM, made deterministic: `parameters` by first names, nothing checked or filled in."""
    if threads > 1 and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        log.warning("set OMP_WAIT_POLICY=PASSIVE before the process starts: waiting threads burn the cores")
    options = dict(parameters)
    rounds, patience = options.pop("num_iterations", 100), options.pop("early_stopping_round", 0)
    options |= _FIXED | {"seed": seed, "num_threads": threads}
    rows = _lightgbm_rows(train, options, position=train.position if debias else None)
    held_out = [_lightgbm_rows(valid, options, reference=rows)] if valid else []
    stop = lgb.early_stopping(patience, first_metric_only=True, verbose=False, min_delta=_MIN_GAIN)
    try:
        return lgb.train(options, rows, rounds, valid_sets=held_out, callbacks=[stop] if valid and patience else [])
    except (lgb.basic.LightGBMError, ValueError, TypeError) as error:
        raise RankerError(f"LightGBM refuses to train: {error}; check the parameters {options}") from error


def _lightgbm_rows(
    data: TrainingData,
    options: dict[str, Any],
    *,
    position: NDArray[np.int32] | None = None,
    reference: lgb.Dataset | None = None,
) -> lgb.Dataset:
    return lgb.Dataset(
        data.features,
        label=data.relevance,
        group=data.group,
        position=position,
        feature_name=list(data.feature_names),
        reference=reference,
        params=options,
    )


def _canonical(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` by their first names, so that an alias replaces a default instead of losing to it."""
    names = {
        alias: name for name, aliases in lgb.basic._ConfigAliases._get_all_param_aliases().items() for alias in aliases
    }
    if unknown := sorted(set(parameters) - set(names)):
        raise RankerError(f"LightGBM has no parameters {unknown}; see its list of parameters")
    if taken := sorted(name for name in parameters if names[name] in _RESERVED):
        raise RankerError(f"the parameters {taken} are set by the pipeline; take them out")
    return {names[name]: value for name, value in parameters.items()}


def _fitted_to(parameters: dict[str, Any], rows: int) -> dict[str, Any]:
    smallest = min(parameters["min_data_in_leaf"], max(1, rows // _SMALLEST_LEAF_SHARE))
    return parameters | {"min_data_in_leaf": smallest}


def _preferences(data: TrainingData) -> int:
    """Count the rankings in which one item is more relevant than another."""
    if not len(data.group):
        return 0
    first = starts(data.group)
    high, low = np.maximum.reduceat(data.relevance, first), np.minimum.reduceat(data.relevance, first)
    return int((high > low).sum())


def _check(train: TrainingData) -> None:
    rankings = len(train.group)
    if not rankings:
        raise NothingToLearnError("there is no training ranking")
    if (found := _preferences(train)) < 2:
        raise NothingToLearnError(
            f"{found} of {rankings} training rankings prefer one item to another, and two is the least to learn from"
        )
    first = np.repeat(starts(train.group), train.group)
    if not any(_differ(column, column[first]) for column in train.features.T):
        raise NothingToLearnError(
            f"none of the features {list(train.feature_names)} tells two items of a training ranking apart; "
            "are they logged under these names?"
        )


def _differ(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return bool(((left != right) & ~(np.isnan(left) & np.isnan(right))).any())


def _text(booster: lgb.Booster) -> str:
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


def _ndcg(booster: lgb.Booster, valid: TrainingData) -> float:
    scores = np.asarray(booster.predict(valid.features, raw_score=True))
    return float(np.nanmean(quality.ndcg(Rankings(valid.relevance, scores, valid.group))))


def missing_rules(booster: lgb.Booster) -> dict[str, str]:
    """Tell from the trees what a missing value means, by feature; see `Trained.missing_rules`."""
    names = booster.feature_name()
    rules = dict.fromkeys(names, _UNUSED)
    nodes = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while nodes:
        node = nodes.pop()
        if "split_feature" in node:
            rules[names[node["split_feature"]]] = _MISSING_RULES[node["missing_type"]]
            nodes += [node["left_child"], node["right_child"]]
    return rules
