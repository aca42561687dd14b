"""Published versions that a challenger is compared with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import structlog

from ltr_pipeline.errors import LtrError, UnknownVersionError, WeightsError
from ltr_pipeline.gate.policy import RECENT_DAYS
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.versions.documents import stored_ids
from ltr_pipeline.versions.golden import check_golden
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.trial import try_model

__all__ = ["Rival", "Rivals", "load_rival", "rivals"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rival:
    """A published version that the challenger is compared with.

    Attributes
    ----------
    version
        Its id.
    scorer
        Its model, loaded.
    seen_until
        End of the days it was trained and validated on; only later rankings compare fairly.
    importance
        Share of its gain by feature.
    """

    version: str
    scorer: Scorer
    seen_until: dt.datetime
    importance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rivals:
    """All that the challenger is compared with.

    Attributes
    ----------
    champion, best_recent
        Published versions, if there are any.
    legacy_weights
        Hand-set weights by feature, which take the place of a missing champion; empty = none.
    """

    champion: Rival | None = None
    best_recent: Rival | None = None
    legacy_weights: Mapping[str, float] = field(default_factory=dict)


def rivals(registry: Registry, moment: dt.datetime) -> tuple[str | None, str | None]:
    """Find the versions that a run at `moment` is compared with.

    Returns
    -------
    champion, best_recent
        The promoted version, or the parent of a refresh that is promoted, and the best other one by its own nDCG@5 that
        was promoted in the `RECENT_DAYS` before and not rolled back from; None where there is none. Neither is a
        refresh.
    """
    ledger = registry.ledger
    head = ledger.head()
    if head is None:
        return None, None
    champion = ledger.nightly(head)
    recent = {
        version
        for version in stored_ids(registry.storage.keys(""))
        if dt.timedelta() < moment - Version.parse(version).time <= dt.timedelta(RECENT_DAYS)
    }
    wanted = _in_use(ledger.backwards(head, anew=False), recent) - {champion}
    scored = [(ndcg, version) for version in wanted if (ndcg := _ndcg(registry, version)) is not None]
    return champion, max(scored)[1] if scored else None


def _in_use(moves: Iterable[Move], versions: Set[str]) -> set[str]:
    """Return which of `versions` `latest` moved to, without refreshes, and those rolled back from: nobody wants these.

    Parameters
    ----------
    moves
        The ledger, newest entry first; it is read no further than to the publish of the oldest of `versions`.
    """
    unseen, used = set(versions), dict[str, bool]()
    for move in moves:
        if not unseen:
            break
        if move.move == "rollback" and move.before and move.moved:
            used.setdefault(move.before, False)
        if move.moved:
            used.setdefault(move.to, move.parent is None)
        used |= {version: False for version in move.pruned if version not in used}
        if move.move == "publish":
            unseen.discard(move.version)
    return {version for version in versions if used.get(version)}


def _ndcg(registry: Registry, version: str) -> float | None:
    """Return the nDCG@5 that a version was published with; None of one that cannot be read."""
    try:
        return registry.documents.stored(version).weights.ndcg_at_5
    except (WeightsError, UnknownVersionError) as error:
        log.warning("version cannot be compared with", version=version, error=str(error))
        return None


def load_rival(registry: Registry, version: str | None) -> Rival | None:
    """Load a version as a rival; one that does not load or score as recorded is none, and the log says so."""
    if version is None:
        return None
    try:
        document = registry.documents.stored(version).weights
        try_model(document)
        scorer = check_golden(document)
    except LtrError as error:
        log.warning("rival cannot be compared", version=version, error=str(error))
        return None
    return Rival(
        version=version,
        scorer=scorer,
        seen_until=document.data.seen_until,
        importance=document.model.importance,
    )
