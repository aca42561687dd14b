"""Everything the gate looks at, as records."""

from __future__ import annotations

from typing import Literal

import msgspec

from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.coins import CoinCheck
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.metrics.quality import Delta, Metrics
from ltr_pipeline.metrics.reliability import Reliability
from ltr_pipeline.metrics.slices import Slice
from ltr_pipeline.metrics.unbiased import Examination, UnbiasedDelta
from ltr_pipeline.scoring.latency import Latency

__all__ = ["Comparison", "Evidence", "Fallback", "Refreshed"]


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The challenger against another ranker on the same test rankings.

    Attributes
    ----------
    version
        The other's version id; None for linear weights and for none.
    kind
        ``none`` when there is nothing to compare with; `reason` says why.
    reason
        Why `delta` is None.
    metrics, delta
        The other's metrics, and challenger minus other, both on the rankings that the other was not trained on; None
        when not evaluable.
    gone
        Features that the other's scores depend on and the test rankings lack; it was scored without them.
    unbiased
        Challenger minus other over coin pairs; None without enough of them.
    """

    version: str | None
    kind: Literal["champion", "best_recent", "legacy_linear", "none"]
    reason: str = ""
    metrics: Metrics | None = None
    delta: Delta | None = None
    gone: list[str] = []
    unbiased: UnbiasedDelta | None = None


class Fallback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How well the linear weights rank that stand in for the challenger.

    Attributes
    ----------
    metrics, against_random
        Theirs, and theirs minus the expected random order; the latter is None with too few clusters.
    """

    metrics: Metrics
    against_random: Delta | None

    @property
    def beats_random(self) -> bool:
        """Return whether they are better than chance: the whole interval is above 0."""
        return self.against_random is not None and self.against_random.low > 0


class Refreshed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An hourly refresh beside its parent, on the fresh rankings that it was made from.

    Attributes
    ----------
    parent
        Version of the nightly model that it was made from.
    mode
        ``refit``: the parent's trees with new values; ``full``: trained anew.
    positives
        Positive answers to the fresh rankings.
    delta
        Refresh minus parent, each ranking scored by a refresh that was made without its query; None with too few
        users. What will still be answered is not known yet.
    debiased
        Whether position bias was taken out of what the fresh rankings teach.
    """

    parent: str
    mode: Literal["refit", "full"]
    positives: int
    delta: Delta | None
    debiased: bool


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything the gate looks at.

    Attributes
    ----------
    train_impressions
        Rows trained on.
    test_queries
        Queries of users among the eligible test rankings: one that the same user was shown again counts once.
    metrics
        The challenger's.
    baselines
        Metrics of ``logged_order``, ``legacy_linear``, ``random``.
    against_random
        Challenger minus the expected random order.
    champion, best_recent
        Comparisons with the published version and with the best version of the last `policy.RECENT_DAYS` days.
    fairness
        The challenger's.
    champion_fairness
        That of the published version, on the test rankings that it was not trained on; None where there is none that
        can be scored, or no such ranking, and from a release that did not measure it.
    latency
        Of the challenger; None without test rankings to measure it on.
    champion_latency
        That of the published version, where there is no challenger.
    landed
        What arrived for this run; None for a backfill, which reads no source.
    trees
        Of the challenger.
    untrained
        Why there is no challenger, so that only the published version and the baselines are measured; empty when there
        is one.
    due
        False where there is none because no training was due: then the published version is judged in its place.
    coins
        Whether the challenger's scores know what exploration's coins decided; None when no position was logged, and
        from a release that did not look.
    examination
        How much each rank is looked at, by the coins; empty without enough of them.
    audit
        What each feature looks like; empty from a release that did not look.
    fallback
        The linear weights that rank where the challenger cannot.
    joinable, unjoined
        Interactions of the window that could belong to an impression, and those that do not.
    reliability
        What the calibrated scores state beside what came of it; None where the scores have no calibration.
    refreshed
        Of an hourly refresh; None for a nightly model.
    """

    trees: int
    train_impressions: int
    test_queries: int
    metrics: Metrics
    against_random: Delta | None
    champion: Comparison
    fairness: Fairness
    latency: Latency | None
    landed: Landed | None = None
    best_recent: Comparison | None = None
    baselines: dict[str, Metrics] = {}
    slices: list[Slice] = []
    untrained: str = ""
    coins: CoinCheck | None = None
    examination: list[Examination] = []
    audit: list[FeatureAudit] = []
    fallback: Fallback | None = None
    joinable: int = 0
    unjoined: int = 0
    reliability: Reliability | None = None
    champion_fairness: Fairness | None = None
    champion_latency: Latency | None = None
    due: bool = True
    refreshed: Refreshed | None = None

    @property
    def judged(self) -> Metrics:
        """Metrics of the challenger; where there is none, of the published version, if they could be measured."""
        return self.champion.metrics or self.metrics if self.untrained else self.metrics
