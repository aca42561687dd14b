"""Everything the gate looks at, measured on the test days: the challenger, its rivals, the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.rivals import Rival
from ltr_pipeline.metrics import fairness, quality
from ltr_pipeline.metrics.quality import Estimate, Metrics, Slice
from ltr_pipeline.metrics.resampling import cluster_codes
from ltr_pipeline.schema import ITEM_ID, PROTECTED_GROUP, TIME, USER_ID
from ltr_pipeline.scoring import latency
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer

__all__ = ["TRAINED_ON", "gather", "requests", "without_model"]

log = structlog.get_logger(__name__)

TRAINED_ON = (ITEM_ID, PROTECTED_GROUP)
"""Columns that `gather` needs of the training rows."""

LATENCY_REQUESTS = 1000
NO_MODEL = "there is no model to compare"


class _Test:
    """The test rankings with what every measurement of them shares."""

    def __init__(self, test: Dataset, seed: int) -> None:
        self.data = test
        self.seed = seed
        first = np.cumsum(test.group) - test.group
        self.users = test.ids[USER_ID].gather(first)
        self.times = test.ids[TIME].gather(first)
        self.clusters = cluster_codes(self.users)

    def metrics(self, score: NDArray[np.float64]) -> Metrics:
        return quality.measure(self.data.relevance, score, self.data.group, self.clusters, self.seed)

    def ndcg(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        return quality.ndcg(self.data.relevance, score, self.data.group)

    def aligned(self, scorer: Scorer) -> NDArray[np.float32]:
        """The feature matrix in the scorer's own order; KeyError names a feature that is gone."""
        column = {name: index for index, name in enumerate(self.data.feature_names)}
        return self.data.features[:, [column[name] for name in scorer.features]]


def gather(
    test: Dataset,
    challenger: Scorer,
    *,
    train_impressions: int,
    trained_on: pl.DataFrame,
    landed: Landed | None,
    champion: Rival | None,
    best_recent: Rival | None,
    legacy_weights: Mapping[str, float],
    min_queries: int,
    seed: int,
) -> Evidence:
    """Measure the challenger and everything it is compared with.

    Parameters
    ----------
    test
        The test rankings.
    trained_on
        The columns `TRAINED_ON` of the training rows: items not among them make the slice ``new``.
    landed
        What arrived for this run; None for a backfill.
    champion, best_recent
        Published rivals, if there are any; without a champion the legacy weights take its place.
    min_queries
        A rival that was trained on part of the test days is compared on the rest, if that has this many rankings.
    """
    table = _Test(test, seed)
    score = challenger.score(table.aligned(challenger))
    ndcg = table.ndcg(score)
    tied = np.zeros(len(score))
    baselines = {"random": table.metrics(tied)}
    if test.position is not None:
        baselines["logged_order"] = table.metrics(-test.position.astype(np.float64))
    slices = _slices(table, score, trained_on)
    legacy = _legacy_score(table, legacy_weights)
    if legacy is not None:
        baselines["legacy_linear"] = table.metrics(legacy)
    return Evidence(
        trees=challenger.trees,
        train_impressions=train_impressions,
        test_queries=int((~np.isnan(ndcg)).sum()),
        metrics=table.metrics(score),
        baselines=baselines,
        against_random=quality.paired(ndcg, table.ndcg(tied), table.clusters, seed),
        champion=_against_champion(table, ndcg, champion, legacy, baselines, min_queries),
        best_recent=_against(table, ndcg, best_recent, "best_recent", min_queries) if best_recent else None,
        slices=slices,
        fairness=_fairness(table, score, slices, trained_on),
        latency=_latency(test, challenger),
        landed=landed,
    )


def without_model(why: str, *, train_impressions: int, test_queries: int, landed: Landed | None) -> Evidence:
    """What is known of a night on which there was nothing to learn from."""
    none = Estimate(value=None, low=None, high=None, n=0)
    return Evidence(
        trees=0,
        untrained=why,
        train_impressions=train_impressions,
        test_queries=test_queries,
        metrics=Metrics(ndcg_at_5=none, linear_ndcg_at_5=none, mrr=none, hit_at_3=none),
        against_random=None,
        champion=Comparison(version=None, kind="none", reason=NO_MODEL),
        fairness=fairness.Fairness(configured=False, evaluable=False, reason=NO_MODEL),
        latency=None,
        landed=landed,
    )


