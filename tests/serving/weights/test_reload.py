"""New weights reach a running service; whatever is wrong with them, or with their place, does not."""

from __future__ import annotations

import datetime as dt
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ltr_pipeline.versions.latest import LATEST
from support.documents import document
from support.service import Server
from support.weights import RANK, A, B, C, Place, bad_documents, on_disk, on_s3, other_features

DEBUG = "/api/debug/reload_weights"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return on_disk(str(tmp_path / "registry"))
    return on_s3(request.getfixturevalue("s3_server"), request.getfixturevalue("s3_options"))


def version(server: Server) -> str:
    """Return what ranks, by an answer."""
    return server.post("/ltr/rank", RANK)["version"]


def state(server: Server) -> dict[str, Any]:
    return server.get(DEBUG)


def await_version(server: Server, wanted: str, seconds: float = 60.0) -> None:
    server.until(lambda: version(server) == wanted, seconds)


def test_versions_come_and_go_and_bad_ones_never_rank(place: Place, tmp_path: Path) -> None:
    place.publish(document(A))
    with Server(tmp_path / "run", place.environment, WEIGHTS_POLL_SECONDS="0.1") as server:
        assert version(server) == A
        place.publish(document(B, high=0.8))
        await_version(server, B)
        place.registry.rollback(who="ann", why="drill")
        await_version(server, A)
        assert state(server)["guard"]["state"] == "off"  # a rollback is not on trial

        for number, (wrong, data) in enumerate(bad_documents().items(), start=1):
            sha256 = place.point(f"202507{20 + number}_0215", data)
            server.until(lambda sha256=sha256: sha256 in state(server)["refused"])
            polls = state(server)["polls"]
            server.until(lambda polls=polls: state(server)["polls"] > polls + 3)
            assert (version(server), state(server)["outcome"]) == (A, "refused"), wrong
            assert state(server)["last_error"] == state(server)["refused"][sha256]["reason"]
            assert server.metric('ltr_reloads_total{outcome="refused"}') == number  # once, not at each poll
        server.until(lambda: "weights refused" in server.log)

        place.storage.delete(LATEST)
        server.until(lambda: state(server)["outcome"] == "nothing published")
        assert "does not exist" in state(server)["last_error"]
        assert version(server) == A
        place.storage.point(LATEST, f"{B}/ltr_weights.json")
        await_version(server, B)
        assert state(server)["last_error"] is None
        assert server.stop() == -signal.SIGTERM


def test_what_was_refused_gets_another_chance_on_request_only(tmp_path: Path) -> None:
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    place.point("20250720_0215", bad_documents()["golden requests off"])
    with Server(tmp_path / "run", place.environment, WEIGHTS_POLL_SECONDS="3600") as server:
        refused = 'ltr_reloads_total{outcome="refused"}'
        assert (server.get("/ltr/health")["version"], server.metric(refused)) == ("legacy", 1)
        assert server.post(DEBUG)["outcome"] == "refused"
        assert server.metric(refused) == 1
        assert server.post(f"{DEBUG}?force=true")["outcome"] == "refused"
        assert server.metric(refused) == 2
        place.storage.point(LATEST, f"{A}/ltr_weights.json")
        answer = server.post(DEBUG)
        assert (answer["outcome"], answer["version"], answer["last_error"]) == ("loaded", A, None)


def test_s3_may_go_away_and_come_back(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    s3 = request.getfixturevalue("s3_server")
    place = on_s3(s3, request.getfixturevalue("s3_options"))
    place.publish(document(A))
    with Server(tmp_path / "run", place.environment, WEIGHTS_POLL_SECONDS="0.2") as server:
        assert version(server) == A
        s3.stop()
        try:
            server.until(lambda: state(server)["outcome"] == "failed", 90)
            assert "does not answer" in state(server)["last_error"]
            assert version(server) == A
            unreachable = server.get("/ltr/versions", expect=503)
            assert "does not answer" in unreachable["error"]
            server.stop()
            server.start()  # without S3 there are legacy weights, and then the published ones
            answer = server.post("/ltr/rank", {"query_id": "q", "candidates": [{"item_id": "x", "features": {}}]})
            assert (answer["version"], answer["fallback"]) == ("legacy", "no_model")
        finally:
            s3.start()
        place.publish(document(B, high=0.8))
        await_version(server, B, 90)

        bucket = place.environment["S3_BUCKET"]
        client = s3.client()
        for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
            client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)
        server.until(lambda: f"make the bucket {bucket}" in (state(server)["last_error"] or ""), 90)
        assert version(server) == B
        s3.make_bucket(bucket)
        place.registry.ledger._seen.clear()
        place.publish(document(C, high=0.9))
        await_version(server, C, 90)


