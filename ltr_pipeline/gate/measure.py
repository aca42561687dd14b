"""Everything the gate looks at, measured on the test days: the challenger, its rivals, the baselines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.evidence import Comparison, Evidence, Fallback
from ltr_pipeline.gate.rivals import Rival, Rivals
from ltr_pipeline.metrics import coins, fairness, quality, reliability, slices, unbiased
from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.coins import CoinCheck, CoinPairs
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Delta, Estimate, Metrics
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.metrics.reliability import Reliability
from ltr_pipeline.metrics.slices import Slice, UserSegments
from ltr_pipeline.metrics.unbiased import Examination, UnbiasedDelta
from ltr_pipeline.schema import ITEM_ID, PROTECTED_GROUP, QUERY_ID, TIME, USER_ID
from ltr_pipeline.scoring import latency
from ltr_pipeline.scoring.calibration import Calibration, probability
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.scoring.linear import Linear
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer

__all__ = [
    "CHAMPION_PERMUTATIONS",
    "TRAINED_ON",
    "Contest",
    "HeldOut",
    "against",
    "gather",
    "owners",
    "requests",
    "without_model",
]

log = structlog.get_logger(__name__)

TRAINED_ON = (ITEM_ID, PROTECTED_GROUP)
"""Columns that `HeldOut` needs of the training rows."""

CHAMPION_PERMUTATIONS = 200
"""Relabellings behind the null of the champion's fairness: enough for an alarm, and cheaper than the challenger's."""

LATENCY_REQUESTS = 1000
NO_MODEL = "there is no model to compare"


@dataclass(frozen=True)
class HeldOut:
    """The test rankings, and what is known of the dataset that they are a part of.

    Attributes
    ----------
    test
        The rankings.
    manifest
        Of the whole dataset.
    trained_on
        The columns `TRAINED_ON` of the training rows: items not among them make the slice ``new``.
    seed
        Of the resampling.
    group_share_min
        Share of impressions below which a protected group is not judged by itself.
    user_segments
        How engaged users were before the test days, to slice by; None where that is not known.
    """

    test: Dataset
    manifest: DatasetManifest
    trained_on: pl.DataFrame
    seed: int
    group_share_min: float
    user_segments: UserSegments | None = None


class Contest:
    """The test rankings in the challenger's order and in those it is compared with, each made once.

    Parameters
    ----------
    days
        The test days.
    challenger
        The new model.
    rivals
        All that it is compared with.

    Attributes
    ----------
    groups
        The protected group of each row.
    rankings, ndcg
        The challenger's order, and its nDCG@5 of each ranking.
    times, asked_by
        When each ranking was shown, and to which user.
    baselines
        The orders that need no learning, as far as there are any: ``random``, ``logged_order``, ``legacy_linear``.
    """

    def __init__(self, days: HeldOut, challenger: Scorer, rivals: Rivals) -> None:
        self.days, self.challenger, self.rivals = days, challenger, rivals
        self.data, self.seed = days.test, days.seed
        self.fewest = days.manifest.windows.min_queries
        first = starts(self.data.group)
        self.times, self.asked_by = self.data.ids[TIME].gather(first), self.data.ids[USER_ID].gather(first)
        self.clusters, self._questions = owners(self.data.ids[first])
        self.groups = _groups(days)
        self.rankings = self.scored(challenger)
        self.ndcg = quality.ndcg(self.rankings)
        self.eligible = self.questions(~np.isnan(self.ndcg))
        self.baselines = _baselines(self, rivals.legacy_weights)
        self._orders: dict[str, Rankings] = {}

    @cached_property
    def coin_pairs(self) -> CoinPairs | None:
        """Neighbours whose order a coin decided; None where no position was logged."""
        data = self.data
        if data.position is None:
            return None
        none = np.full(len(data.position), np.nan, np.float32)
        return coins.coin_pairs(data.group, data.position, none if data.propensity is None else data.propensity)

    def questions(self, chosen: NDArray[np.bool_]) -> int:
        """Count the queries of users among the chosen rankings; one that was shown again tells little more."""
        return len(np.unique(self._questions[chosen]))

    def order_of(self, rival: Rival) -> Rankings:
        """Order by a published version; a feature that is gone has no value."""
        if rival.version not in self._orders:
            self._orders[rival.version] = self.scored(rival.scorer)
        return self._orders[rival.version]

    def gone(self, rival: Rival) -> list[str]:
        """Return the features that the scores of a published version depend on and the test rankings lack."""
        return sorted(rival.scorer.used - set(self.data.feature_names))

    def unseen(self, rival: Rival) -> NDArray[np.bool_]:
        """Tell which rankings a published version was not trained on."""
        return (self.times >= rival.seen_until).to_numpy()

    def ordered(self, score: NDArray[np.float64]) -> Rankings:
        """Order by scores of the rows."""
        return Rankings(self.data.relevance, score, self.data.group)

    def scored(self, scorer: Scorer) -> Rankings:
        """Order by a scorer, which gets the features in its own order, and NaN for one that is gone."""
        column = {name: index for index, name in enumerate(self.data.feature_names)}
        nothing = np.full(len(self.data.features), np.nan, dtype=np.float32)
        columns = [self.data.features[:, column[name]] if name in column else nothing for name in scorer.features]
        return self.ordered(scorer.score(np.column_stack(columns)))

    def metrics(self, rankings: Rankings, among: NDArray[np.bool_] | None = None) -> Metrics:
        """Measure an order, on all rankings or on some, bool (rankings,)."""
        return quality.measure(rankings, self.clusters, among)

    def lead(self, ndcg: NDArray[np.float64]) -> Delta | None:
        """Compare the challenger with another ranker by the nDCG@5 of each ranking."""
        return quality.paired(self.ndcg, ndcg, self.clusters)

    def unbiased(self, order: Rankings, counted: NDArray[np.bool_] | None = None) -> UnbiasedDelta | None:
        """Compare the challenger with another ranker by coin pairs, of some of the rankings, bool (rankings,)."""
        pairs = self.coin_pairs
        if pairs is None:
            return None
        if counted is not None:
            pairs = pairs.only(counted[pairs.ranking])
        return unbiased.difference(pairs, self.data.relevance, self.rankings.score, order.score, self.clusters)


def gather(
    contest: Contest,
    landed: Landed | None,
    audit: Sequence[FeatureAudit] = (),
    linear: Linear | None = None,
    calibration: Calibration | None = None,
) -> Evidence:
    """Measure the challenger and everything it is compared with.

    A rival that was trained on part of the test days is compared on the rest, if that has as many rankings as the test
    part was asked to have (`Windows.min_queries`), or all there are.

    Parameters
    ----------
    landed
        What arrived for this run; None for a backfill.
    audit
        What each feature looks like.
    linear
        What stands in for the challenger; None where nothing does.
    calibration
        From the challenger's scores to probabilities; None where there is none.
    """
    days, challenger, rivals, orders = contest.days, contest.challenger, contest.rivals, contest.baselines
    baselines = {name: contest.metrics(order) for name, order in orders.items()}
    parts = _slices(contest, days.trained_on)
    return Evidence(
        trees=challenger.trees,
        train_impressions=days.manifest.train.rows,
        test_queries=contest.eligible,
        metrics=contest.metrics(contest.rankings),
        baselines=baselines,
        against_random=contest.lead(quality.ndcg(orders["random"])),
        champion=_against_champion(contest, rivals.champion, orders.get("legacy_linear"), baselines),
        best_recent=against(contest, rivals.best_recent, "best_recent") if rivals.best_recent else None,
        slices=parts,
        fairness=_fairness(contest, parts),
        champion_fairness=_champion_fairness(contest),
        latency=_latency(days.test, challenger),
        landed=landed,
        coins=_coins(contest),
        examination=_examination(contest),
        audit=list(audit),
        fallback=_fallback(contest, linear) if linear else None,
        joinable=days.manifest.joinable,
        unjoined=sum(days.manifest.unjoined.values()),
        reliability=_reliability(contest, calibration) if calibration else None,
    )


def without_model(why: str, days: HeldOut, published: Rivals, landed: Landed | None, *, due: bool = True) -> Evidence:
    """Measure the champion by itself, on a night that made no model.

    Parameters
    ----------
    why
        What there was not to learn from, or why no training was due.
    published
        The champion, which is measured on the rankings that it was not trained on, and the legacy weights.
    landed
        What arrived for this run; None for a backfill.
    due
        Whether a training was due.
    """
    manifest, none = days.manifest, Estimate(value=None, low=None, high=None, n=0)
    champion = published.champion
    alone = Contest(days, champion.scorer, published) if champion else None
    return Evidence(
        trees=0,
        untrained=why,
        due=due,
        train_impressions=manifest.train.rows,
        test_queries=alone.eligible if alone else manifest.test.eligible,
        metrics=Metrics(ndcg_at_5=none, linear_ndcg_at_5=none, mrr=none, hit_at_3=none),
        against_random=None,
        baselines={name: alone.metrics(order) for name, order in alone.baselines.items()} if alone else {},
        champion=_alone(alone, champion)
        if alone and champion
        else Comparison(version=None, kind="none", reason=NO_MODEL),
        fairness=fairness.Fairness(configured=False, evaluable=False, reason=NO_MODEL),
        latency=None,
        landed=landed,
        joinable=manifest.joinable,
        unjoined=sum(manifest.unjoined.values()),
        champion_fairness=_champion_fairness(alone) if alone else None,
        champion_latency=_latency(days.test, champion.scorer) if champion else None,
    )


def requests(data: Dataset, limit: int) -> list[Request]:
    """Make ranking requests as a service would get them: one for each ranking, evenly spread, at most `limit`."""
    first = starts(data.group)
    if not len(first):
        return []
    chosen = np.unique(np.linspace(0, len(first) - 1, min(limit, len(first))).astype(int))
    return [_request(data, int(first[index]), int(data.group[index])) for index in chosen]


def _latency(test: Dataset, challenger: Scorer) -> Latency | None:
    asked = requests(test, LATENCY_REQUESTS)
    return latency.measure_latency(challenger, asked) if asked else None


def _request(data: Dataset, start: int, size: int) -> Request:
    rows = data.features[start : start + size]
    items = data.ids[ITEM_ID].slice(start, size)
    return Request(
        query_id=data.ids[QUERY_ID][start],
        candidates=[
            Candidate.of(
                item,
                {
                    name: None if np.isnan(value) else float(value)
                    for name, value in zip(data.feature_names, row, strict=True)
                },
            )
            for item, row in zip(items, rows, strict=True)
        ],
    )


def _baselines(contest: Contest, legacy_weights: Mapping[str, float]) -> dict[str, Rankings]:
    """Measure the orders that need no learning, as far as there are any: random, as shown, by the legacy weights."""
    data = contest.data
    orders = {"random": contest.ordered(np.zeros(len(data.relevance)))}  # all tied: the expectation at random
    if data.position is not None:
        orders["logged_order"] = contest.ordered(-data.position.astype(np.float64))
    if legacy_weights:
        orders["legacy_linear"] = contest.scored(Scorer.from_linear(legacy_weights, data.feature_names))
    return orders


def _fallback(contest: Contest, linear: Linear) -> Fallback:
    order = contest.scored(Scorer.from_standardised(linear, contest.data.feature_names))
    random = quality.ndcg(contest.baselines["random"])
    return Fallback(
        metrics=contest.metrics(order),
        against_random=quality.paired(quality.ndcg(order), random, contest.clusters),
    )


def _reliability(contest: Contest, calibration: Calibration) -> Reliability:
    stated = probability(calibration, contest.rankings.score)
    return reliability.measure(stated, contest.data.relevance, calibration.positive)


def _against_champion(
    contest: Contest, champion: Rival | None, legacy: Rankings | None, baselines: Mapping[str, Metrics]
) -> Comparison:
    """Compare with the champion; while there is none, with the legacy weights."""
    if champion is not None:
        return against(contest, champion, "champion")
    if legacy is None:
        return Comparison(version=None, kind="none", reason="nothing is published yet and no legacy weights are set")
    return Comparison(
        version=None,
        kind="legacy_linear",
        metrics=baselines["legacy_linear"],
        delta=contest.lead(quality.ndcg(legacy)),
        unbiased=contest.unbiased(legacy),
    )


def against(contest: Contest, rival: Rival, kind: Literal["champion", "best_recent"]) -> Comparison:
    """Compare on the rankings that the rival was not trained on."""
    version, order, unseen = rival.version, contest.order_of(rival), contest.unseen(rival)
    ndcg = np.where(unseen, quality.ndcg(order), np.nan)
    if reason := _seen(contest, rival, ndcg):
        return Comparison(version=version, kind=kind, reason=reason)
    return Comparison(
        version=version,
        kind=kind,
        metrics=contest.metrics(order, unseen),
        delta=contest.lead(ndcg),
        gone=contest.gone(rival),
        unbiased=contest.unbiased(order, unseen),
    )


def _alone(contest: Contest, champion: Rival) -> Comparison:
    """Measure the champion, which is ranked in the challenger's place, on the rankings that it was not trained on."""
    unseen = contest.unseen(champion)
    if reason := _seen(contest, champion, np.where(unseen, contest.ndcg, np.nan)):
        return Comparison(version=champion.version, kind="champion", reason=reason)
    return Comparison(
        version=champion.version,
        kind="champion",
        reason=NO_MODEL,
        metrics=contest.metrics(contest.rankings, unseen),
        gone=contest.gone(champion),
    )


