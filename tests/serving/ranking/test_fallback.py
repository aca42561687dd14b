"""Without a usable model there is still an answer, and it says so."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.eventlog.recorder import Recorder
from ltr_pipeline.serving.logs import Facts
from ltr_pipeline.serving.ranking.order import Interleaver
from ltr_pipeline.serving.ranking.service import Service
from ltr_pipeline.serving.ranking.shadow import Shadow
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.serving.weights.models import Models, legacy, load
from ltr_pipeline.serving.weights.variants import Variants
from ltr_pipeline.serving.wire import RankAnswer
from ltr_pipeline.settings import load as load_settings
from ltr_pipeline.versions.weights import encode
from support.documents import document
from support.service import Server

A = "20250714_0215"
LEGACY = load_mapping().legacy_weights
BODY = {
    "query_id": "case-1",
    "candidates": [
        {"item_id": "low", "features": {"A": 0.1, "S": 0.9}},
        {"item_id": "high", "features": {"A": 0.9, "S": None}},
    ],
}


@pytest.fixture
def models() -> Models:
    found = Models(legacy(LEGACY))
    found.take(load(encode(document(A)), where="here"))
    return found


@pytest.fixture
def service(models: Models) -> Iterator[Service]:
    settings = load_settings(ServingSettings, deadline_ms=20)
    variants = Variants([], settings.registry, models)
    service = Service(
        settings,
        models,
        mixer=Interleaver(variants, "", 0, 0),
        shadow=Shadow(variants, "", lambda _ranking: None),
        recorder=Recorder(settings),
    )
    yield service
    service.close()


def asked(service: Service, **more: Any) -> RankAnswer:
    facts = Facts(timestamp=datetime.now(UTC), event="request", request_id="r", method="POST", path="/ltr/rank")
    answer = asyncio.run(service.rank(json.dumps(BODY | more).encode(), facts))
    assert facts.outcome == ("fallback" if answer.fallback else "model")
    return answer


def broken(models: Models, model: Any, seconds: float = 0.0) -> None:
    """Give the model in use another way to score."""
    current = models.current
    object.__setattr__(current, "scorer", Scorer(current.scorer.features, 1, model, model))
    object.__setattr__(current, "seconds_a_row", seconds)


def fallbacks(reason: str) -> float:
    return prometheus.FALLBACKS.labels(reason)._value.get()


def expected(answer: RankAnswer, reason: str) -> None:
    """Linear weights A 0.75 and S 0.25 of the document, a missing value as 0."""
    assert (answer.version, answer.model, answer.fallback, answer.policy) == (A, "linear", reason, f"{A}+linear")
    assert [(item.item_id, pytest.approx(item.score)) for item in answer.items] == [("high", 0.675), ("low", 0.3)]


def test_an_error_in_scoring(service: Service, models: Models) -> None:
    def fails(_matrix: object) -> object:
        raise RuntimeError("a tree is missing")

    before = fallbacks("error")
    broken(models, fails)
    expected(asked(service), "error")
    assert fallbacks("error") - before == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers(service: Service, models: Models, value: float) -> None:
    broken(models, lambda matrix: np.full(len(matrix), value))
    expected(asked(service), "error")


def test_over_the_deadline(service: Service, models: Models) -> None:
    late = threading.Event()

    def waits(matrix: np.ndarray) -> np.ndarray:
        late.wait(10)
        return np.zeros(len(matrix))

    before = fallbacks("deadline")
    broken(models, waits, seconds=1.0)
    try:
        expected(asked(service), "deadline")
        expected(asked(service), "deadline")
        expected(asked(service), "deadline")  # with both threads taken, too
    finally:
        late.set()
    assert fallbacks("deadline") - before == 3


def test_contributions_are_those_of_what_scored(service: Service, models: Models) -> None:
    def fails(_matrix: object) -> object:
        raise RuntimeError

    broken(models, fails)
    high, low = asked(service, explain=True).items
    assert high.contributions == {"A": pytest.approx(0.675), "S": 0.0}
    assert low.contributions == {"S": pytest.approx(0.225), "A": pytest.approx(0.075)}


def test_an_explanation_is_not_held_against_the_model(service: Service, models: Models) -> None:
    def slowly(matrix: Any) -> Any:
        time.sleep(2 * service.settings.guard_p95_max_ms / 1000)
        return scorer.contributions(matrix)

    scorer = models.current.scorer
    slow = Scorer(scorer.features, 1, scorer.score, slowly)
    object.__setattr__(models.current, "scorer", slow)
    assert asked(service, explain=True).items[0].contributions
    counts = models.current.traffic.now
    assert (counts.requests, counts.failed, counts.slow) == (1, 0, 0)


def test_before_there_is_a_model_the_old_systems_weights_rank(tmp_path: Path) -> None:
    assert LEGACY == {"A": 0.40, "S": 0.10, "T": 0.20, "G": 0.05, "Q": 0.15, "U": 0.05, "R": 0.05}
    with Server(tmp_path) as server:
        answer = server.post("/ltr/rank", BODY)
        assert (answer["version"], answer["model"], answer["fallback"]) == ("legacy", "legacy", "no_model")
        assert [(item["item_id"], pytest.approx(item["score"])) for item in answer["items"]] == [
            ("high", 0.36),
            ("low", 0.13),
        ]
        assert server.metric('ltr_fallback_total{reason="no_model"}') == 1
        assert server.metric('ltr_predictions_total{outcome="fallback",version="legacy"}') == 1
