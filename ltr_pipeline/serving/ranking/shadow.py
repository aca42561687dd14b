"""A second version that scores requests beside the served one, off their path; answers never change by it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from uuid import uuid4

import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import RequestError
from ltr_pipeline.scoring.scorer import descending
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.eventlog.encode import AnsweredList
from ltr_pipeline.serving.ranking.agreement import Agreement, agreement
from ltr_pipeline.serving.weights.models import Loaded
from ltr_pipeline.serving.weights.variants import Variants
from ltr_pipeline.serving.wire import RankCandidate

__all__ = ["Served", "Shadow", "ShadowRanking"]

WAITING: Final = 64
"""Answers that may wait to be compared; with 1,000 candidates each they take some tens of MB."""

STOP_SECONDS: Final = 5.0
SHADOW_SUFFIX: Final = "~shadow"

log = structlog.get_logger(__name__)


class Served(NamedTuple):
    """A request and its scores by the served model, float64 (candidates,); `k` items were returned.

    `columns` is as in `AnsweredList`.
    """

    request_id: str
    query_id: str
    user_id: str | None
    candidates: Sequence[RankCandidate]
    model: Loaded
    scores: NDArray[np.float64]
    k: int
    columns: dict[str, Any]


class ShadowRanking(NamedTuple):
    """The order that the shadow would have shown; its events are marked ``shadow``, so that it never trains a model.

    Attributes
    ----------
    version
        Version of the shadow.
    order
        Rows of the candidates, best first, as many as were returned.
    agreement
        How its scores agree with the served ones.
    seconds
        Time that the shadow took.
    """

    served: Served
    version: str
    order: Sequence[int]
    agreement: Agreement
    seconds: float

    def answered_list(self) -> AnsweredList:
        """Return the order as a list of its own for the event log, marked so that it never trains a model."""
        served = self.served
        return AnsweredList(
            request_id=f"{served.request_id}{SHADOW_SUFFIX}",
            event_id=uuid4().hex,
            query_id=served.query_id,
            user_id=served.user_id,
            seconds=time.time(),
            policy=self.version,
            shadow=True,
            candidates=[served.candidates[row] for row in self.order],
            features=served.model.scorer.features,
            columns=served.columns,
        )


class Shadow:
    """Scores answers a second time, in a thread of its own; when it cannot keep up, answers are skipped and counted.

    Parameters
    ----------
    variants, name
        The variants that have the second model, and its name there.
    record
        Takes the shadow's orders.
    """

    def __init__(self, variants: Variants, name: str, record: Callable[[ShadowRanking], None]) -> None:
        self._variants = variants
        self._name = name
        self._record = record
        self._waiting: queue.Queue[Served | None] = queue.Queue(WAITING)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start to compare, if there is a version to compare with."""
        if self._name:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread; answers that wait are not compared."""
        self._stopped.set()
        if self._thread.is_alive():
            with suppress(queue.Full):  # then the thread is awake
                self._waiting.put_nowait(None)
            self._thread.join(STOP_SECONDS)

    def offer(self, answered: Served) -> None:
        """Queue an answer to be compared, if there is room; it never waits."""
        if not self._name:
            return
        try:
            self._waiting.put_nowait(answered)
        except queue.Full:
            prometheus.SHADOWS.labels("skipped").inc()

    def _run(self) -> None:
        while (answered := self._waiting.get()) is not None and not self._stopped.is_set():
            try:
                outcome = self._compare(answered)
            except RequestError as error:  # the served model has no such feature
                outcome = "failed"
                log.info("a list is not one for the shadow", request_id=answered.request_id, error=str(error))
            except Exception:  # whatever a second model does, the next answer is compared
                outcome = "failed"
                log.warning("scoring by the shadow failed", request_id=answered.request_id, exc_info=True)
            prometheus.SHADOWS.labels(outcome).inc()

    def _compare(self, answered: Served) -> str:
        model = self._variants.get(self._name)
        if model is None:
            return "not_loaded"
        if model.version == answered.model.version:
            return "same"
        start = time.perf_counter()
        scores = model.scorer.score(model.scorer.read(answered.candidates).matrix)
        seconds = time.perf_counter() - start
        found = agreement(answered.scores, scores)
        _count(model.version, found, seconds)
        order = descending(scores)[: answered.k]
        self._record(ShadowRanking(answered, model.version, order, found, seconds))
        return "compared"


def _count(version: str, found: Agreement, seconds: float) -> None:
    prometheus.SHADOW_OVERLAP.labels(version).observe(found.overlap)
    prometheus.SHADOW_DURATION.labels(version).observe(seconds)
    if found.correlation is not None:
        prometheus.SHADOW_CORRELATION.labels(version).observe(found.correlation)
    if found.shift is not None:
        prometheus.SHADOW_SHIFT.labels(version).observe(found.shift)
