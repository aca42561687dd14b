"""Loaded models: the one that ranks, the one before it, and those that must not come back."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.scoring.resting import rest_if_due, resting
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving.guard import Traffic
from ltr_pipeline.serving.settings import LEGACY
from ltr_pipeline.serving.weights.workers import Refused
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.golden import check_golden
from ltr_pipeline.versions.weights import Weights

__all__ = ["Loaded", "Models", "legacy", "load"]

WARM_UP_CALLS: Final = 20


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that is ready to rank.

    Attributes
    ----------
    version, sha256
        Of the document; ``legacy`` and empty for the linear ranker before there was one.
    kind
        ``lightgbm`` or ``legacy``.
    created_at
        Of the document.
    scorer
        What ranks.
    linear
        What ranks when `scorer` fails; it reads the same features.
    missing
        What a missing value means, by feature (`weights.Feature`).
    seconds_a_row
        Time that scoring took for each candidate, measured while warming up.
    traffic
        What became of the requests it answered.
    """

    version: str
    sha256: str
    kind: str
    created_at: datetime | None
    scorer: Scorer
    linear: Scorer
    missing: Mapping[str, str]
    seconds_a_row: float
    traffic: Traffic = field(default_factory=Traffic)


def load(data: bytes, *, where: str, keys: Sequence[bytes] = ()) -> Loaded:
    """Model of a weights document, verified whole and warm.

    Raises
    ------
    WeightsError
        The document was altered, is not signed by one of the `keys`, contradicts itself, or does not score here as it
        did where it was trained.
    RankerError
        The model cannot be loaded.
    """
    with resting():
        document = weights.decode(data, where=where, keys=keys)
        scorer = check_golden(document)
        seconds_a_row = _warm(scorer, document)
    return Loaded(
        version=document.version,
        sha256=hashlib.sha256(data).hexdigest(),
        kind="lightgbm",
        created_at=document.created_at,
        scorer=scorer,
        linear=Scorer.from_linear(document.linear_weights, document.feature_names),
        missing={feature.name: feature.missing for feature in document.features},
        seconds_a_row=seconds_a_row,
    )


def legacy(linear: Mapping[str, float]) -> Loaded:
    """The linear ranker that needs no document."""
    scorer = Scorer.from_linear(linear, tuple(linear))
    return Loaded(
        version=LEGACY,
        sha256="",
        kind=LEGACY,
        created_at=None,
        scorer=scorer,
        linear=scorer,
        missing=dict.fromkeys(linear, "as zero"),
        seconds_a_row=0.0,
    )


def _warm(scorer: Scorer, document: Weights) -> float:
    """Score the golden requests until caches are warm; the best time a candidate took, in seconds."""
    candidates = [Candidate.of("", item) for golden in document.golden for item in golden.items]
    best = float("inf")
    for _ in range(WARM_UP_CALLS):
        rest_if_due()
        start = time.perf_counter()
        scorer.score(scorer.read(candidates).matrix)
        best = min(best, time.perf_counter() - start)
    return best / len(candidates)


class Models:
    """The model in use. `current` is read once a request, so that no answer mixes two.

    Parameters
    ----------
    legacy
        What ranks until a document is there.

    Attributes
    ----------
    current
        What ranks now.
    former
        The model to go back to while `current` is on trial: the last one that was not; None when there is none.
    refused
        Documents by sha256 that did not load or were stepped back from.
    """

    def __init__(self, legacy: Loaded) -> None:
        self.legacy = legacy
        self.current = legacy
        self.former: Loaded | None = None
        self.refused: dict[str, Refused] = {}
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether a document is in use."""
        return self.current is not self.legacy

    def take(self, new: Loaded) -> Loaded:
        """Rank with `new` from the next request on; requests under way end with what they began with.

        What ranked until now is given back. Weights that are older than those to go back to are a rollback: they are
        not on trial, and neither is what comes first, before anything was asked.
        """
        with self._lock:
            old, self.current = self.current, new
            trusted = self.former or old
            asked = trusted is not self.legacy or trusted.traffic.recent.requests
            self.former = trusted if asked and _is_newer(new, trusted) else None
            return old

    def settle(self) -> None:
        """End the trial of `current`: there is no way back from it, and what was before it is let go."""
        with self._lock:
            self.former = None

    def refuse(self, bad: Mapping[str, Refused]) -> None:
        """Never try these documents again, by sha256."""
        with self._lock:
            self.refused = {**self.refused, **bad}

    def forgive(self) -> None:
        """Give what was refused another chance."""
        with self._lock:
            self.refused = {}

    def step_back(self, bad: Loaded) -> bool:
        """When `bad` is in use and on trial, rank with what was used before it; whether that was so."""
        with self._lock:
            if self.current is not bad or self.former is None:
                return False
            self.current, self.former = self.former, None
            return True


def _is_newer(new: Loaded, old: Loaded) -> bool:
    return old.created_at is None or new.created_at is None or new.created_at > old.created_at
