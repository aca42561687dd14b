"""LightGBM's parameters: the pipeline's own, and those that a user sets, each of which must have an effect.

LightGBM takes many parameters that it then leaves unread, or reads as something else, without a word. Such a parameter
would look as if it had been tried and made no difference, so it is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb

from ltr_pipeline.errors import RankerError
from ltr_pipeline.names import did_you_mean, misspelt

__all__ = ["CATEGORICAL", "FIXED", "PARAMETERS", "complete"]

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
"""Defaults for 100,000 to 1,000,000 impressions; any LightGBM parameter that has an effect may join or replace them.

Small steps on samples of rows and features make the models of two nights alike, and so a real difference between them
easier to see. `num_iterations` is the cap where the rankings that choose the number of trees stop earlier.
`min_data_in_leaf` is at most a twentieth of the rows, so that a small log, too, gives a model that can be judged.
"""

FIXED: Final[dict[str, Any]] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [5],
    "deterministic": True,
    "force_row_wise": True,  # else LightGBM times both layouts and takes the faster, which is not deterministic
    "verbosity": -1,  # its warnings are a line for every tree that could not grow further
}
"""Parameters that nobody sets."""

CATEGORICAL: Final = "categorical_feature"

_RESERVED: Final = {*FIXED, "force_col_wise", "label_gain", "num_threads", "seed"}  # set by the code or by arguments

_WITHOUT_EFFECT: Final[Mapping[str, tuple[str, ...]]] = {
    "for LightGBM's own program and its files, and the pipeline hands over tables": (
        *("config", "task", "data", "valid", "input_model", "output_model", "output_result", "save_binary"),
        *("convert_model", "convert_model_language", "snapshot_freq", "saved_feature_importance_type", "metric_freq"),
        *("is_provide_training_metric", "header", "label_column", "weight_column", "group_column", "ignore_column"),
        *("two_round", "pre_partition", "parser_config_file", "precise_float_parser"),
    ),
    "for several machines, and the pipeline trains on one": (
        *("tree_learner", "top_k", "num_machines", "machines", "machine_list_filename", "local_listen_port"),
        "time_out",
    ),
    "for a model that is trained already": (
        *("num_iteration_predict", "start_iteration_predict", "predict_contrib", "predict_disable_shape_check"),
        *("predict_leaf_index", "predict_raw_score", "pred_early_stop", "pred_early_stop_freq"),
        *("pred_early_stop_margin", "refit_decay_rate"),
    ),
    "for another way to stop, and the pipeline stops by nDCG@5 alone": (
        *("first_metric_only", "early_stopping_min_delta"),
    ),
}
"""Parameters that are not read when a model is trained on tables, by what they are for.

Those of other objectives, or of a way of boosting that is not chosen, are not among them: LightGBM's list says what
they belong to.
"""

_WHOLE: Final = {"num_iterations": 1, "min_data_in_leaf": 0, "early_stopping_round": -1}
"""Parameters that this package reads itself, and the least that each may be."""

_ONE_EACH: Final[Mapping[str, tuple[Callable[[float], bool], str]]] = {
    "monotone_constraints": (lambda value: value in (-1, 0, 1), "-1, 0 or 1"),
    "max_bin_by_feature": (lambda value: value >= 2 and value == int(value), "whole numbers from 2"),
    "feature_contri": (math.isfinite, "finite numbers"),
    "cegb_penalty_feature_lazy": (math.isfinite, "finite numbers"),
    "cegb_penalty_feature_coupled": (math.isfinite, "finite numbers"),
}
"""Parameters that have one value for each feature, and what the values may be; LightGBM reads others as 0."""

_FILES: Final = {"forcedsplits_filename": dict, "forcedbins_filename": list}
"""Parameters that name a JSON file, and what it holds; LightGBM goes on without a file that it cannot read."""

_MOST_NAMED: Final = 20


def complete(parameters: Mapping[str, Any], features: Sequence[str]) -> dict[str, Any]:
    """Return `PARAMETERS` with `parameters` on top, by their first names, in the form that `train.boost` takes.

    Features that are named or numbered become names in `categorical_feature` and numbers in `interaction_constraints`.

    Raises
    ------
    RankerError
        A parameter is unknown, reserved, without effect, given twice or without a value, does not fit the features, or
        is no number where this package needs one. What is left is for LightGBM to refuse.
    """
    chosen = PARAMETERS | _by_first_name(parameters)
    for problem in _problems(chosen):
        raise RankerError(problem)
    for name in sorted(_ONE_EACH.keys() & chosen.keys()):
        chosen[name] = _one_each(name, chosen[name], features)
    if CATEGORICAL in chosen:
        chosen[CATEGORICAL] = _categorical(chosen[CATEGORICAL], features)
        _refuse_order_of_categories(chosen, features)
    if "interaction_constraints" in chosen:
        chosen["interaction_constraints"] = _interactions(chosen["interaction_constraints"], features)
    return chosen


def _by_first_name(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` by their first names, so that an alias replaces a default instead of losing to it."""
    first = {
        alias: name for name, aliases in lgb.basic._ConfigAliases._get_all_param_aliases().items() for alias in aliases
    }
    if unknown := sorted(set(parameters) - set(first)):
        raise RankerError(f"LightGBM has no parameters {misspelt(unknown, first)}; see its list of parameters")
    if taken := sorted(name for name in parameters if first[name] in _RESERVED):
        raise RankerError(f"the parameters {taken} are set by the pipeline; take them out")
    for use, names in _WITHOUT_EFFECT.items():
        if idle := sorted(name for name in parameters if first[name] in names):
            raise RankerError(f"the parameters {idle} would have no effect: they are {use}; take them out")
    found: dict[str, str] = {}
    for name in parameters:
        if (former := found.setdefault(first[name], name)) != name:
            raise RankerError(f"{former} and {name} are two names of one parameter; keep one")
    return {name: parameters[given] for name, given in found.items()}


