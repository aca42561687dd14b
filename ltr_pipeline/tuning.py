"""Records whose fields Airflow Variables set: what each may be, and how it is read.

A Variable is named ``ltr_`` and its field; range, default and meaning stand once, at the field. It is light, so
that DAG files may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar, get_args, get_type_hints

import msgspec

from ltr_pipeline.errors import SettingsError

__all__ = ["DEFAULT_IS", "PREFIX", "Variable", "plain_value", "read", "table", "variables_of"]

T = TypeVar("T", bound=msgspec.Struct)

DEFAULT_IS: Final = "Default"
"""How the description of a Variable begins, before the default of the release that made it."""

PREFIX: Final = "ltr_"
"""How the name of each Variable begins; that of its field follows."""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """One Airflow Variable: ``ltr_`` and a field of a record.

    Attributes
    ----------
    name
        As in Airflow.
    default
        As text; what counts when the Variable is not set.
    meaning
        One line for people.
    low, high
        Smallest and largest allowed number, both included.
    whole
        Whether it must be a whole number.
    choices
        Allowed words; empty for a number.
    """

    name: str
    default: str
    meaning: str
    low: float
    high: float
    whole: bool
    choices: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """Allowed range in words."""
        return self._range if self.choices else f"a {'whole ' if self.whole else ''}number from {self._range}"

    @property
    def description(self) -> str:
        """Line that Airflow shows beside the Variable, cut after some 50 characters in its table."""
        return f"{DEFAULT_IS} {self.default}, {self._range}: {self.meaning}"

    @property
    def _range(self) -> str:
        return " or ".join(self.choices) if self.choices else f"{self.low:.10g} to {self.high:.10g}"

    def parse(self, text: str) -> float | int | str:
        """Return the value of the Variable; SettingsError names it, what it is and what it may be."""
        word = plain_value(str(text)).strip()
        if self.choices:
            if word in self.choices:
                return word
            raise self._wrong(text)
        try:
            value = int(word) if self.whole else float(word)
        except ValueError:
            raise self._wrong(text) from None
        if not self.low <= value <= self.high:  # also refuses NaN
            raise self._wrong(text)
        return value

    def _wrong(self, text: str) -> SettingsError:
        return SettingsError(
            f"the Airflow Variable {self.name} is {text!r}; set it to {self.allowed}, or delete it for {self.default}"
        )


def plain_value(text: str) -> str:
    """Return the value of a Variable; the import of Airflow's UI stores its description with it, as JSON."""
    try:
        return msgspec.json.decode(text, type=_Imported).value
    except msgspec.DecodeError:
        return text


class _Imported(msgspec.Struct, forbid_unknown_fields=True):
    value: str
    description: str


def variables_of(record: type[msgspec.Struct]) -> tuple[Variable, ...]:
    """Return the Variable of each field of a record, in their order; each field has a default and a description."""
    hints, defaults = get_type_hints(record, include_extras=True), record()
    return tuple(_variable(name, hints[name], getattr(defaults, name)) for name in record.__struct_fields__)


def _variable(field: str, hint: object, default: object) -> Variable:
    """Return the Variable that sets a field."""
    kind, *metas = get_args(hint)
    low, high = next(((meta.ge, meta.le) for meta in metas if meta.le is not None), (0, 0))  # words have none
    meaning = next(meta.description for meta in metas if meta.description)
    return Variable(
        name=f"{PREFIX}{field}",
        default=f"{default:g}" if isinstance(default, float) else str(default),
        meaning=meaning,
        low=low,
        high=high,
        whole=kind is int,
        choices=get_args(kind),
    )


def read(record: type[T], values: Mapping[str, str]) -> T:
    """Read a record from the Airflow Variables that are set, name → text; other names are ignored.

    Raises
    ------
    SettingsError
        A value is not allowed; every wrong one is named.
    """
    parsed, wrong = {}, []
    for variable in variables_of(record):
        if variable.name in values:
            try:
                parsed[variable.name.removeprefix(PREFIX)] = variable.parse(values[variable.name])
            except SettingsError as error:
                wrong.append(str(error))
    if wrong:
        raise SettingsError("; ".join(wrong))
    return msgspec.convert(parsed, record)


def table(variables: Sequence[Variable]) -> str:
    """Return a table of Variables in Markdown, for documentation."""
    rows = [("Variable", "default", "allowed", "meaning"), ("---",) * 4]
    rows += [(f"`{each.name}`", each.default, each.allowed, each.meaning) for each in variables]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
