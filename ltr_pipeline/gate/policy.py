"""What the gate asks for: the policy, and the Airflow Variables that set it. Light, so that DAG files may import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ltr_pipeline.errors import SettingsError

__all__ = ["VARIABLES", "Policy", "Variable"]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gate asks for; one field for each Airflow Variable of `VARIABLES`."""

    ndcg_min: float = 0.65
    fairness_max: float = 0.05
    latency_p95_max_ms: float = 15.0
    min_samples: int = 100
    min_queries: int = 100
    regression_max: float = 0.01
    suspicious_gain: float = 0.10
    quarantined_share_max: float = 0.01
    lost_share_max: float = 0.01
    gate_mode: Literal["enforce", "dry_run"] = "enforce"
    on_inconclusive: Literal["keep", "publish"] = "keep"
    on_not_evaluable: Literal["keep", "publish"] = "keep"

    @classmethod
    def from_variables(cls, values: Mapping[str, str]) -> Policy:
        """Policy from the Airflow Variables that are set, name → text; other names are ignored.

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
                    parsed[variable.name.removeprefix("ltr_")] = variable.parse(values[variable.name])
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
    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Allowed range in words."""
        if self.choices:
            return " or ".join(self.choices)
        return f"a {'whole ' if self.whole else ''}number from {self.low:.10g} to {self.high:.10g}"

    def parse(self, text: str) -> float | int | str:
        """Value of the Variable; SettingsError names it, what it is and what it may be."""
        word = str(text).strip()
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


_PUBLISH_OR_KEEP = ("keep", "publish")

VARIABLES: Final = (
    Variable(name="ltr_ndcg_min", default="0.65", meaning="smallest nDCG@5 on the test days"),
    Variable(name="ltr_fairness_max", default="0.05", meaning="largest noise-corrected fairness gap"),
    Variable(
        name="ltr_latency_p95_max_ms", default="15", high=60_000, meaning="largest p95 of ranking one request, in ms"
    ),
    Variable(
        name="ltr_min_samples", default="100", low=1, high=10**9, whole=True, meaning="fewest training impressions"
    ),
    Variable(
        name="ltr_min_queries", default="100", low=1, high=10**9, whole=True, meaning="fewest eligible test rankings"
    ),
    Variable(
        name="ltr_regression_max",
        default="0.01",
        meaning="how much nDCG@5 may be lost against the champion and the best of 28 days",
    ),
    Variable(
        name="ltr_suspicious_gain", default="0.1", meaning="gain of nDCG@5 on the champion above which a leak is feared"
    ),
    Variable(
        name="ltr_quarantined_share_max", default="0.01", meaning="largest share of records landed that are quarantined"
    ),
    Variable(
        name="ltr_lost_share_max",
        default="0.01",
        meaning="largest share of records that were gone before they were read",
    ),
    Variable(
        name="ltr_gate_mode",
        default="enforce",
        choices=("enforce", "dry_run"),
        meaning="dry_run judges and never publishes",
    ),
    Variable(
        name="ltr_on_inconclusive",
        default="keep",
        choices=_PUBLISH_OR_KEEP,
        meaning="what a check does that the data cannot decide",
    ),
    Variable(
        name="ltr_on_not_evaluable",
        default="keep",
        choices=_PUBLISH_OR_KEEP,
        meaning="what a check does that cannot be made",
    ),
)
"""Every Airflow Variable of the gate, in the order of `Policy`."""