def _problems(chosen: Mapping[str, Any]) -> Iterator[str]:
    for name, value in chosen.items():
        if value is None:
            yield f"{name} has no value; give it one or take it out"
    for name, least in _WHOLE.items():
        if type(chosen[name]) is not int or chosen[name] < least:
            yield f"{name} is {chosen[name]!r}, not a whole number from {least}"
    for name, kind in _FILES.items():
        if name in chosen:
            yield from _file_problems(name, chosen[name], kind)


def _file_problems(name: str, path: object, kind: type) -> Iterator[str]:
    try:
        content = json.loads(Path(str(path)).read_bytes())
    except OSError as error:
        yield f"{name}: {path}: {error.strerror}; LightGBM would train without it"
    except ValueError as error:
        yield f"{name}: {path} is not JSON: {error}; LightGBM would train without it"
    else:
        if not isinstance(content, kind):
            yield f"{name}: {path} holds no JSON {'object' if kind is dict else 'array'}; see LightGBM's documentation"


def _one_each(name: str, value: object, features: Sequence[str]) -> list[Any]:
    """Return the values of the features, one for each in their order."""
    values = _listed(value)
    if len(values) != len(features):
        plural = "" if len(values) == 1 else "s"
        raise RankerError(
            f"{name} has {len(values)} value{plural} for the {len(features)} features {_named(features)}; "
            "give one for each, in this order"
        )
    allowed, what = _ONE_EACH[name]
    try:
        numbers = [float(one) for one in values]
        fit = all(math.isfinite(number) and allowed(number) for number in numbers)
    except (TypeError, ValueError):
        fit = False
    if not fit:
        raise RankerError(f"{name} is {value!r}; its values must be {what}, one for each feature")
    return [int(number) if number == int(number) else number for number in numbers]


def _categorical(value: object, features: Sequence[str]) -> list[str]:
    """Return the names of the features whose values are categories."""
    if isinstance(value, str) and value.startswith("name:"):
        value = value.removeprefix("name:").split(",")
    elif isinstance(value, str):
        value = [int(one) if one.strip().isdecimal() else one for one in _listed(value)]
    columns = {_column(CATEGORICAL, one, features) for one in _listed(value)}
    return [features[column] for column in sorted(columns)]


def _refuse_order_of_categories(chosen: Mapping[str, Any], features: Sequence[str]) -> None:
    """Refuse a monotone constraint on categories, at which LightGBM 4.7 ends the whole process."""
    constraints = dict(zip(features, chosen.get("monotone_constraints", ()), strict=False))
    for name in chosen[CATEGORICAL]:
        if constraints.get(name):
            raise RankerError(f"monotone_constraints: {name} is categorical, so its values have no order; set 0 there")


def _interactions(value: object, features: Sequence[str]) -> list[list[int]]:
    """Return the sets of features that may meet in one branch; LightGBM 4.7 crashes where a set has no feature."""
    name = "interaction_constraints"
    try:
        groups = json.loads(f"[{value}]") if isinstance(value, str) else value
    except ValueError:
        groups = None
    if not isinstance(groups, list) or not groups or not all(isinstance(group, list) and group for group in groups):
        raise RankerError(f"{name} is {value!r}, not a list of lists of features such as [[0, 1], [2, 3]]")
    return [sorted({_column(name, one, features) for one in group}) for group in groups]


def _column(parameter: str, feature: object, features: Sequence[str]) -> int:
    """Return the number of a feature that is given by its name or number."""
    if type(feature) is int and 0 <= feature < len(features):
        return feature
    if isinstance(feature, str) and feature.strip() in features:
        return features.index(feature.strip())
    meant = did_you_mean(str(feature), features)
    raise RankerError(
        f"{parameter}: {feature!r} is none of the {len(features)} features {_named(features)}"
        f"{f'{meant} Give' if meant else '; give'} their names, or numbers from 0 to {len(features) - 1}"
    )


def _listed(value: object) -> list[Any]:
    """Return the values of a list, which LightGBM also takes as a text with commas or, of one value, bare."""
    if isinstance(value, str):
        return value.split(",") if value else []
    return list(value) if isinstance(value, list | tuple) else [value]


def _named(features: Sequence[str]) -> str:
    more = len(features) - _MOST_NAMED
    return ", ".join(features[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
