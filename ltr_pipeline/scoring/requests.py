"""Requests to a scorer, and candidates read into the rows of a matrix.

A candidate's features stay in JSON, as they came, until a model reads them, because names and order are the model's.
Reading them straight into a row of the matrix costs less than maps by name, and the event log can write them as they
came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import RequestError
from ltr_pipeline.scoring.kernel import Kernel
from ltr_pipeline.scoring.reading import Rows

__all__ = ["LONGEST_NAME", "OPENING_BRACKET", "Candidate", "Features", "Ranked", "Reader", "Request", "is_list"]

LONGEST_NAME: Final = 256  # characters that a feature's name may have
OPENING_BRACKET: Final = ord("[")


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An item to rank.

    Attributes
    ----------
    features
        JSON: an object of numbers by name, or a list of numbers in the model's order. A feature that is null or not
        there is missing.
    """

    item_id: str
    features: msgspec.Raw

    @classmethod
    def of(cls, item_id: str, features: Mapping[str, float | None] | Sequence[float | None]) -> Candidate:
        """Make a candidate with these features."""
        return cls(item_id=item_id, features=msgspec.Raw(msgspec.json.encode(features)))


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query and the items to rank for it."""

    query_id: str
    candidates: Sequence[Candidate]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """The features of some candidates, read for one model.

    Attributes
    ----------
    matrix
        float32 (candidates, features); NaN = missing.
    unknown
        Names of features that candidates gave and the model does not have, sorted.
    """

    matrix: NDArray[np.float32]
    unknown: tuple[str, ...]


class Ranked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item in its place; `rank` is 1-based."""

    item_id: str
    score: float
    rank: int


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors that msgspec raises for JSON that it does not take."""


class Reader:
    """Reads candidates' features from JSON into rows, for one model."""

    def __init__(self, features: Sequence[str], kernel: Kernel | None) -> None:
        self._names = features
        self._rows = Rows.of(features, kernel)
        self._by_name = _row_decoder(features, array_like=False)
        self._in_order = _row_decoder(features, array_like=True)
        self._any = msgspec.json.Decoder(dict[str, float | None]).decode
        self._list = msgspec.json.Decoder(list[float | None]).decode

    def read(self, candidates: Sequence[Candidate]) -> Features:
        """Read the features of `candidates`; RequestError names the candidate and the feature that are wrong."""
        unknown: set[str] = set()
        if self._rows and (plain := self._rows.read([candidate.features for candidate in candidates])):
            matrix, careful = plain
            if careful:
                rows = [self._carefully(candidates[row], row, unknown) for row in careful]
                matrix[careful] = _float32(rows, len(self._names))
        else:
            matrix = self._by_msgspec(candidates, unknown)
            careful = list(range(len(candidates)))
        if careful and np.isinf(matrix).any():
            row, column = np.argwhere(np.isinf(matrix))[0]
            raise RequestError(
                f"{_place(candidates[row], row)}: feature {self._names[column]} is beyond a 32-bit float; give a "
                "finite number, or null where it is missing"
            )
        return Features(matrix=matrix, unknown=tuple(sorted(unknown)))

    def _by_msgspec(self, candidates: Sequence[Candidate], unknown: set[str]) -> NDArray[np.float32]:
        decode = self._in_order if candidates and is_list(candidates[0].features) else self._by_name
        values = msgspec.structs.astuple
        rows: list[Sequence[float | None]] = []
        for candidate in candidates:
            try:
                rows.append(values(decode(candidate.features)))
            except _UNREADABLE:
                rows.append(self._carefully(candidate, len(rows), unknown))
        return _float32(rows, len(self._names))

    def _carefully(self, candidate: Candidate, row: int, unknown: set[str]) -> Sequence[float | None]:
        """Read a candidate that the quick way has left: it has unknown names, an error, or is otherwise not plain."""
        place = _place(candidate, row)
        try:
            if is_list(candidate.features):
                values = self._list(candidate.features)
                if len(values) != len(self._names):
                    raise RequestError(
                        f"{place}: {len(values)} features, but the model has the {len(self._names)} features "
                        f"{', '.join(self._names)}; give these in this order, or send features by name"
                    )
                return values
            by_name = self._any(candidate.features)
        except _UNREADABLE as error:
            raise RequestError(f"{place}: {_what(error, candidate)}") from None
        if (strange := by_name.keys() - set(self._names)) and (longest := max(map(len, strange))) > LONGEST_NAME:
            raise RequestError(f"{place}: a feature's name has {longest} characters; it may have {LONGEST_NAME}")
        unknown.update(strange)
        return [by_name.get(name) for name in self._names]


def is_list(features: msgspec.Raw) -> bool:
    """Return whether features are given as a list in the model's order."""
    return memoryview(features)[0] == OPENING_BRACKET


def _row_decoder(features: Sequence[str], *, array_like: bool) -> Callable[[msgspec.Raw], msgspec.Struct]:
    """Return a function that reads a candidate's features; a list must have all of them, an object may have any."""
    columns = {f"f{column}": name for column, name in enumerate(features)}
    row: Any = msgspec.defstruct(
        "_Row",
        [(column, float | None) if array_like else (column, float | None, np.nan) for column in columns],
        rename=columns,
        array_like=array_like,
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.json.Decoder(row).decode


def _float32(rows: Sequence[Sequence[float | None]], width: int) -> NDArray[np.float32]:
    """Make a matrix of the rows; None becomes NaN, and a number too large for float32 becomes infinite."""
    with np.errstate(over="ignore"):
        try:
            flat = np.fromiter(chain.from_iterable(rows), np.float32, len(rows) * width)
        except TypeError:  # a null; np.array takes it, but needs twice the time
            flat = np.array(rows, dtype=np.float32)
    return flat.reshape(len(rows), width)


def _place(candidate: Candidate, row: int) -> str:
    return f"candidate {row} (item_id {candidate.item_id!r})"


def _what(error: Exception, candidate: Candidate) -> str:
    """Say which feature is wrong and why: msgspec does not name the key of a map."""
    try:
        features = msgspec.json.decode(candidate.features)
    except _UNREADABLE:
        return f"features: {error}"
    if not isinstance(features, dict | list):
        return "features must be an object of numbers by name, or a list of numbers in the model's order"
    named: Iterable[tuple[object, object]] = features.items() if isinstance(features, dict) else enumerate(features)
    for name, value in named:
        if isinstance(value, bool) or not isinstance(value, float | int | None):
            return (
                f"feature {name!s:.{LONGEST_NAME}} is not a number; give a finite number, or null where it is missing"
            )
    return "a feature is beyond a 64-bit float; give a finite number, or null where it is missing"
