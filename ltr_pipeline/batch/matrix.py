"""From values of a database to the matrix that a model scores, and the reasons why some rows cannot be scored."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import ScoringError
from ltr_pipeline.names import misspelt
from ltr_pipeline.printable import one_line

__all__ = ["Read", "check_features", "read"]

NUMBERS: Final = {int, float, bool, Decimal, type(None)}
LONGEST_VALUE: Final = 40  # characters that are repeated of a value that is none
FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class Read:
    """Rows as a model takes them.

    Attributes
    ----------
    matrix
        float32 (rows, features of the model); NaN = missing.
    rejected
        Reason by row that cannot be scored.
    """

    def __init__(self, matrix: NDArray[np.float32], rejected: dict[int, str]) -> None:
        self.matrix = matrix
        self.rejected = rejected


def check_features(given: Sequence[str], known: Sequence[str], job: str) -> None:
    """Raise ScoringError when a job gives a feature that the model does not have, or none that it has."""
    if unknown := [name for name in given if name not in known]:
        raise ScoringError(
            f"job {job}: the published version has no feature {misspelt(unknown, known)}; its features are "
            f"{', '.join(known)}"
        )
    if not given:
        raise ScoringError(f"job {job} gives none of the published version's features {', '.join(known)}")


def read(columns: Sequence[tuple[str, Sequence[Any]]], features: Sequence[str], rows: int) -> Read:
    """Read columns of values into the matrix of a model, as rankings are read for training: float32, NaN for null.

    A value that is no number, NaN or infinite, or beyond a 32-bit float, rejects its row.

    Parameters
    ----------
    columns
        Feature and the values of it, one per row.
    features
        Features of the model, in order; one without a column is missing.

    Examples
    --------
    >>> found = read([("Q", [0.5, None, "1,5"])], ["Q", "R"], 3)
    >>> found.matrix[:2].tolist()
    [[0.5, nan], [nan, nan]]
    >>> found.rejected
    {2: "feature Q is '1,5', which is no number"}
    """
    matrix = np.full((rows, len(features)), np.nan, dtype=np.float32)
    place = {name: at for at, name in enumerate(features)}
    rejected: dict[int, str] = {}
    for name, values in columns:
        numbers = _numbers(values)
        if numbers is None:
            numbers = np.full(rows, np.nan)
            for row, value in enumerate(values):
                if reason := _why_not(value):
                    rejected.setdefault(row, f"feature {name} {reason}")
                elif value is not None:
                    numbers[row] = float(value)
        matrix[:, place[name]] = numbers
    return Read(matrix, rejected)


def _numbers(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Return values as numbers; None where one of them has to be looked at."""
    if not {type(value) for value in values} <= NUMBERS:
        return None
    try:
        numbers = np.array(values, dtype=np.float64)
    except (OverflowError, ValueError):
        return None
    missing = sum(value is None for value in values)
    finite = np.isfinite(numbers)
    fits = int(finite.sum()) == len(values) - missing and bool((np.abs(numbers[finite]) <= FLOAT32_MAX).all())
    return numbers if fits else None


def _why_not(value: object) -> str:
    """Say why a value is no number that a model can read; empty where it is one, or missing."""
    if value is None:
        return ""
    if not isinstance(value, int | float | Decimal):
        return f"is {one_line(repr(value))[:LONGEST_VALUE]}, which is no number"
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = float("inf")
    if not np.isfinite(number):
        return f"is {str(value)[:LONGEST_VALUE]}; write NULL where it is missing"
    return "" if abs(number) <= FLOAT32_MAX else f"is {str(value)[:LONGEST_VALUE]}, beyond a 32-bit float"