def requests(data: Dataset, limit: int) -> list[Request]:
    """Ranking requests as a service would get them: one for each ranking, evenly spread, at most `limit`."""
    first = np.cumsum(data.group) - data.group
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
        query_id=data.ids["query_id"][start],
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


def _against_champion(
    table: _Test,
    ndcg: NDArray[np.float64],
    champion: Rival | None,
    legacy: NDArray[np.float64] | None,
    baselines: Mapping[str, Metrics],
    min_queries: int,
) -> Comparison:
    if champion is not None:
        return _against(table, ndcg, champion, "champion", min_queries)
    if legacy is None:
        return Comparison(version=None, kind="none", reason="nothing is published yet and no legacy weights are set")
    return Comparison(
        version=None,
        kind="legacy_linear",
        metrics=baselines["legacy_linear"],
        delta=quality.paired(ndcg, table.ndcg(legacy), table.clusters, table.seed),
    )


def _legacy_score(table: _Test, legacy_weights: Mapping[str, float]) -> NDArray[np.float64] | None:
    if not legacy_weights:
        return None
    legacy = Scorer.from_linear(legacy_weights, table.data.feature_names)
    return legacy.score(table.aligned(legacy))


def _against(
    table: _Test,
    ndcg: NDArray[np.float64],
    rival: Rival,
    kind: Literal["champion", "best_recent"],
    min_queries: int,
) -> Comparison:
    """Compare on the rankings that the rival was not trained on."""
    missing = sorted(set(rival.scorer.features) - set(table.data.feature_names))
    if missing:
        reason = f"{rival.version} needs features that are gone: {', '.join(missing)}"
        return Comparison(version=rival.version, kind=kind, reason=reason)
    score = rival.scorer.score(table.aligned(rival.scorer))
    unseen = (table.times >= rival.seen_until).to_numpy()
    other = np.where(unseen, table.ndcg(score), np.nan)
    eligible = int((~np.isnan(other)).sum())
    if eligible < min(min_queries, int((~np.isnan(ndcg)).sum())):
        reason = (
            f"{rival.version} was trained up to {rival.seen_until:%Y-%m-%d}: {eligible} test rankings are new to it"
        )
        return Comparison(version=rival.version, kind=kind, reason=reason)
    return Comparison(
        version=rival.version,
        kind=kind,
        metrics=table.metrics(score),
        delta=quality.paired(ndcg, other, table.clusters, table.seed),
    )


def _slices(table: _Test, score: NDArray[np.float64], trained_on: pl.DataFrame) -> list[Slice]:
    data = table.data
    return quality.slices(
        data.relevance,
        score,
        data.group,
        table.clusters,
        table.seed,
        protected_group=data.ids[PROTECTED_GROUP],
        time=table.times,
        new_item=~data.ids[ITEM_ID].is_in(trained_on[ITEM_ID].unique().implode()).to_numpy(),
        expected_groups=_groups(trained_on),
    )


def _fairness(
    table: _Test, score: NDArray[np.float64], slices: list[Slice], trained_on: pl.DataFrame
) -> fairness.Fairness:
    data = table.data
    ndcg = {part.value: part.ndcg_at_5.value for part in slices if part.dimension == PROTECTED_GROUP}
    return fairness.measure(
        data.relevance,
        score,
        data.group,
        protected_group=data.ids[PROTECTED_GROUP],
        item=data.ids[ITEM_ID],
        clusters=table.clusters,
        seed=table.seed,
        ndcg_at_5=ndcg,
        expected_groups=_groups(trained_on),
    )


def _groups(trained_on: pl.DataFrame) -> tuple[str, ...]:
    """Protected groups that training knew; one that the test days lack is missing, not unconfigured."""
    return tuple(sorted(trained_on[PROTECTED_GROUP].drop_nulls().unique()))
