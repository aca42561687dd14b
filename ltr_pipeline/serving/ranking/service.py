"""Ranks requests: by the model where it can, else by a fallback, and never without an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from ltr_pipeline.errors import RequestError
from ltr_pipeline.scoring.calibration import MAX_ERROR, Calibration, probability
from ltr_pipeline.scoring.requests import Features
from ltr_pipeline.scoring.scorer import descending
from ltr_pipeline.serving import prometheus, wire
from ltr_pipeline.serving.eventlog.encode import AnsweredList, columns_of, new_request_id
from ltr_pipeline.serving.eventlog.recorder import Recorder
from ltr_pipeline.serving.logs import Facts
from ltr_pipeline.serving.ranking.comparison import REST, is_slow
from ltr_pipeline.serving.ranking.order import Interleaver, Mixed, chosen, explore, plain
from ltr_pipeline.serving.ranking.shadow import Served, Shadow
from ltr_pipeline.serving.settings import NONE, ServingSettings
from ltr_pipeline.serving.weights.models import Loaded, Models

__all__ = ["CERTAIN", "CrowdedError", "NoModelError", "Scored", "Service"]

STRONGEST: Final = 5
"""How many contributions come with an item."""

CERTAIN: Final = 4.0
"""A request is scored in the event loop when this many times its expected time is within the deadline."""

SCORING_THREADS: Final = 2

EXPLAINED_AT_ONCE: Final = 4
"""Explanations that are under way or wait, one after the other; more are refused, as each takes a core for long."""

FAULT: Final = "error"
"""The fallback that a model is blamed for; that it missed the deadline may be the list's or the machine's business."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class CrowdedError(Exception):
    """So many explanations are under way that another one is refused."""

    def __init__(self) -> None:
        super().__init__(f"{EXPLAINED_AT_ONCE} explanations are under way; ask again in a second")


class NoModelError(Exception):
    """Nothing can rank."""

    def __init__(self) -> None:
        super().__init__(
            "nothing ranks yet: no model is published, and the mapping has no legacy_weights; run a night first"
        )


class Scored(NamedTuple):
    """The scores of a request's candidates, and the model that gave them.

    Attributes
    ----------
    scores
        float64 (candidates,).
    model
        ``lightgbm``, ``linear``, ``request`` (its order stays) or ``legacy``.
    fallback
        Why the model did not score; None when it did.
    """

    scores: NDArray[np.float64]
    model: str
    fallback: str | None


