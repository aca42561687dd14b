"""Without a usable model there is still an answer, and it says so."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.eventlog.recorder import Recorder
from ltr_pipeline.serving.guard import APART_SECONDS
from ltr_pipeline.serving.logs import Facts
from ltr_pipeline.serving.ranking.comparison import is_slow
from ltr_pipeline.serving.ranking.order import Interleaver
from ltr_pipeline.serving.ranking.service import CrowdedError, Service
from ltr_pipeline.serving.ranking.shadow import Shadow
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.serving.weights.models import Loaded, Models, legacy, load
from ltr_pipeline.serving.weights.variants import Variants
from ltr_pipeline.serving.wire import Explanation, RankAnswer
from ltr_pipeline.settings import load as load_settings
from ltr_pipeline.versions.weights import Fallback, encode
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


def facts() -> Facts:
    return Facts(timestamp=datetime.now(UTC), event="request", request_id="r", method="POST", path="/ltr/rank")


def asked(service: Service, **more: Any) -> RankAnswer:
    known = facts()
    answer = asyncio.run(service.rank(json.dumps(BODY | more).encode(), known))
    assert known.outcome == ("fallback" if answer.fallback else "model")
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


KNOTS = Calibration(positive=2, x=[0.25, 0.75], y=[0.02, 0.42], error=0.01)


def calibrated(models: Models, calibration: Calibration | None) -> None:
    models.take(load(encode(msgspec.structs.replace(document(A), calibration=calibration or msgspec.UNSET)), where="-"))


def stated(answer: RankAnswer) -> list[tuple[Any, ...]]:
    """Items, and their probabilities as the answer writes them."""
    written = msgspec.json.decode(msgspec.json.encode(answer))
    assert written.get("uncalibrated") == (None if answer.uncalibrated is msgspec.UNSET else answer.uncalibrated)
    return [(item["item_id"], *([item["probability"]] if "probability" in item else [])) for item in written["items"]]


def test_a_probability_comes_where_it_is_asked_for(service: Service, models: Models) -> None:
    """The tree gives "high" 0.75 and "low" 0.25, where the knots are."""
    calibrated(models, KNOTS)
    assert stated(asked(service)) == [("high",), ("low",)]
    answer = asked(service, probability=True, k=1)
    assert stated(answer) == [("high", 0.42)]
    assert "uncalibrated" not in msgspec.json.decode(msgspec.json.encode(answer))
    assert stated(asked(service, probability=True)) == [("high", 0.42), ("low", 0.02)]


@pytest.mark.parametrize(
    ("calibration", "why"),
    [
        (None, f"{A} has no calibration"),
        (msgspec.structs.replace(KNOTS, error=None), "has no error that is known"),
        (msgspec.structs.replace(KNOTS, error=0.06), "has no error that is known and at most 0.05"),
    ],
)
def test_a_probability_that_cannot_be_told_is_null_and_says_why(
    service: Service, models: Models, calibration: Calibration | None, why: str
) -> None:
    calibrated(models, calibration)
    answer = asked(service, probability=True)
    assert (answer.model, answer.fallback) == ("lightgbm", None)
    assert stated(answer) == [("high", None), ("low", None)]
    assert why in str(answer.uncalibrated)
    assert stated(asked(service)) == [("high",), ("low",)]


def test_what_stands_in_for_the_model_has_no_probability(service: Service, models: Models) -> None:
    calibrated(models, KNOTS)
    broken(models, lambda matrix: np.full(len(matrix), np.nan))
    answer = asked(service, probability=True)
    expected(answer, "error")
    assert stated(answer) == [("high", None), ("low", None)]
    assert answer.uncalibrated == "no published model scored: error"


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


LINEAR = Fallback(
    weights={"A": -1.0, "S": 0.5},
    means={"A": 0.5, "S": 0.5},
    scales={"A": 0.5, "S": 0.2},
    ndcg_at_5={"value": 0.7},
    against_random={"value": 0.2, "low": 0.1, "high": 0.3, "n": 100},
)


def fails(_matrix: object) -> object:
    raise RuntimeError("a tree is missing")


def test_signed_weights_rank_where_they_beat_random_order(service: Service, models: Models) -> None:
    models.take(load(encode(msgspec.structs.replace(document(A), linear=LINEAR)), where="here"))
    broken(models, fails)
    answer = asked(service)
    assert (answer.model, answer.policy) == ("linear", f"{A}+linear")
    assert [(item.item_id, pytest.approx(item.score)) for item in answer.items] == [("low", 1.8), ("high", -0.8)]


@pytest.mark.parametrize("against_random", [None, {"value": 0.1, "low": -0.01, "high": 0.2, "n": 30}])
def test_where_they_do_not_the_order_of_the_request_stays(
    service: Service, models: Models, against_random: dict[str, float] | None
) -> None:
    unfit = msgspec.structs.replace(LINEAR, against_random=against_random)
    models.take(load(encode(msgspec.structs.replace(document(A), linear=unfit)), where="here"))
    broken(models, fails)
    answer = asked(service, explain=True)
    assert (answer.model, answer.fallback, answer.policy) == ("request", "error", f"{A}+request")
    assert [(item.item_id, item.score, item.contributions) for item in answer.items] == [
        ("low", 0.0, {}),
        ("high", 0.0, {}),
    ]


def test_of_many_explanations_four_are_made_and_the_others_are_refused(service: Service, models: Models) -> None:
    shown = threading.Event()

    def waits(matrix: Any) -> Any:
        shown.wait(10)
        return scorer.contributions(matrix)

    scorer = models.current.scorer
    object.__setattr__(models.current, "scorer", Scorer(scorer.features, 1, scorer.score, waits))

    async def all_at_once() -> list[Any]:
        pair = dict(zip(("above", "below"), BODY["candidates"], strict=True))
        waiting = [asyncio.create_task(service.explain(json.dumps(pair).encode())) for _ in range(6)]
        await asyncio.sleep(0)
        ranked = await service.rank(json.dumps(BODY).encode(), facts())  # nobody else waits for them
        shown.set()
        return [ranked.fallback, *await asyncio.gather(*waiting, return_exceptions=True)]

    fallback, *explained = asyncio.run(all_at_once())
    assert fallback is None
    assert [type(one) for one in explained] == [Explanation] * 4 + [CrowdedError] * 2
    assert models.current.traffic.now.answers.hits == 0
    assert asked(service, explain=True).items[0].contributions  # there is room again


def test_a_missed_deadline_is_not_held_against_a_model_and_an_error_is(service: Service, models: Models) -> None:
    counts = models.current.traffic.now.answers
    broken(models, lambda matrix: time.sleep(0.1) or np.zeros(len(matrix)), seconds=1.0)
    expected(asked(service), "deadline")
    assert (counts.total, counts.hits) == (1, 0)
    broken(models, lambda matrix: np.full(len(matrix), np.nan))
    time.sleep(APART_SECONDS)
    expected(asked(service), "error")
    assert (counts.total, counts.hits) == (2, 1)


def test_requests_that_come_at_once_count_once(service: Service, models: Models) -> None:
    for _ in range(20):
        asked(service)
    assert 1 <= models.current.traffic.now.answers.total < 20


TIMES = {
    # seconds a candidate by the new and by the former model, trees of both, candidates: is the new one slow?
    "as fast": (1e-4, 1e-4, 1, 1, 50, False),
    "long lists, both over the limit": (1e-4, 1e-4, 1, 1, 400, False),
    "three times as slow, within the limit": (1e-4, 3e-5, 1, 1, 50, False),
    "three times as slow": (3e-4, 1e-4, 1, 1, 100, True),
    "three times as slow with five times the trees": (3e-4, 1e-4, 5, 1, 100, False),
    "over the deadline by its many trees": (1e-3, 1e-5, 1000, 1, 100, True),
    "faster with a tenth of the trees": (3e-4, 5e-4, 1, 10, 100, False),
}


@pytest.mark.parametrize(("mine", "theirs", "trees", "former_trees", "count", "slow"), TIMES.values(), ids=TIMES)
def test_a_model_is_slow_if_it_is_over_the_limit_and_the_one_before_is_much_faster(
    models: Models, mine: float, theirs: float, trees: int, former_trees: int, count: int, slow: bool
) -> None:
    def taking(seconds: float, trees: int) -> Loaded:
        score = lambda matrix: time.sleep(seconds * len(matrix))  # noqa: E731
        return replace(models.current, scorer=Scorer(("A",), trees, score, score))

    listed = [Candidate.of(str(n), {"A": 1.0}) for n in range(count)]
    model, former = taking(mine, trees), taking(theirs, former_trees)
    assert is_slow(model, former, listed, limit=0.015, deadline=0.05) == slow


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
