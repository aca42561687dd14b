"""A model that verifies and is bad all the same: the service goes back by itself, and takes `latest` with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ltr_pipeline.scoring import kernel
from ltr_pipeline.versions.ledger import Move
from support.documents import document
from support.service import Server
from support.weights import A, B, C, Place, infinite, on_disk, on_s3, slow

DEBUG = "/api/debug/reload_weights"
WATCHED = {"WEIGHTS_POLL_SECONDS": "0.2", "LTR_GUARD_REQUESTS": "20", "LTR_GUARD_SECONDS": "120"}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.long)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return on_disk(str(tmp_path / "registry"))
    return on_s3(request.getfixturevalue("s3_server"), request.getfixturevalue("s3_options"))


def rank(server: Server, items: int = 2) -> dict[str, Any]:
    """An answer, over a connection of its own, so that every worker gets some."""
    chance = random.Random(7)
    values = [0.9, *(chance.random() for _ in range(items - 1))]  # at random: a processor foresees what is always so
    candidates = [{"item_id": str(n), "features": {"A": a, "S": 0.5}} for n, a in enumerate(values)]
    answer = httpx.post(f"{server.url}/ltr/rank", json={"query_id": "q", "candidates": candidates}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(server: Server, until: Callable[[], bool], items: int = 2) -> list[str | None]:
    """Rank until something is so; the fallbacks of the answers."""
    fallbacks: list[str | None] = []

    def asked() -> bool:
        fallbacks.append(rank(server, items)["fallback"])
        return until()

    server.until(asked, 60)
    return fallbacks


def last_move(place: Place) -> Move:
    return place.registry.history()[-1]


def test_slow_weights_are_left_by_this_service_and_latest_stays(tmp_path: Path) -> None:
    """Slow for the service: over its deadline, where the model before is not."""
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    limits = {"LTR_DEADLINE_MS": "1", "LTR_GUARD_P95_MAX_MS": "0.5"}
    with Server(tmp_path / "run", place.environment | WATCHED | limits, LTR_AUTO_ROLLBACK="true") as server:
        place.publish(slow(B, trees=20_000 if kernel.fastest() else 1600))
        server.until(lambda: server.get("/ltr/health")["version"] == B)
        ask(server, lambda: server.get("/ltr/health")["version"] == A, items=100)
        report = server.get(DEBUG)
        assert "twice as long as by the model before" in report["guard"]["reason"]
        assert [refused["version"] for refused in report["refused"].values()] == [B]
        assert server.metric('ltr_reloads_total{outcome="stepped_back"}') == 1  # which alerts
        polls = server.get(DEBUG)["polls"]
        server.until(lambda: server.get(DEBUG)["polls"] > polls + 3)
        assert server.get(DEBUG)["guard"]["rollback"] is None
        assert place.registry.promoted() == B


def test_long_lists_and_explanations_are_not_held_against_a_good_version(tmp_path: Path) -> None:
    """As when 30 % of the lists became long after a publish, and somebody asked for explanations all the time."""
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    limits = {"LTR_DEADLINE_MS": "1", "LTR_GUARD_P95_MAX_MS": "0.01"}  # any list is over both, by any model
    with Server(tmp_path / "run", place.environment | WATCHED | limits, LTR_AUTO_ROLLBACK="true") as server:
        place.publish(document(B, high=0.9))
        server.until(lambda: server.get("/ltr/health")["version"] == B)
        pair = {"above": {"item_id": "a", "features": {"A": 1.0}}, "below": {"item_id": "b", "features": {"A": 0.0}}}

        def judged() -> bool:
            server.post("/ltr/explain", pair)
            return server.get(DEBUG)["guard"]["compared"] >= 40

        ask(server, judged, items=800)
        report = server.get(DEBUG)
        assert (report["version"], report["guard"]["state"], report["refused"]) == (B, "watching", {})


def test_a_bad_version_is_left_and_latest_rolled_back_and_pinned(place: Place, tmp_path: Path) -> None:
    place.publish(document(A))
    with Server(tmp_path / "run", place.environment | WATCHED, LTR_AUTO_ROLLBACK="true") as server:
        assert rank(server)["version"] == A
        place.publish(infinite(B))
        server.until(lambda: server.get("/ltr/health")["version"] == B)
        server.until(lambda: server.get(DEBUG)["guard"]["state"] == "watching")
        ask(server, lambda: server.get("/ltr/health")["version"] == A)
        server.until(lambda: server.get(DEBUG)["guard"]["rollback"])
        report = server.get(DEBUG)
        assert (report["guard"]["state"], report["guard"]["version"]) == ("breach", B)
        assert "requests failed" in report["guard"]["reason"]
        assert report["guard"]["rollback"] == f"done: latest is {A}, pinned"
        assert [refused["version"] for refused in report["refused"].values()] == [B]
        assert server.metric('ltr_reloads_total{outcome="stepped_back"}') == 1
        move = last_move(place)
        assert (move.move, move.to, move.pin, move.why) == ("rollback", A, True, report["guard"]["reason"])
        assert move.who.startswith("guard, ")
        server.until(lambda: "stepped back from bad weights" in server.log)
        place.publish(document(C, high=0.9))  # the next night: held back until a person has looked
        polls = server.get(DEBUG)["polls"]
        server.until(lambda: server.get(DEBUG)["polls"] > polls + 3)
        answer = rank(server)
        assert (answer["version"], answer["fallback"]) == (A, None)
        place.registry.unpin(who="ann", why="looked at it")
        place.publish(document("20250718_0215", high=0.7))
        server.until(lambda: server.get("/ltr/health")["version"] == "20250718_0215")


def test_from_a_bad_hourly_version_latest_goes_back_to_its_night(tmp_path: Path) -> None:
    """Not to the hourly version before, which the service itself steps back to until it has seen that."""
    place, good, bad = on_disk(str(tmp_path / "registry")), "20250714_0935", "20250714_1035"
    place.publish(document(A))
    place.publish(document(good, high=0.8, parent=A))
    with Server(tmp_path / "run", place.environment | WATCHED, LTR_AUTO_ROLLBACK="true") as server:
        assert rank(server)["version"] == good
        place.publish(infinite(bad, parent=A))
        server.until(lambda: server.get("/ltr/health")["version"] == bad)
        ask(server, lambda: server.get(DEBUG)["guard"]["rollback"] is not None)
        server.until(lambda: server.get("/ltr/health")["version"] == A)
        move = last_move(place)
        assert (move.move, move.before, move.to, move.pin) == ("rollback", bad, A, True)


def test_without_auto_rollback_a_bad_version_stays_away_from_this_service(tmp_path: Path) -> None:
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    with Server(tmp_path / "run", place.environment | WATCHED) as server:
        place.publish(infinite(B))
        server.until(lambda: server.get("/ltr/health")["version"] == B)
        assert "error" in ask(server, lambda: server.get("/ltr/health")["version"] == A)
        polls = server.get(DEBUG)["polls"]
        server.until(lambda: server.get(DEBUG)["polls"] > polls + 3)
        report = server.get(DEBUG)
        assert (report["version"], report["outcome"], report["guard"]["rollback"]) == (A, "refused", None)
        assert server.get("/ltr/versions")["versions"][0]["refused"] == report["guard"]["reason"]
        assert last_move(place).move == "publish"
        assert server.get("/ltr/health")["guard"]["state"] == "breach"
        place.publish(document(C, high=0.9))  # the next night's
        server.until(lambda: server.get("/ltr/health")["version"] == C)
        assert server.post(f"{DEBUG}?force=true")["refused"] == {}


def test_a_rollback_that_s3_does_not_take_is_made_when_it_is_back(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    s3 = request.getfixturevalue("s3_server")
    place = on_s3(s3, request.getfixturevalue("s3_options"))
    place.publish(document(A))
    environment = place.environment | WATCHED | {"WEIGHTS_POLL_SECONDS": "1"}
    with Server(tmp_path / "run", environment, LTR_AUTO_ROLLBACK="true") as server:
        place.publish(infinite(B))
        server.until(lambda: server.get("/ltr/health")["version"] == B)
        s3.stop()
        try:
            ask(server, lambda: server.get("/ltr/health")["version"] == A)
            server.until(lambda: "does not answer" in (server.get(DEBUG)["guard"]["rollback"] or ""), 90)
        finally:
            s3.start()
        server.until(lambda: (server.get(DEBUG)["guard"]["rollback"] or "").startswith("done"), 90)
        assert place.registry.promoted() == A


def test_workers_agree_on_what_is_bad_and_roll_back_once(tmp_path: Path) -> None:
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    with Server(
        tmp_path / "run", place.environment | WATCHED, LTR_SERVE_WORKERS="2", LTR_AUTO_ROLLBACK="true"
    ) as server:
        versions = lambda: {rank(server)["version"] for _ in range(20)}  # noqa: E731
        assert versions() == {A}
        place.publish(infinite(B))
        server.until(lambda: B in versions())
        server.until(lambda: versions() == {A} and place.registry.promoted() == A, 60)
        assert [move.move for move in place.registry.history()] == ["publish", "publish", "rollback"]