class Service:
    """Ranks and explains requests; a process has one.

    Parameters
    ----------
    settings
        Limits and shares of traffic.
    models
        The models in use.
    recorder
        Logs every answer as an event.
    mixer
        Interleaves the order with another version's.
    shadow
        Scores answers a second time.
    """

    def __init__(
        self, settings: ServingSettings, models: Models, *, recorder: Recorder, mixer: Interleaver, shadow: Shadow
    ) -> None:
        self.settings = settings
        self.models = models
        self.recorder = recorder
        self.mixer = mixer
        self.shadow = shadow
        self._threads = ThreadPoolExecutor(SCORING_THREADS, thread_name_prefix="score")
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._explaining = 0

    def close(self) -> None:
        """Stop the threads without waiting; one that is still at work ends by itself."""
        for threads in (self._threads, self._explainer):
            threads.shutdown(wait=False, cancel_futures=True)

    async def rank(self, body: bytes, facts: Facts, *, shadow: bool = False) -> wire.RankAnswer:
        """Order the available candidates of a request.

        Parameters
        ----------
        facts
            Facts of the request, with its id; those that its log line needs are filled in.
        shadow
            Whether the shadow scores it, too, whatever the share of traffic.

        Raises
        ------
        RequestError
            The request cannot be read.
        CrowdedError
            It asks to be explained, and too many are.
        NoModelError
            No model is published, and there are no legacy weights.
        """
        model = self._ranker()
        try:
            return await self._rank(model, body, facts, shadow=shadow)
        except (RequestError, CrowdedError):
            raise
        except Exception:
            if model.traffic.due(time.monotonic()):
                model.traffic.now.add(failed=True)
            raise

    async def _rank(self, model: Loaded, body: bytes, facts: Facts, *, shadow: bool) -> wire.RankAnswer:
        # Read and score the candidates that are available.
        start = time.perf_counter()
        request = wire.decode(body, wire.RankRequest)
        wire.check_candidates(request.candidates, self.settings.max_candidates)
        candidates = [candidate for candidate in request.candidates if candidate.available]
        read = model.scorer.read(candidates)
        scored = await self._score(model, read.matrix)
        # Decide the shown order: that of the scores, explored or interleaved.
        facts.request_id = new_request_id(request.query_id, facts.request_id)
        mixed = self._mixed(candidates, model, scored, request.k, facts.request_id)
        strongest, explaining = None, time.perf_counter()
        if request.explain:  # hundreds of times as long as scoring: off the loop, which other requests wait for
            strongest = await self._explained(self._strongest, model, read, mixed.order, scored)
            start += time.perf_counter() - explaining  # explaining counts against no model
        stated = _stated(model, scored) if request.probability else None
        answer = wire.RankAnswer(
            request_id=facts.request_id,
            query_id=request.query_id,
            version=model.version,
            model=scored.model,
            fallback=scored.fallback,
            policy=mixed.policy,
            items=self._items(candidates, mixed.order, scored, strongest, stated),
            missing=_missing(model, read),
            unknown_features=read.unknown,
            uncalibrated=stated if isinstance(stated, str) else msgspec.UNSET,
        )
        # Log it and offer it to the shadow once the answer is on its way.
        loop = asyncio.get_running_loop()
        loop.call_soon(self.recorder.answered, self._answered_list(answer, request, candidates, mixed, model))
        if shadow or chosen(facts.request_id, self.settings.shadow_share, "shadow"):
            shown = len(mixed.order)
            loop.call_soon(self._offer, request, candidates, model, scored, facts.request_id, shown)
        # Count it: for Prometheus, for the guard, and for the log line.
        seconds = time.perf_counter() - start
        self._count(answer, seconds)
        if model.traffic.due(time.monotonic()):
            model.traffic.now.add(failed=answer.fallback == FAULT)
            loop.call_soon(self._compare, model, candidates)
        facts.version, facts.outcome = answer.version, _outcome(answer)
        facts.candidates, facts.k = len(request.candidates), len(answer.items)
        return answer

    def _compare(self, model: Loaded, candidates: Sequence[wire.RankCandidate]) -> None:
        """While a model is on trial, see whether the one before it would have scored the list faster."""
        former = self.models.former
        if former is None or model is not self.models.current or not candidates:
            return
        begin, settings = time.monotonic(), self.settings
        try:
            slow = is_slow(
                model,
                former,
                candidates,
                limit=settings.guard_p95_max_ms / 1000,
                deadline=settings.deadline_ms / 1000,
            )
        except Exception:  # a list that one of the two cannot score says nothing of their speed
            log.debug("the list was not compared", version=model.version, exc_info=True)
        else:
            model.traffic.now.compare(slow=slow)
        end = time.monotonic()
        model.traffic.rest(end + REST * (end - begin))

    def _answered_list(
        self,
        answer: wire.RankAnswer,
        request: wire.RankRequest,
        candidates: Sequence[wire.RankCandidate],
        mixed: Mixed,
        model: Loaded,
    ) -> AnsweredList:
        return AnsweredList(
            request_id=answer.request_id,
            event_id=answer.request_id,
            query_id=answer.query_id,
            user_id=request.user_id,
            seconds=time.time(),
            policy=mixed.policy,
            shadow=request.test,
            candidates=[candidates[row] for row in mixed.order],
            features=model.scorer.features,
            propensities=mixed.propensities,
            teams=mixed.teams,
            columns=columns_of(request),
        )

    async def explain(self, body: bytes) -> wire.Explanation:
        """Explain why one candidate stands above another.

        Raises
        ------
        RequestError
            The request cannot be read.
        CrowdedError
            Too many explanations are under way.
        NoModelError
            No model is published, and there are no legacy weights.
        """
        model = self._ranker()
        return await self._explained(self._explanation, wire.decode(body, wire.ExplainRequest), model)

    def _ranker(self) -> Loaded:
        model = self.models.current
        if model.kind == NONE:
            raise NoModelError
        return model

    async def _explained(self, explain: Callable[..., T], *about: object) -> T:
        """Explain in a thread of its own, one request at a time; CrowdedError when too many wait for it."""
        if self._explaining >= EXPLAINED_AT_ONCE:
            raise CrowdedError
        self._explaining += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._explainer, explain, *about)
        finally:
            self._explaining -= 1

    def _explanation(self, request: wire.ExplainRequest, model: Loaded) -> wire.Explanation:
        read = model.scorer.read([request.above, request.below])
        above, below = model.scorer.contributions(read.matrix)
        scores = model.scorer.score(read.matrix)
        return wire.Explanation(
            version=model.version,
            model=model.kind,
            above=request.above.item_id,
            below=request.below.item_id,
            difference=float(scores[0] - scores[1]),
            contributions=_by_strength((above - below)[:-1], model.scorer.features),
            missing=_missing(model, read),
            unknown_features=read.unknown,
        )

    async def _score(self, model: Loaded, matrix: NDArray[np.float32]) -> Scored:
        """Score within the deadline, by the fallback when the model fails or takes too long."""
        if model is self.models.legacy:
            return Scored(model.scorer.score(matrix), model.kind, "no_model")
        deadline = self.settings.deadline_ms / 1000
        try:
            if len(matrix) * model.seconds_a_row * CERTAIN < deadline:
                scores = model.scorer.score(matrix)
            else:
                loop = asyncio.get_running_loop()
                scores = await asyncio.wait_for(
                    loop.run_in_executor(self._threads, model.scorer.score, matrix), deadline
                )
        except TimeoutError:
            return _without_model(model, matrix, "deadline")
        except Exception:  # whatever a model does, there is an answer
            log.exception("scoring failed", version=model.version)
            return _without_model(model, matrix, FAULT)
        if not np.isfinite(scores).all():
            return _without_model(model, matrix, FAULT)
        return Scored(scores, model.kind, None)

    def _mixed(
        self, candidates: Sequence[wire.RankCandidate], model: Loaded, scored: Scored, k: int | None, request_id: str
    ) -> Mixed:
        """Decide the shown order; what stands in for a model is never mixed with another version."""
        order = descending(scored.scores)
        if scored.model != model.kind:
            return plain(order[:k], f"{model.version}+{scored.model}")
        if chosen(request_id, self.settings.explore_share, "explore"):
            return explore(order[:k], model.version)
        return self.mixer.mix(candidates, model, order, k, request_id)

    def _offer(
        self,
        request: wire.RankRequest,
        candidates: Sequence[wire.RankCandidate],
        model: Loaded,
        scored: Scored,
        request_id: str,
        shown: int,
    ) -> None:
        if candidates and scored.model == model.kind:
            self.shadow.offer(
                Served(
                    request_id=request_id,
                    query_id=request.query_id,
                    user_id=request.user_id,
                    candidates=candidates,
                    model=model,
                    scores=scored.scores,
                    k=shown,
                    columns=columns_of(request),
                )
            )

    def _items(
        self,
        candidates: Sequence[wire.RankCandidate],
        order: Sequence[int],
        scored: Scored,
        contributions: Sequence[dict[str, float]] | None,
        stated: Calibration | str | None,
    ) -> list[wire.RankedItem]:
        scores = scored.scores.tolist()
        probabilities = _probabilities(stated, scored.scores)
        return [
            wire.RankedItem(
                item_id=candidates[row].item_id,
                score=scores[row],
                rank=place + 1,
                contributions=contributions[place] if contributions else None,
                probability=probabilities[row],
            )
            for place, row in enumerate(order)
        ]

    def _strongest(self, model: Loaded, read: Features, order: Sequence[int], scored: Scored) -> list[dict[str, float]]:
        """Return the strongest contributions of the items in `order`, by the model that scored them."""
        scorer = model.scorer if scored.model == model.kind else model.linear
        if scorer is None:
            return [{}] * len(order)
        shown = scorer.contributions(read.matrix[list(order)])[:, :-1]
        return [dict(list(_by_strength(row, scorer.features).items())[:STRONGEST]) for row in shown]

    def _count(self, answer: wire.RankAnswer, seconds: float) -> None:
        prometheus.predictions(answer.version, _outcome(answer)).inc()
        prometheus.DURATION.observe(seconds)
        if answer.fallback:
            prometheus.FALLBACKS.labels(answer.fallback).inc()
        if answer.missing:
            prometheus.MISSING.inc(sum(missing.candidates for missing in answer.missing.values()))
        if answer.unknown_features:
            prometheus.UNKNOWN.inc()