def test_every_worker_follows_when_one_is_asked_to_reload(tmp_path: Path) -> None:
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    environment = place.environment | {"LTR_SERVE_WORKERS": "2", "WEIGHTS_POLL_SECONDS": "3600"}
    with Server(tmp_path / "run", environment) as server:

        def workers() -> dict[int, str]:
            """Version of each worker that answers one of some requests, each with a connection of its own."""
            states = [httpx.get(f"{server.url}{DEBUG}", trust_env=False, timeout=60).json() for _ in range(20)]
            return {found["pid"]: found["version"] for found in states}

        server.until(lambda: [*workers().values()] == [A, A])
        place.publish(document(B, high=0.8))
        assert server.post(DEBUG)["version"] == B
        server.until(lambda: [*workers().values()] == [B, B])
        sha256 = place.point("20250720_0215", bad_documents()["golden requests off"])
        assert sha256 in server.post(DEBUG)["refused"]
        server.until(lambda: server.metric('ltr_reloads_total{outcome="refused"}') >= 1)
        both = server.until(lambda: found if len(found := workers()) == 2 else None)  # one may answer all of some
        assert [*both.values()] == [B, B]
        server.stop()


def test_a_change_of_features_is_told_to_those_who_send_lists(tmp_path: Path) -> None:
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    by_list = {"query_id": "q", "candidates": [{"item_id": "x", "features": [0.9, 0.1]}]}
    with Server(tmp_path / "run", place.environment, WEIGHTS_POLL_SECONDS="0.1") as server:
        assert server.post("/ltr/rank", by_list)["version"] == A
        place.publish(other_features(B))
        await_version(server, B)
        assert server.post("/ltr/rank", RANK)["missing"] == {"Q": {"candidates": 2, "read_as": "zero"}}
        error = server.post("/ltr/rank", by_list, expect=422)["error"]
        server.until(lambda: "features changed" in server.log)
        assert "2 features, but the model has the 3 features A, S, Q" in error
        place.registry.rollback(who="ann", why="drill")
        await_version(server, A)
        named = {"query_id": "q", "candidates": [{"item_id": "x", "features": {"A": 1, "S": 0, "Q": 1}}]}
        assert server.post("/ltr/rank", named)["unknown_features"] == ["Q"]


def test_an_hourly_version_ranks_is_listed_and_is_as_old_as_its_night(tmp_path: Path) -> None:
    """Else nobody would be told of nights that are rejected for days."""
    place, hour = on_disk(str(tmp_path / "registry")), "20250714_0935"
    place.publish(document(A))
    place.publish(document(hour, high=0.8, parent=A))
    with Server(tmp_path / "run", place.environment, WEIGHTS_POLL_SECONDS="0.1") as server:
        await_version(server, hour)
        assert [one["parent"] for one in server.get("/ltr/versions")["versions"]] == [A, None]
        night = dt.datetime(2025, 7, 14, 2, 15, tzinfo=dt.UTC)
        assert server.metric("ltr_weights_created_timestamp_seconds") == night.timestamp()
        place.registry.expire(dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC), who="run", why="the night was kept")
        await_version(server, A)
        assert server.post("/ltr/rank", RANK)["version"] == A


def test_the_versions_there_are(tmp_path: Path) -> None:
    place = on_disk(str(tmp_path / "registry"))
    place.publish(document(A))
    place.publish(document(B, high=0.8))
    place.registry.rollback(who="ann", why="drill")
    place.storage.put(f"{C}/ltr_weights.json", b"{}")
    sha256 = place.point("20250720_0215", bad_documents()["golden requests off"])
    with Server(tmp_path / "run", place.environment, WEIGHTS_POLL_SECONDS="0.1") as server:
        place.storage.point(LATEST, f"{A}/ltr_weights.json")
        await_version(server, A)
        told = server.get("/ltr/versions")
        newest, broken, b, a = told["versions"]
        assert told["in_use"] == A
        assert (a["is_latest"], a["pinned"], a["in_use"], a["refused"]) == (True, True, True, None)
        assert (b["is_latest"], b["in_use"], b["ndcg_at_5"]) == (False, False, 0.8)
        assert "altered" in broken["problem"]
        assert newest["sha256"] == sha256
        assert "off" in newest["refused"]
        assert list(told["refused"]) == [sha256]