def _seen(contest: Contest, rival: Rival, ndcg: NDArray[np.float64]) -> str:
    """Say why too few rankings are new to a version, by its nDCG@5 of those that are; empty where there are enough."""
    new = contest.questions(~np.isnan(ndcg))
    if new >= min(contest.fewest, contest.eligible):
        return ""
    return f"{rival.version} was trained up to {rival.seen_until:%Y-%m-%d}: {new} test rankings are new to it"


def owners(ids: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for who asked, a user or where unknown a query, and one for what, from a row of each ranking."""
    user, query = pl.col(USER_ID), pl.col(QUERY_ID)
    asker = pl.when(user.is_null()).then(pl.struct(pl.lit(None, pl.String).alias("u"), query.alias("q")))
    asked = ids.select(
        who=asker.otherwise(pl.struct(user.alias("u"), pl.lit(None, pl.String).alias("q"))).rank("dense"),
        what=pl.struct(user, query).rank("dense"),
    )
    return asked["who"].cast(pl.Int64).to_numpy(), asked["what"].cast(pl.Int64).to_numpy()


def _coins(contest: Contest) -> CoinCheck | None:
    """Test whether the challenger's scores know what exploration's coins decided."""
    pairs, test, windows = contest.coin_pairs, contest.days.manifest.test, contest.days.manifest.windows
    if pairs is None:
        return None
    ready = windows.cutoff + (test.end - test.start) + dt.timedelta(windows.attribution_days)
    return coins.check(
        pairs, contest.rankings.score, contest.data.group, contest.clusters, seed=contest.seed, ready=ready.date()
    )


def _examination(contest: Contest) -> list[Examination]:
    pairs = contest.coin_pairs
    return [] if pairs is None else unbiased.curve(pairs, contest.data.relevance, contest.clusters)


def _groups(days: HeldOut) -> ProtectedGroups:
    """Return the protected groups; one that training knew and the test days lack is missing, not unconfigured."""
    ids = days.test.ids
    return ProtectedGroups.pool(
        ids[PROTECTED_GROUP], days.trained_on[PROTECTED_GROUP], ids[ITEM_ID], days.group_share_min
    )


def _slices(contest: Contest, trained_on: pl.DataFrame) -> list[Slice]:
    new_item = ~contest.data.ids[ITEM_ID].is_in(trained_on[ITEM_ID].unique().implode()).to_numpy()
    parts = (
        slices.by_group(contest.groups)
        | slices.by_day(contest.rankings, contest.times)
        | slices.by_day_part(contest.rankings, contest.times)
        | slices.by_novelty(contest.rankings, new_item)
    )
    if segments := contest.days.user_segments:
        parts |= slices.by_user_segment(contest.rankings, contest.asked_by, segments)
    return slices.measure(contest.rankings, parts, contest.clusters)


def _fairness(contest: Contest, parts: list[Slice]) -> fairness.Fairness:
    ndcg = {part.value: part.ndcg_at_5.value for part in parts if part.dimension == PROTECTED_GROUP}
    return fairness.measure(contest.rankings, contest.groups, contest.clusters, contest.seed, ndcg_at_5=ndcg)


def _champion_fairness(contest: Contest) -> fairness.Fairness | None:
    """Measure the champion as the challenger is, on the rankings that it was not trained on."""
    champion = contest.rivals.champion
    if champion is None:
        return None
    unseen = contest.unseen(champion)
    if not unseen.any():
        return None
    order = contest.order_of(champion)
    rows = unseen[order.ranking]
    return fairness.measure(
        order.only(unseen),
        contest.groups.only(rows),
        contest.clusters[unseen],
        contest.seed,
        permutations=CHAMPION_PERMUTATIONS,
    )