def _without_model(model: Loaded, matrix: NDArray[np.float32], why: str) -> Scored:
    """Score by the linear weights, or all alike where these are no better than chance: then the order stays."""
    if model.linear is None:
        return Scored(np.zeros(len(matrix)), "request", why)
    return Scored(model.linear.score(matrix), "linear", why)


def _stated(model: Loaded, scored: Scored) -> Calibration | str:
    """Return what tells the probabilities of these scores, or why nothing does."""
    if scored.model != "lightgbm":
        return f"no published model scored: {scored.fallback}"
    if model.calibration is None:
        return f"{model.version} has no calibration"
    if not model.calibration.trusted:
        return f"the calibration of {model.version} has no error that is known and at most {MAX_ERROR}"
    return model.calibration


def _probabilities(
    stated: Calibration | str | None, scores: NDArray[np.float64]
) -> Sequence[float | msgspec.UnsetType | None]:
    """Return the probability of each score; null where none can be told, left out where none was asked for."""
    if isinstance(stated, Calibration):
        found: list[float] = probability(stated, scores).tolist()
        return found
    return [msgspec.UNSET if stated is None else None] * len(scores)


def _outcome(answer: wire.RankAnswer) -> str:
    return "fallback" if answer.fallback else "model"


def _by_strength(values: NDArray[np.float64], features: Sequence[str]) -> dict[str, float]:
    return {features[column]: float(values[column]) for column in np.argsort(-np.abs(values), kind="stable")}


def _missing(model: Loaded, read: Features) -> dict[str, wire.Missing]:
    """Return the features that candidates did not give, and how the model reads that."""
    gaps = np.isnan(read.matrix)
    if not gaps.any():
        return {}
    names = model.scorer.features
    return {
        names[column]: wire.Missing(candidates=int(count), read_as=model.missing[names[column]])
        for column, count in enumerate(gaps.sum(axis=0))
        if count
    }
