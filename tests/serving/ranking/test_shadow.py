"""A second version sees the same requests; nobody who asks can tell."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.eventlog.encode import query_of
from ltr_pipeline.serving.ranking.agreement import agreement
from ltr_pipeline.serving.ranking.order import chosen
from ltr_pipeline.serving.ranking.shadow import SHADOW_SUFFIX, WAITING, Served, Shadow, ShadowRanking
from ltr_pipeline.serving.weights.models import Models, legacy, load
from ltr_pipeline.serving.weights.variants import Variants
from ltr_pipeline.serving.wire import RankCandidate
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import encode
from support.documents import document
from support.service import Server

A, B, C = "20250714_0215", "20250715_0215", "20250716_0215"
LEGACY = load_mapping().legacy_weights
BODY = {
    "query_id": "case-1",
    "candidates": [{"item_id": f"i{n}", "features": {"A": n / 10, "S": 0.5}} for n in range(10)],
    "k": 5,
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """`latest` pinned to A; B was published after and is worlds apart: it ranks the other way round."""
    registry = Registry(LocalStorage(tmp_path / "var" / "registry" / "ltr"))
    registry.publish(document(A), who="night", why="passed")
    registry.pin(who="me", why="to watch B first")
    registry.publish(document(B, high=0.1), who="night", why="passed")
    return registry


def models(version: str = A) -> Models:
    found = Models(legacy(LEGACY))
    found.take(load(encode(document(version)), where="here"))
    return found


def candidates(count: int = 10) -> list[RankCandidate]:
    return [RankCandidate.of(f"i{n}", {"A": n / 10, "S": 0.5}) for n in range(count)]


def count(outcome: str) -> float:
    return prometheus.SHADOWS.labels(outcome)._value.get()


class Seen(list[ShadowRanking]):
    """A recorder that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.any = threading.Event()

    def shadow(self, ranking: ShadowRanking) -> None:
        self.append(ranking)
        self.any.set()


def answered(found: Models) -> Served:
    model = found.current
    scores = model.scorer.score(model.scorer.read(candidates()).matrix)
    return Served("r1", "case-1", "u1", candidates(), model, scores, 5, {})


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_the_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    found = agreement(first, second).correlation
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)


def test_overlap_and_shift_by_hand() -> None:
    first = np.array([7.0, 6, 5, 4, 3, 2, 1])
    found = agreement(first, first + 3 * first.std())
    assert found == (1.0, 1.0, pytest.approx(3.0))
    assert agreement(first, -first).overlap == 3 / 5  # the middle three are among the best five of both
    assert agreement(first[:2], -first[:2]).overlap == 1.0
    assert agreement(np.zeros(6), first[:6]) == (1.0, None, None)


def test_newest_is_followed_whether_latest_moves_or_not(registry: Registry) -> None:
    variants = Variants(["newest", "legacy", A, ""], registry, models())
    assert variants.get("newest") is None
    variants.poll()
    assert variants.get("newest").version == B
    assert variants.get(A).version == A
    assert variants.get("legacy").version == "legacy"
    registry.publish(document(C), who="night", why="passed")
    variants.poll()
    assert variants.get("newest").version == C
    assert registry.promoted() == A
    registry.publish(document(f"{C[:8]}_0935", high=0.6, parent=A), who="hour", why="passed")
    variants.poll()
    assert variants.get("newest").version == C  # hourly versions come and go


def test_what_cannot_be_loaded_is_told_once_and_stays_away(registry: Registry, tmp_path: Path, capfd) -> None:
    variants = Variants(["newest", C], registry, models())
    variants.poll()
    assert variants.get(C) is None
    broken = tmp_path / "var" / "registry" / "ltr" / C / "ltr_weights.json"
    registry.publish(document(C), who="night", why="passed")
    broken.chmod(0o644)
    broken.write_bytes(broken.read_bytes()[:-50])
    capfd.readouterr()
    for _ in range(3):
        variants.poll()
    assert variants.get("newest").version == B  # the last one that did load
    assert variants.get(C) is None
    said = capfd.readouterr()
    assert (said.out + said.err).count("cannot be loaded") == 1


def test_a_registry_that_is_away_is_no_trouble(tmp_path: Path) -> None:
    variants = Variants(["newest"], Registry(LocalStorage(tmp_path / "nowhere")), models())
    variants.poll()
    assert variants.get("newest") is None


def test_an_answer_is_compared_and_recorded(registry: Registry) -> None:
    found, seen = models(), Seen()
    variants = Variants(["newest"], registry, found)
    variants.poll()
    shadow = Shadow(variants, "newest", seen.shadow)
    shadow.start()
    try:
        shadow.offer(answered(found))
        assert seen.any.wait(60)
    finally:
        shadow.stop()
    (ranking,) = seen
    assert (ranking.version, ranking.served.request_id) == (B, "r1")
    assert list(ranking.order) == [0, 1, 2, 3, 4]
    assert ranking.agreement.correlation == pytest.approx(-1)
    assert ranking.agreement.overlap == 0.2  # i0 only: A shows i6 to i9 and the first of the rest
    assert ranking.agreement.shift < 0


