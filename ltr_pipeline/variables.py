"""The nights' Variables in an Airflow: which value of each is in use, where it comes from, and a file to import.

They are the gate's, and those that say when a night trains.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.gate import policy
from ltr_pipeline.monitoring import retrain
from ltr_pipeline.names import did_you_mean
from ltr_pipeline.tuning import DEFAULT_IS, PREFIX, Variable, plain_value

__all__ = ["DEFAULT", "STORED", "VARIABLES", "Found", "InUse", "allowed", "import_file", "remark", "unread"]

VARIABLES: Final = (*policy.VARIABLES, *retrain.VARIABLES)
"""Every Airflow Variable that a night reads."""

STORED: Final = "Variable"
"""Source of a value that Airflow's database holds, as its UI shows it."""

DEFAULT: Final = "default"
"""Source of a value that nothing sets."""


class InUse(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a Variable that a task reads.

    Attributes
    ----------
    source
        `STORED`, `DEFAULT`, the environment variable or the secrets backend that gives it.
    created
        Whether it was created just now.
    description
        As stored.
    shadowed
        Whether a Variable is stored that does not count: the source is another one, or it cannot be decrypted.
    """

    name: str
    value: str
    source: str
    created: bool = False
    description: str | None = None
    shadowed: bool = False


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Every Variable of the nights in one Airflow.

    Attributes
    ----------
    database
        Address of that Airflow's database.
    unknown
        Names of Variables that are set and look like theirs, but are none.
    """

    database: str
    variables: list[InUse]
    unknown: list[str] = []


def unread(found: Found) -> list[str]:
    """Say which Variables no night reads, and which of their own was probably meant."""
    known = [variable.name for variable in VARIABLES]
    return [f"no night reads a Variable {name}{did_you_mean(name, known, PREFIX)}" for name in found.unknown]


def import_file() -> dict[str, dict[str, str]]:
    """Return every Variable with default and description, in the form that ``airflow variables import`` reads."""
    return {each.name: {"value": each.default, "description": each.description} for each in VARIABLES}


def allowed(variable: Variable, found: InUse) -> bool:
    """Tell whether a run takes the value."""
    try:
        variable.parse(found.value)
    except SettingsError:
        return False
    return True


def remark(variable: Variable, found: InUse) -> str:
    """Return what a person should know about the value of a Variable; empty when there is nothing."""
    if found.created:
        return "created"
    if found.shadowed and found.source == DEFAULT:
        return "what is stored cannot be decrypted: has the Fernet key changed?"
    if not allowed(variable, found):
        return "not allowed: the next run fails"
    if plain_value(found.value) != found.value:
        return "imported in Airflow's UI, description and all; it counts, but is hard to edit: delete it"
    if found.source == STORED and _follows(found) and found.value != variable.default:
        return f"default of an earlier release, now {variable.default}: delete it, and `ltr variables` makes it anew"
    if found.shadowed:
        return "the Variable in Airflow's UI does not count"
    return ""


def _follows(found: InUse) -> bool:
    """Tell whether a stored value is the default of the release that created it."""
    born = re.match(rf"{DEFAULT_IS} (\S+), ", found.description or "")
    return born is not None and born[1] == found.value
