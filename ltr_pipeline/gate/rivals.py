"""Published versions that a challenger is compared with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from ltr_pipeline.errors import LtrError
from ltr_pipeline.gate.policy import RECENT_DAYS
from ltr_pipeline.scoring.scorer import Scorer
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
        The promoted version, and the best other one by its own nDCG@5 that was promoted in the `RECENT_DAYS` before and
        not rolled back from; None where there is none.
    """
    champion = registry.promoted()
    recent = _in_use(registry.history()) - {champion}
    scored = [
        (listed.ndcg_at_5, listed.version)
        for listed in registry.versions()
        if listed.version in recent
        and listed.ndcg_at_5 is not None
        and dt.timedelta() < moment - Version.parse(listed.version).time <= dt.timedelta(RECENT_DAYS)
    ]
    return champion, max(scored)[1] if scored else None


def _in_use(history: Iterable[Move]) -> set[str]:
    """Return the versions that `latest` moved to, without those rolled back from, which nobody wants to match."""
    found: set[str] = set()
    for move in history:
        if move.moved:
            found.add(move.to)
        if move.move == "rollback" and move.before != move.to:
            found.discard(move.before or "")
    return found


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
        seen_until=max(document.data.train.end, document.data.valid.end),
        importance=document.model.importance,
    )