def test_when_it_cannot_keep_up_answers_are_skipped_and_counted(registry: Registry) -> None:
    found = models()
    variants = Variants(["newest"], registry, found)
    shadow = Shadow(variants, "newest", Seen().shadow)  # its thread is not started: nothing is taken from the queue
    before = count("skipped")
    for _ in range(WAITING + 3):
        shadow.offer(answered(found))
    assert count("skipped") - before == 3


def test_a_shadow_that_fails_is_counted_and_the_next_is_compared(registry: Registry) -> None:
    found, seen = models(), Seen()
    variants = Variants(["newest"], registry, found)
    variants.poll()
    good = variants.get("newest").scorer

    def fails(_matrix: object) -> object:
        raise RuntimeError("no")

    bad = Scorer(good.features, 1, fails, fails)  # type: ignore[arg-type]
    shadow = Shadow(variants, "newest", seen.shadow)
    before = count("failed")
    object.__setattr__(variants.get("newest"), "scorer", bad)
    shadow.start()
    try:
        shadow.offer(answered(found))
        patience = time.monotonic() + 60
        while count("failed") == before and time.monotonic() < patience:
            time.sleep(0.01)
        object.__setattr__(variants.get("newest"), "scorer", good)
        shadow.offer(answered(found))
        assert seen.any.wait(60)
    finally:
        shadow.stop()
    assert count("failed") - before == 1


def test_answers_are_the_same_with_a_shadow_and_without(registry: Registry, tmp_path: Path) -> None:
    def told(server: Server, **headers: str) -> dict:
        answer = server.post("/ltr/rank", BODY, headers=headers)
        assert query_of(answer.pop("request_id")) == "case-1"
        return answer

    with Server(tmp_path) as server:
        plain = told(server)
    with Server(tmp_path, LTR_SHADOW_VERSION="newest") as server:
        server.until(lambda: server.metric('ltr_other_loads_total{outcome="loaded"}') == 1)
        assert told(server) == plain  # neither asked for nor drawn
        assert told(server, **{"x-shadow-ltr": "1"}) == plain
        server.until(lambda: server.metric('ltr_shadow_total{outcome="compared"}') >= 1)
        assert server.metric('ltr_shadow_total{outcome="compared"}') == 1
        assert server.metric(f'ltr_shadow_overlap_at_5_sum{{version="{B}"}}') == 0.2
        assert server.metric(f'ltr_shadow_rank_correlation_bucket{{le="-0.5",version="{B}"}}') == 1
        assert server.metric(f'ltr_shadow_duration_seconds_count{{version="{B}"}}') == 1


def test_a_share_of_traffic_is_drawn_by_request_id(registry: Registry, tmp_path: Path) -> None:
    requests = 200
    with Server(tmp_path, LTR_SHADOW_VERSION=B, LTR_SHADOW_SHARE="0.3") as server:
        server.until(lambda: server.metric('ltr_other_loads_total{outcome="loaded"}') == 1)
        names = [server.post("/ltr/rank", BODY)["request_id"] for _ in range(requests)]
        drawn = sum(chosen(name, 0.3, "shadow") for name in names)

        def seen() -> float:
            return sum(server.metric(f'ltr_shadow_total{{outcome="{outcome}"}}') for outcome in ("compared", "skipped"))

        server.until(lambda: seen() >= drawn)
        last = server.post("/ltr/rank", BODY, headers={"x-shadow-ltr": "1"})["request_id"]
        events = tmp_path / "logs" / "audit.log"
        server.until(lambda: events.exists() and f"{last}{SHADOW_SUFFIX}" in events.read_text())  # nothing waits now
        server.until(lambda: seen() > drawn)
        assert seen() == drawn + 1
        assert abs(drawn - 0.3 * requests) <= 5 * 6.5  # five standard deviations


def test_a_version_that_is_not_there_leaves_requests_alone(registry: Registry, tmp_path: Path) -> None:
    with Server(tmp_path, LTR_SHADOW_VERSION=C, LTR_INTERLEAVE_VERSION=C, LTR_INTERLEAVE_SHARE="1") as server:
        server.until(lambda: server.metric('ltr_other_loads_total{outcome="failed"}') >= 1)
        answer = server.post("/ltr/rank", BODY, headers={"x-shadow-ltr": "1"})
        assert (answer["version"], answer["policy"], answer["fallback"]) == (A, A, None)
        server.until(lambda: server.metric('ltr_shadow_total{outcome="not_loaded"}') == 1)
        assert server.metric('ltr_interleaved_total{outcome="not_loaded"}') == 1
        server.until(lambda: f"no version {C}" in server.log)
