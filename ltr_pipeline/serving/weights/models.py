"""Loaded models: the one that ranks, the one before it, and the documents that must not be tried again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.scoring.resting import rest_if_due, resting
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving.guard import Traffic
from ltr_pipeline.serving.settings import LEGACY, NONE
from ltr_pipeline.serving.weights.workers import Refused
from ltr_pipeline.signing import Key
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.golden import check_golden
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.trial import end_trials, try_model
from ltr_pipeline.versions.weights import Weights

__all__ = ["Loaded", "Models", "legacy", "load"]

WARM_UP_CALLS: Final = 20


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that is ready to rank.

    Attributes
    ----------
    version, sha256
        Version and hash of the document; ``legacy`` or ``none`` and empty for what needs no document.
    kind
        ``lightgbm``, ``legacy``, or ``none``, which ranks nothing.
    created_at
        When the document was written.
    scorer
        The model itself.
    linear
        Linear weights that rank when `scorer` fails; they read the same features. None where they are no better than
        chance: then the request's order stays.
    missing
        How a missing value is read, by feature (`weights.Feature`).
    seconds_a_row
        Time that scoring took for each candidate, measured while warming up.
    sample
        Features of two candidates of a golden request, the better one first; None without a document.
    calibration
        From its scores to probabilities; None where its document has none.
    night
        When the nightly version was made that it is, or was refit from; None without a document.
    traffic
        Counts of the requests it answered.
    """

    version: str
    sha256: str
    kind: str
    created_at: datetime | None
    scorer: Scorer
    linear: Scorer | None
    missing: Mapping[str, str]
    seconds_a_row: float
    sample: tuple[Mapping[str, float | None], Mapping[str, float | None]] | None = None
    calibration: Calibration | None = None
    night: datetime | None = None
    traffic: Traffic = field(default_factory=Traffic)


def load(data: bytes, *, where: str, keys: Sequence[Key] = (), tried: bool = False) -> Loaded:
    """Load the model of a weights document, verify it whole and warm it up.

    Unless it was `tried` before, it is loaded in a child process first, which it may bring down.

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
        if not tried:
            try_model(document)
            end_trials()
        scorer = check_golden(document)
        seconds_a_row = _warm(scorer, document)
    return Loaded(
        version=document.version,
        sha256=hashlib.sha256(data).hexdigest(),
        kind="lightgbm",
        created_at=document.created_at,
        scorer=scorer,
        linear=_linear(document),
        missing={feature.name: feature.missing for feature in document.features},
        seconds_a_row=seconds_a_row,
        sample=_sample(document),
        calibration=document.calibration or None,
        night=Version.parse(document.parent).time if document.parent else document.created_at,
    )


def _linear(document: Weights) -> Scorer | None:
    """Return the fallback of a document, where it beats random order; a former release did not measure it."""
    if not document.linear:
        return Scorer.from_linear(document.linear_weights, document.feature_names)
    return Scorer.from_standardised(document.linear, document.feature_names) if document.linear.beats_random else None


def legacy(linear: Mapping[str, float]) -> Loaded:
    """Make the linear ranker that needs no document; without weights it stands for there being none."""
    scorer = Scorer.from_linear(linear, tuple(linear))
    name = LEGACY if linear else NONE
    return Loaded(
        version=name,
        sha256="",
        kind=name,
        created_at=None,
        scorer=scorer,
        linear=scorer,
        missing=dict.fromkeys(linear, "as zero"),
        seconds_a_row=0.0,
    )


def _sample(document: Weights) -> tuple[Mapping[str, float | None], Mapping[str, float | None]]:
    """Return the best and the worst candidate of a golden request; what one lacks is another candidate's."""
    values: dict[str, float | None] = {}
    for golden in document.golden:
        for item in golden.items:
            values |= {name: value for name, value in item.items() if values.get(name) is None}
    first = document.golden[0]
    order = sorted(range(len(first.items)), key=first.scores.__getitem__)
    best, worst = first.items[order[-1]], first.items[order[0]]
    return _filled(best, values), _filled(worst, values)


def _filled(item: Mapping[str, float | None], values: Mapping[str, float | None]) -> Mapping[str, float | None]:
    return {name: value if item.get(name) is None else item[name] for name, value in values.items()}


def _warm(scorer: Scorer, document: Weights) -> float:
    """Score the golden requests until caches are warm, and return the best time per candidate, in seconds."""
    candidates = [Candidate.of("", item) for golden in document.golden for item in golden.items]
    best = float("inf")
    for _ in range(WARM_UP_CALLS):
        rest_if_due()
        start = time.perf_counter()
        scorer.score(scorer.read(candidates).matrix)
        best = min(best, time.perf_counter() - start)
    return best / len(candidates)


class Models:
    """The model in use, and the one before it. Each request reads `current` once, so that no answer mixes two models.

    Parameters
    ----------
    legacy
        Ranks until there is a document.

    Attributes
    ----------
    current
        The model that ranks now.
    former
        The model to go back to while `current` is on trial: the last one that was not on trial; None without one.
    refused
        Documents, by sha256, that did not load or that the service stepped back from.
    """

    def __init__(self, legacy: Loaded) -> None:
        self.legacy = legacy
        self.current = legacy
        self.former: Loaded | None = None
        self.refused: dict[str, Refused] = {}
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Return whether a published document is in use."""
        return self.current is not self.legacy

    def take(self, new: Loaded) -> Loaded:
        """Rank with `new` from the next request on, and return the model that ranked until now.

        Requests under way end with the model they began with. `new` is on trial, unless it is older than the model to
        go back to, which means a rollback, or is the first model and came before any request.
        """
        with self._lock:
            old, self.current = self.current, new
            trusted = self.former or old
            asked = trusted is not self.legacy or trusted.traffic.recent.answers.total
            self.former = trusted if asked and _is_newer(new, trusted) else None
            return old

    def settle(self) -> None:
        """End the trial of `current`: from now on there is no way back, and the model before it is let go."""
        with self._lock:
            self.former = None

    def refuse(self, bad: Mapping[str, Refused]) -> None:
        """Note, by sha256, documents that must not be tried again."""
        with self._lock:
            self.refused = {**self.refused, **bad}

    def forgive(self) -> None:
        """Give refused documents another chance."""
        with self._lock:
            self.refused = {}

    def step_back(self, bad: Loaded) -> bool:
        """Go back to the former model if `bad` is in use and on trial, and return whether that was so."""
        with self._lock:
            if self.current is not bad or self.former is None:
                return False
            self.current, self.former = self.former, None
            return True


def _is_newer(new: Loaded, old: Loaded) -> bool:
    return old.created_at is None or new.created_at is None or new.created_at > old.created_at
