"""Everything the gate looks at, measured on the test days: the challenger, its rivals, the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.rivals import Rival, Rivals
from ltr_pipeline.metrics import fairness, quality, slices
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Delta, Estimate, Metrics
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.metrics.resampling import cluster_codes
from ltr_pipeline.metrics.slices import Slice
from ltr_pipeline.schema import ITEM_ID, PROTECTED_GROUP, TIME, USER_ID
from ltr_pipeline.scoring import latency
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer

__all__ = ["TRAINED_ON", "HeldOut", "gather", "requests", "without_model"]

log = structlog.get_logger(__name__)

TRAINED_ON = (ITEM_ID, PROTECTED_GROUP)
"""Columns that `HeldOut` needs of the training rows."""

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
    """

    test: Dataset
    manifest: DatasetManifest
    trained_on: pl.DataFrame
    seed: int


class _Trial:
    """The test rankings in the challenger's order, and all that a comparison with another order shares."""

    def __init__(self, days: HeldOut, challenger: Scorer) -> None:
        self.data, self.seed = days.test, days.seed
        self.fewest = days.manifest.windows.min_queries
        first = starts(self.data.group)
        self.times = self.data.ids[TIME].gather(first)
        self.clusters = cluster_codes(self.data.ids[USER_ID].gather(first))
        self.rankings = self.scored(challenger)
        self.ndcg = quality.ndcg(self.rankings)
        self.eligible = int((~np.isnan(self.ndcg)).sum())

    def ordered(self, score: NDArray[np.float64]) -> Rankings:
        return Rankings(self.data.relevance, score, self.data.group)

    def scored(self, scorer: Scorer) -> Rankings:
        """Order by a scorer, which gets the features in its own order; KeyError names a feature that is gone."""
        column = {name: index for index, name in enumerate(self.data.feature_names)}
        return self.ordered(scorer.score(self.data.features[:, [column[name] for name in scorer.features]]))

    def metrics(self, rankings: Rankings) -> Metrics:
        return quality.measure(rankings, self.clusters, self.seed)

    def lead(self, ndcg: NDArray[np.float64]) -> Delta | None:
        """Compare the challenger with another ranker by the nDCG@5 of each ranking."""
        return quality.paired(self.ndcg, ndcg, self.clusters, self.seed)


def gather(days: HeldOut, challenger: Scorer, rivals: Rivals, landed: Landed | None) -> Evidence:
    """Measure the challenger and everything it is compared with.

    A rival that was trained on part of the test days is compared on the rest, if that has as many rankings as the test
    part was asked to have (`Windows.min_queries`), or all there are.

    Parameters
    ----------
    landed
        What arrived for this run; None for a backfill.
    """
    trial = _Trial(days, challenger)
    groups = _groups(days)
    orders = _baselines(trial, rivals.legacy_weights)
    baselines = {name: trial.metrics(order) for name, order in orders.items()}
    parts = _slices(trial, groups, days.trained_on)
    return Evidence(
        trees=challenger.trees,
        train_impressions=days.manifest.train.rows,
        test_queries=trial.eligible,
        metrics=trial.metrics(trial.rankings),
        baselines=baselines,
        against_random=trial.lead(quality.ndcg(orders["random"])),
        champion=_against_champion(trial, rivals.champion, orders.get("legacy_linear"), baselines),
        best_recent=_against(trial, rivals.best_recent, "best_recent") if rivals.best_recent else None,
        slices=parts,
        fairness=_fairness(trial, groups, parts),
        latency=_latency(days.test, challenger),
        landed=landed,
    )


def without_model(why: str, manifest: DatasetManifest, landed: Landed | None) -> Evidence:
    """Tell what is known of a night on which there was nothing to learn from."""
    none = Estimate(value=None, low=None, high=None, n=0)
    return Evidence(
        trees=0,
        untrained=why,
        train_impressions=manifest.train.rows,
        test_queries=manifest.test.eligible,
        metrics=Metrics(ndcg_at_5=none, linear_ndcg_at_5=none, mrr=none, hit_at_3=none),
        against_random=None,
        champion=Comparison(version=None, kind="none", reason=NO_MODEL),
        fairness=fairness.Fairness(configured=False, evaluable=False, reason=NO_MODEL),
        latency=None,
        landed=landed,
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


def _baselines(trial: _Trial, legacy_weights: Mapping[str, float]) -> dict[str, Rankings]:
    """Measure the orders that need no learning, as far as there are any: random, as shown, by the legacy weights."""
    data = trial.data
    orders = {"random": trial.ordered(np.zeros(len(data.relevance)))}  # all tied: the expectation at random
    if data.position is not None:
        orders["logged_order"] = trial.ordered(-data.position.astype(np.float64))
    if legacy_weights:
        orders["legacy_linear"] = trial.scored(Scorer.from_linear(legacy_weights, data.feature_names))
    return orders


def _against_champion(
    trial: _Trial, champion: Rival | None, legacy: Rankings | None, baselines: Mapping[str, Metrics]
) -> Comparison:
    """Compare with the champion; while there is none, with the legacy weights."""
    if champion is not None:
        return _against(trial, champion, "champion")
    if legacy is None:
        return Comparison(version=None, kind="none", reason="nothing is published yet and no legacy weights are set")
    return Comparison(
        version=None,
        kind="legacy_linear",
        metrics=baselines["legacy_linear"],
        delta=trial.lead(quality.ndcg(legacy)),
    )


def _against(trial: _Trial, rival: Rival, kind: Literal["champion", "best_recent"]) -> Comparison:
    """Compare on the rankings that the rival was not trained on."""
    version = rival.version
    if missing := sorted(set(rival.scorer.features) - set(trial.data.feature_names)):
        reason = f"{version} needs features that are gone: {', '.join(missing)}"
        return Comparison(version=version, kind=kind, reason=reason)
    order = trial.scored(rival.scorer)
    unseen = (trial.times >= rival.seen_until).to_numpy()
    ndcg = np.where(unseen, quality.ndcg(order), np.nan)
    eligible = int((~np.isnan(ndcg)).sum())
    if eligible < min(trial.fewest, trial.eligible):
        reason = f"{version} was trained up to {rival.seen_until:%Y-%m-%d}: {eligible} test rankings are new to it"
        return Comparison(version=version, kind=kind, reason=reason)
    return Comparison(version=version, kind=kind, metrics=trial.metrics(order), delta=trial.lead(ndcg))


def _groups(days: HeldOut) -> ProtectedGroups:
    """Return the protected groups; one that training knew and the test days lack is missing, not unconfigured."""
    ids = days.test.ids
    expected = days.trained_on[PROTECTED_GROUP].drop_nulls().unique().to_list()
    return ProtectedGroups(ids[PROTECTED_GROUP], item=ids[ITEM_ID], expected=expected)


def _slices(trial: _Trial, groups: ProtectedGroups, trained_on: pl.DataFrame) -> list[Slice]:
    new_item = ~trial.data.ids[ITEM_ID].is_in(trained_on[ITEM_ID].unique().implode()).to_numpy()
    parts = (
        slices.by_group(groups)
        | slices.by_day_part(trial.rankings, trial.times)
        | slices.by_novelty(trial.rankings, new_item)
    )
    return slices.measure(trial.rankings, parts, trial.clusters, trial.seed)


def _fairness(trial: _Trial, groups: ProtectedGroups, parts: list[Slice]) -> fairness.Fairness:
    ndcg = {part.value: part.ndcg_at_5.value for part in parts if part.dimension == PROTECTED_GROUP}
    return fairness.measure(trial.rankings, groups, trial.clusters, trial.seed, ndcg_at_5=ndcg)
