"""A JSON value of a message to the value of a column, as the options of the mapping say, or the reason why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.message import LONGEST_WHOLE, Fields, Refused, kind_of
from ltr_pipeline.events.decoding.shape import FieldPath, Shape
from ltr_pipeline.mapping import PAIR
from ltr_pipeline.schema import COLUMNS, TIME

__all__ = ["column_value", "feature_value", "features_of", "first"]

NUMBERED: Final = frozenset(column.name for column in COLUMNS if column.may_be_number)


def first(levels: Iterable[Fields], paths: tuple[FieldPath, ...]) -> Any:  # noqa: ANN401 - any JSON value
    """Return the first value that is not null: all paths in the item, then all in its message."""
    for level in levels:
        for path in paths:
            value: Any = level
            for part in path:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                return value
    return None


def features_of(levels: Iterable[Fields], shape: Shape) -> Fields | None:
    """Return the features by name; None without any."""
    features, pairs = first(levels, shape.features), shape.mapping.features_as == "pairs"
    if features is None:
        return None
    if isinstance(features, list) and pairs:
        return _by_name(features, shape)
    if isinstance(features, dict) and not pairs:
        return features
    wanted, other, option = ("a list", dict, "object") if pairs else ("an object", list, "pairs")
    hint = _option("features_as", option) if isinstance(features, other) else ""
    raise Refused(reasons.WRONG_TYPE, f"the features are {kind_of(features)}, not {wanted}{hint}")


def _by_name(pairs: list[Any], shape: Shape) -> Fields:
    """Turn pairs of name and value into an object; null is the same as absent."""
    features: Fields = {}
    for pair in pairs:
        if not isinstance(pair, dict | None):
            raise Refused(reasons.WRONG_TYPE, f"a feature is {kind_of(pair)}, not an object of name and value")
        given: Fields = pair or {}
        name, value = (given.get(field) for field in PAIR)
        if not isinstance(name, str | None):
            raise Refused(reasons.WRONG_TYPE, f"the name of a feature is {kind_of(name)}, not text")
        if name in features and name in shape.mapping.features:
            raise Refused(reasons.WRONG_TYPE, f"feature {name} is given twice")
        if name is not None and value is not None:
            features[name] = value
    return features


def feature_value(value: object, name: str, shape: Shape) -> object:
    """Return the value of a feature as a number; where the mapping says so, 1 for true and 0 for false."""
    if not isinstance(value, bool):
        return _typed(value, pa.float64(), f"feature {name}")
    if shape.mapping.flags == "refused":
        hint = _option("flags", "1 or 0")
        raise Refused(reasons.WRONG_TYPE, f"feature {name} is true or false, not a number{hint}")
    return float(value)


def column_value(value: object, name: str, shape: Shape) -> object:
    """Return the value of a column as its type; where the mapping says so, an id's number as its text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and name in NUMBERED and shape.mapping.ids == "text or number":
        return _id_text(value, name)
    return _typed(value, shape.types[name], name, _hint(kind_of(value), name))


def _hint(found: str, name: str) -> str:
    """Name the option by which what was found would be read in this column, if there is one."""
    if name == TIME and found in ("text", "a number"):
        return _option("time_unit", *(("RFC 3339",) if found == "text" else ("seconds", "milliseconds")))
    return _option("ids", "text or number") if name in NUMBERED and found == "a number" else ""


def _id_text(value: object, name: str) -> str:
    if isinstance(value, int) and abs(value) < 10**LONGEST_WHOLE:
        return str(value)
    found = f"a number of more than {LONGEST_WHOLE} digits" if isinstance(value, int) else str(value)
    raise Refused(reasons.WRONG_TYPE, f"{name} is {found}, not text or a whole number without a decimal point")


def _option(name: str, *values: str) -> str:
    """Say which option of the mapping would take a value."""
    choice = " or ".join(f'"{value}"' for value in values)
    return f"; set {name} = {choice} in the mapping if that is meant"


def _typed(value: object, kind: pa.DataType, name: str, hint: str = "") -> object:
    if pa.types.is_floating(kind):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _as_float(value)
    elif isinstance(value, str if pa.types.is_string(kind) else bool):
        return value
    wanted = {pa.float64(): "a number", pa.string(): "text", pa.bool_(): "true or false"}[kind]
    raise Refused(reasons.WRONG_TYPE, f"{name} is {kind_of(value)}, not {wanted}{hint}")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond a double
        return float("inf")
