"""The gate's policy, and the Airflow Variables that set it. Light, so that DAG files may import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from ltr_pipeline.errors import SettingsError

__all__ = ["DEFAULT_IS", "PREFIX", "RECENT_DAYS", "VARIABLES", "Policy", "Variable", "plain_value", "variables_table"]

RECENT_DAYS: Final = 28
"""The challenger is compared with the best version that was promoted in so many days before."""

DEFAULT_IS: Final = "Default"
"""How the description of a Variable begins, before the default of the release that made it."""

PREFIX: Final = "ltr_"
"""How the name of each Variable begins; that of the field of `Policy` follows."""

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Mode = Literal["enforce", "dry_run"]
Consequence = Literal["keep", "publish"]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The demands of the gate. Each field is set by an Airflow Variable: ``ltr_`` and its name."""

    ndcg_min: Annotated[Share, Meta(description="smallest nDCG@5 on the test days")] = 0.65
    fairness_max: Annotated[Share, Meta(description="largest noise-corrected fairness gap")] = 0.05
    latency_p95_max_ms: Annotated[
        float, Meta(ge=0, le=60_000, description="largest p95 of ranking one request, in ms")
    ] = 15.0
    min_samples: Annotated[Count, Meta(description="fewest training impressions")] = 100
    min_queries: Annotated[Count, Meta(description="fewest eligible test rankings")] = 100
    regression_max: Annotated[
        Share, Meta(description=f"how much nDCG@5 may be lost against the champion and the best of {RECENT_DAYS} days")
    ] = 0.01
    suspicious_gain: Annotated[
        Share, Meta(description="gain in nDCG@5 over the champion above which a data leak is suspected")
    ] = 0.10
    suspicious_gain_share: Annotated[
        Share, Meta(description="the same, as a share of what the champion left to be gained (1 − its nDCG@5)")
    ] = 0.5
    feature_change_max: Annotated[
        Share, Meta(description="change of a feature's distribution from a day to the next that is never too much")
    ] = 0.10
    unjoined_share_max: Annotated[
        Share, Meta(description="largest share of feedback that belongs to no impression")
    ] = 0.20
    quarantined_share_max: Annotated[
        Share, Meta(description="largest share of records landed that are quarantined")
    ] = 0.01
    lost_share_max: Annotated[
        Share, Meta(description="largest share of records that were gone before they were read")
    ] = 0.01
    unknown_group_share_max: Annotated[
        Share, Meta(description="largest share of test impressions without a protected group that can be judged")
    ] = 0.05
    gate_mode: Annotated[Mode, Meta(description="dry_run judges and never publishes")] = "enforce"
    on_inconclusive: Annotated[Consequence, Meta(description="what happens when the data cannot decide a check")] = (
        "keep"
    )
    on_not_evaluable: Annotated[Consequence, Meta(description="what happens when a check cannot be made")] = "keep"

    @classmethod
    def from_variables(cls, values: Mapping[str, str]) -> Policy:
        """Read the policy from the Airflow Variables that are set, name → text; other names are ignored.

        Raises
        ------
        SettingsError
            A value is not allowed; every wrong one is named.

        Examples
        --------
        >>> Policy.from_variables({"ltr_ndcg_min": "0.7"}).ndcg_min
        0.7
        """
        parsed, wrong = {}, []
        for variable in VARIABLES:
            if variable.name in values:
                try:
                    parsed[variable.name.removeprefix(PREFIX)] = variable.parse(values[variable.name])
                except SettingsError as error:
                    wrong.append(str(error))
        if wrong:
            raise SettingsError("; ".join(wrong))
        return msgspec.convert(parsed, cls)


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """One Airflow Variable of the gate: ``ltr_`` and a field of `Policy`.

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


def _variable(field: str, hint: object, default: object) -> Variable:
    """Return the Variable that sets a field of `Policy`."""
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


VARIABLES: Final = tuple(
    _variable(name, hint, getattr(Policy(), name)) for name, hint in get_type_hints(Policy, include_extras=True).items()
)
"""Every Airflow Variable of the gate, in the order of `Policy`."""


def variables_table() -> str:
    """Return a table of all Variables in Markdown, for documentation."""
    rows = [("Variable", "default", "allowed", "meaning"), ("---",) * 4]
    rows += [(f"`{each.name}`", each.default, each.allowed, each.meaning) for each in VARIABLES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
