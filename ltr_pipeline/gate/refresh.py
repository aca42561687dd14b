"""The evidence on an hourly refresh: the whole gate's on the night's test days, and its parent on fresh rankings.

The test days are those of the newest night: neither the refresh nor its parent learned from them, and what came of them
is known to its end. They lie days back, though, and a refresh is made for what changed since. So it is also compared
with its parent on the fresh rankings, by cross-fitting: each is scored by a refresh that was made without its query.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ltr_pipeline.dataset.load import Dataset, thinned
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.errors import NothingToLearnError
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate import measure
from ltr_pipeline.gate.evidence import Evidence, Refreshed
from ltr_pipeline.gate.rivals import Rivals
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.quality import Delta
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.ranker.data import Rows, folds, preferences, rankings
from ltr_pipeline.ranker.refresh import MOST_ROWS
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.schema import QUERY_ID
from ltr_pipeline.scoring.scorer import Scorer

__all__ = ["against_parent", "audited", "contest", "gather", "refreshed"]

FOLDS: Final = 5
MANY: Final = 2000
"""Rankings with a preference from which on two folds do: half of them teach nearly what all do, and sooner."""


def against_parent(parent: Scorer, fresh: Dataset, again: Callable[[Rows], str]) -> Delta | None:
    """Compare a refresh with its parent on the rankings that it was made from; None with too few users.

    Parameters
    ----------
    fresh
        With queries and users.
    again
        Makes a refresh of some of the rankings, by the same recipe; its text.
    """
    first, count = starts(fresh.group), 2 if preferences(fresh) >= MANY else FOLDS
    fold = folds(fresh.ids[QUERY_ID].gather(first).to_list(), count)
    crossed = np.full(len(fold), np.nan)
    for number in range(count):
        out = fold == number
        try:
            scorer = Scorer.from_model(again(rankings(fresh, ~out)), fresh.feature_names)
        except NothingToLearnError:
            continue
        crossed[out] = _ndcg(scorer, rankings(fresh, out))
    clusters, _ = measure.owners(fresh.ids[first])
    return quality.paired(crossed, _ndcg(parent, fresh), clusters)


def _ndcg(scorer: Scorer, data: Dataset | Rows) -> NDArray[np.float64]:
    return quality.ndcg(Rankings(data.relevance, scorer.score(data.features), data.group))


def refreshed(
    parent: str,
    scorer: Scorer,
    fresh: Dataset,
    again: Callable[[Rows], str],
    *,
    mode: Literal["refit", "full"],
    positive: int,
    debiased: bool,
) -> Refreshed:
    """Measure a refresh beside its parent.

    Parameters
    ----------
    parent, scorer
        Version of the parent, and its model.
    fresh, again
        As `against_parent` takes them.
    positive
        Least relevance of a positive answer.
    debiased
        Whether position bias was taken out.
    """
    return Refreshed(
        parent=parent,
        mode=mode,
        positives=int(np.count_nonzero(fresh.relevance >= positive)),
        delta=against_parent(scorer, fresh, again),
        debiased=debiased,
    )


def contest(days: measure.HeldOut, challenger: Scorer, rivals: Rivals) -> measure.Contest:
    """Put a refresh on a night's test days, or every n-th of their rankings where there are many.

    Those that are left rule out far smaller losses than the gate asks about, and an hour has not the time of a night.
    """
    return measure.Contest(dataclasses.replace(days, test=thinned(days.test, MOST_ROWS)), challenger, rivals)


def gather(
    contest: measure.Contest,
    landed: Landed | None,
    trained: Trained,
    fresh: DatasetManifest,
    beside: Refreshed,
    audit: Sequence[FeatureAudit] = (),
) -> Evidence:
    """Measure a refresh as a night's model, on the night's test days, beside its parent on the fresh rankings.

    Parameters
    ----------
    landed
        What arrived in the 24 hours before.
    trained
        How the refresh was made.
    fresh
        The rankings that it was made from.
    beside
        The refresh and its parent on these.
    audit
        What the night found of each feature (`audited`).
    """
    found = measure.gather(contest, landed, audit, trained.linear, trained.calibration)
    learned = fresh.train.rows + (found.train_impressions if beside.mode == "full" else 0)
    return replace(
        found,
        train_impressions=learned,
        joinable=fresh.joinable,
        unjoined=sum(fresh.unjoined.values()),
        refreshed=beside,
    )


def audited(audit: Sequence[FeatureAudit], now: Mapping[str, float], parent: Mapping[str, float]) -> list[FeatureAudit]:
    """Return what a night found of its features, with their shares of the gain of a refresh and of its parent."""
    return [replace(one, gain=now.get(one.name, 0.0), was=parent.get(one.name, 0.0)) for one in audit]
