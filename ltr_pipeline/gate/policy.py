"""The gate's policy, and the Airflow Variables that set it. Light, so that DAG files may import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ltr_pipeline import tuning
from ltr_pipeline.tuning import variables_of

__all__ = ["RECENT_DAYS", "VARIABLES", "Consequence", "Policy"]

RECENT_DAYS: Final = 28
"""The challenger is compared with the best version that was promoted in so many days before."""

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Mode = Literal["enforce", "dry_run"]
Consequence = Literal["keep", "publish", "ask"]


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
    approval_minutes: Annotated[
        int, Meta(ge=1, le=240, description="how long a person who is asked has time to answer, in minutes; then keep")
    ] = 90

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
        return tuning.read(cls, values)

    def unasked(self) -> Policy:
        """Return the policy of a run that asks nobody: it keeps where it would ask.

        >>> Policy(on_inconclusive="ask").unasked() == Policy()
        True
        """
        asks = {name: "keep" for name in ("on_inconclusive", "on_not_evaluable") if getattr(self, name) == "ask"}
        return msgspec.structs.replace(self, **asks)


VARIABLES: Final = variables_of(Policy)
"""Every Airflow Variable of the gate, in the order of `Policy`."""
