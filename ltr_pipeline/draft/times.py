"""When something happened: which field says so, and in which unit."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import Any, Final, NamedTuple

import pyarrow as pa

from ltr_pipeline.draft.tables import Column, Path, Table, is_nameable
from ltr_pipeline.draft.words import is_called
from ltr_pipeline.events.decoding.times import parse_times
from ltr_pipeline.mapping import TimeUnit

__all__ = ["NOT_READ", "Form", "Remedy", "Time", "day_of", "find", "form_of"]

LOOKED_AT: Final = 200  # values of a field
NEARLY_ALL: Final = 0.9
DAY: Final = 86_400
FIRST, LAST = 946_684_800, 4_102_444_800
"""Seconds from 1970 to 2000 and to 2100: a number of them in between is likely to be a time."""

_NUMBER: Final = re.compile(r"\d{9,20}(?:\.\d{1,9})?")

Form = str
"""One of the mapping's `TimeUnit`, or a form that is not read."""

RFC: Final = "RFC 3339"
_UNITS: Final[dict[Form, int]] = {"seconds": 1, "milliseconds": 1_000, "microseconds": 10**6, "nanoseconds": 10**9}


class Remedy(NamedTuple):
    """A way to make of a time one that is read: its unit then, and the filter of jq that makes it."""

    unit: TimeUnit
    filter: str


NOT_READ: Final[dict[Form, Remedy]] = {
    "microseconds": Remedy("milliseconds", ". / 1000"),
    "nanoseconds": Remedy("milliseconds", ". / 1000000"),
    "seconds as text": Remedy("seconds", "tonumber"),
    "milliseconds as text": Remedy("milliseconds", "tonumber"),
    "microseconds as text": Remedy("milliseconds", "tonumber / 1000"),
    "nanoseconds as text": Remedy("milliseconds", "tonumber / 1000000"),
    f"{RFC} without its offset from UTC": Remedy(RFC, '. + "Z"'),
}
"""Forms of times that are not read, and what makes them so."""


class Time(NamedTuple):
    """A field that says when something happened, and how."""

    path: Path
    form: Form


def find(table: Table) -> list[Time]:
    """Return the fields that may be the time of each record, the likeliest first."""
    found = [
        Time(path, form)
        for path, column in table.columns.items()
        if is_nameable(path) and table.filled(path) >= NEARLY_ALL and (form := form_of(path, column))
    ]
    return sorted(found, key=lambda time: (time.form in NOT_READ, not is_called(time.path, "time"), len(time.path)))


def form_of(path: Path, column: Column) -> Form | None:
    """Tell the form of a field's times; None where they are none."""
    values = [*islice(column.cells.values(), LOOKED_AT)]
    forms = Counter([*map(_form, values), *_text_forms([value for value in values if isinstance(value, str)])])
    del forms[None]
    form, count = forms.most_common(1)[0] if forms else (None, 0)
    if form is None or count < NEARLY_ALL * len(values):
        return None
    named = is_called(path, "time")
    return form if named or form.startswith(RFC) else None


def day_of(value: Any, form: Form) -> object:  # noqa: ANN401 - any JSON value
    """Return what stands for the day of a time; the day as written where it is text."""
    if form in _UNITS and _form(value):
        return int(value) // (_UNITS[form] * DAY)
    return str(value)[:10]


def _form(value: object) -> Form | None:
    """Tell the unit of a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return next((unit for unit, scale in _UNITS.items() if FIRST * scale <= value < LAST * scale), None)


def _text_forms(texts: list[str]) -> list[Form | None]:
    """Tell the form of texts."""
    plain, completed = _are_times(texts), _are_times([f"{text}Z" for text in texts])
    return [
        RFC if is_time else f"{RFC} without its offset from UTC" if would_be else _form_of_text(text)
        for text, is_time, would_be in zip(texts, plain, completed, strict=True)
    ]


def _are_times(texts: list[str]) -> list[bool]:
    valid: list[bool] = parse_times(pa.array(texts, pa.string())).is_valid().to_pylist() if texts else []
    return valid


def _form_of_text(text: str) -> Form | None:
    unit = _form(float(text)) if _NUMBER.fullmatch(text) else None
    return unit and f"{unit} as text"
