"""Events of the real process: what is written where, and what is lost when it is stopped, killed or cut off."""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
import threading
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.native.kafka import KafkaServer
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report.artefacts import DATASET
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import load_settings
from support.messages import FEATURES
from support.service import Server
from support.topics import Topic


def asked(query: str = "case-1", items: int = 3, **more: Any) -> dict[str, Any]:
    candidates = [{"item_id": f"l-{item}", "features": FEATURES, "group": "a"} for item in range(items)]
    return {"query_id": query, "user_id": "u-1", "candidates": candidates} | more


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def log_of(server: Server, count: int) -> list[dict[str, Any]]:
    path = server.folder / "logs" / "audit.log"
    server.until(lambda: len(logged(path)) >= count)
    return logged(path)


def counted(server: Server, kind: str, outcome: str) -> float:
    return server.metric(f'ltr_events_total{{kind="{kind}",outcome="{outcome}"}}')


def lists(messages: list[dict[str, Any]]) -> list[str]:
    return [message["context"]["case_id"] for message in messages if message["message"] == "match_recommendation"]


def test_what_was_shown_and_done_is_logged(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        answer = server.post("/ltr/rank", asked(k=2))
        name = answer["request_id"]
        given = [
            {"request_id": name, "item_id": "l-0", "action": "accepted", "event_id": "e-1"},
            {"query_id": "case-1", "item_id": "l-1", "action": "declined", "user_id": "u-1", "rating": 2},
            {"request_id": name, "item_id": "l-1", "rating": 1},
            {"request_id": name, "item_id": "l-1", "action": "rated", "rating": 3},
        ]
        assert server.post("/ltr/feedback", {"events": given}, expect=202) == {"accepted": 4}
        server.post("/ltr/rank", asked("case-2", test=True))
        shown, first, second, third, fourth, test = log_of(server, 6)
        context = shown["context"]
        assert (context["ranking_id"], context["policy"]) == (name, "legacy")
        assert [item["lawyer_id"] for item in context["items"]] == [item["item_id"] for item in answer["items"]]
        assert context["items"][0]["features"] == FEATURES
        assert (first["context"]["case_id"], first["context"]["event_id"]) == ("case-1", "e-1")
        assert first["context"]["ranking_id"] == name
        assert context["as_served"] is True
        assert "ranking_id" not in second["context"]
        ratings = [(said["context"].get("action"), said["context"].get("rating")) for said in (second, third, fourth)]
        assert ratings == [("declined", 2), (None, 1), ("rated", 3)]
        assert "rating" not in first["context"]
        assert test["context"]["shadow"] is True
        server.until(lambda: counted(server, "feedback", "delivered") == 4)  # counted after they are written
        assert counted(server, "impressions", "spooled") == 2


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"query_id": "q", "item_id": "i", "action": "shrugged"}, "lost, declined, accepted, won"),
        ({"query_id": "q", "item_id": "i", "action": "acepted"}, "did you mean accepted"),
        ({"query_id": "q", "item_id": "i", "action": "acepted", "rating": 5}, "did you mean accepted"),
        ({"query_id": "q", "item_id": "i"}, "give an action, or a rating"),
        ({"item_id": "i", "action": "won"}, "give the request_id of an answer, or the query_id"),
        ({"request_id": "elsewhere", "item_id": "i", "action": "won"}, "or the query_id"),
        ({"request_id": f"{'0' * 32}.cTE", "query_id": "q2", "item_id": "i", "action": "won"}, "to the query 'q1'"),
    ],
)
def test_wrong_feedback_is_refused_and_none_of_it_logged(server: Server, event: Any, problem: str) -> None:
    fine = {"query_id": "q", "item_id": "i", "action": "won"}
    answer = server.post("/ltr/feedback", {"events": [fine, event]}, expect=422)
    assert problem in answer["error"]
    assert answer["error"].startswith("event 1: ")
    later = counted(server, "impressions", "spooled") + 1
    server.post("/ltr/rank", asked())
    server.until(lambda: counted(server, "impressions", "spooled") == later)  # what was taken in before it, too, is
    assert counted(server, "feedback", "spooled") == 0


@pytest.mark.parametrize("rating", [0, 6, 4.5, "5", True, 10**400])
def test_a_rating_that_is_none_is_refused_with_its_field(server: Server, rating: Any) -> None:
    event = {"query_id": "q", "item_id": "i", "rating": rating}
    answer = server.post("/ltr/feedback", {"events": [event]}, expect=422)
    assert "rating" in answer["error"]


def test_a_rating_that_the_mapping_cannot_carry_is_refused(tmp_path: Path) -> None:
    text = files("ltr_pipeline").joinpath("default_mapping.toml").read_text()
    (tmp_path / "mapping.toml").write_text(re.sub(r"^rating = .*$", "", text, flags=re.MULTILINE))
    with Server(tmp_path, LTR_MAPPING="mapping.toml") as server:
        event = {"query_id": "q", "item_id": "i", "action": "won", "rating": 5}
        answer = server.post("/ltr/feedback", {"events": [event]}, expect=422)
        assert answer["error"] == (
            "event 0: the mapping has no path for rating, so it would be lost: give it one (LTR_MAPPING)"
        )
        asked_for = server.get("/openapi.json")["paths"]["/ltr/feedback"]["post"]["requestBody"]
        assert "rating" not in str(asked_for["content"]["application/json"]["example"])


def test_reports_do_not_count_unless_they_are_asked_for(server: Server) -> None:
    name = server.post("/ltr/rank", asked())["request_id"]
    problem = server.post("/ltr/shown", {"request_id": name, "items": ["l-0"]}, expect=422)
    assert "LTR_SHOWN=reported" in problem["error"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with Server(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.mark.long
def test_only_what_is_reported_counts_with_several_workers(tmp_path: Path) -> None:
    reported = {"LTR_SHOWN": "reported", "LTR_SHOWN_SECONDS": "4", "LTR_SERVE_WORKERS": "2"}
    with Server(tmp_path, reported) as server:
        names = []
        for number in range(12):  # each on a connection of its own, so that both workers get some
            name = httpx.post(f"{server.url}/ltr/rank", json=asked(f"case-{number}"), timeout=60).json()["request_id"]
            report = {"request_id": name, "items": ["l-2", "l-0"]}
            if number < 10:
                assert httpx.post(f"{server.url}/ltr/shown", json=report, timeout=60).json() == {"accepted": 2}
            names.append(name)
        messages = log_of(server, 10)
        assert sorted(message["context"]["ranking_id"] for message in messages) == sorted(names[:10])
        shown = [[item["lawyer_id"] for item in message["context"]["items"]] for message in messages]
        assert shown == [["l-2", "l-0"]] * 10
        server.until(lambda: counted(server, "impressions", "expired") == 2)
        again = {"request_id": names[0], "items": ["l-1"]}
        server.post("/ltr/shown", again, expect=202)
        server.until(lambda: counted(server, "impressions", "unknown") == 1)
        assert len(log_of(server, 10)) == 10


def hammered(server: Server, stop: threading.Event, answered: list[str]) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number in range(100_000):
            if stop.is_set():
                return
            try:
                if client.post("/ltr/rank", json=asked(f"case-{number}")).status_code == 200:
                    answered.append(f"case-{number}")
            except httpx.TransportError:
                return


def hammer(server: Server, how: signal.Signals) -> list[str]:
    """Send requests until some hundred are answered, and stop the service in the middle; those that were."""
    stop, answered = threading.Event(), []
    thread = threading.Thread(target=hammered, args=(server, stop, answered))
    thread.start()
    server.until(lambda: len(answered) > 300, 60)
    if how == signal.SIGKILL:
        server.kill()
    else:
        server.stop(how)
    stop.set()
    thread.join()
    return answered


def test_nothing_is_lost_on_sigterm(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server:
        answered = hammer(server, signal.SIGTERM)
    assert set(answered) <= set(lists(logged(tmp_path / "logs" / "audit.log")))
    assert list((tmp_path / "var" / "spool").iterdir()) == []


def test_a_kill_loses_no_more_than_the_queue(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server:
        answered = hammer(server, signal.SIGKILL)
        server.start()  # delivers what the killed process has left
        server.until(lambda: server.metric("ltr_spool_events") == 0)
        server.stop()
    found = lists(logged(tmp_path / "logs" / "audit.log"))
    lost = [query for query in answered if query not in set(found)]
    assert lost == answered[len(answered) - len(lost) :]  # the last ones: what had not been written yet
    assert len(lost) < len(answered) / 2


def test_a_spool_that_cannot_be_written_stops_no_answer(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "spool").write_text("a file where a folder belongs")
    with Server(tmp_path) as server:
        for number in range(5):
            server.post("/ltr/rank", asked(f"case-{number}"))
        server.until(lambda: counted(server, "impressions", "dropped") == 5)
        server.until(lambda: "events are dropped" in server.log)
        (tmp_path / "var" / "spool").unlink()
        server.post("/ltr/rank", asked("case-9"))
        assert lists(log_of(server, 1)) == ["case-9"]
        server.until(lambda: "events are written again" in server.log)  # lines are written five times a second


def test_a_full_spool_drops_the_newest(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "audit.log").mkdir()  # a folder: the service writes inside
    (tmp_path / "logs" / "audit.log" / "served.jsonl").mkdir()  # which it cannot
    with Server(tmp_path, LTR_SPOOL_MAX_MB="1") as server:
        for number in range(40):
            server.post("/ltr/rank", asked(f"case-{number}", items=300))
        taken = ("spooled", "dropped")
        server.until(lambda: sum(counted(server, "impressions", outcome) for outcome in taken) == 40)
        kept = counted(server, "impressions", "spooled")
        assert kept < 40
        assert 0 < server.metric("ltr_spool_bytes") <= 1 << 20
        server.until(lambda: server.metric("ltr_spool_oldest_seconds") > 0)
        (tmp_path / "logs" / "audit.log" / "served.jsonl").rmdir()
        server.until(lambda: counted(server, "impressions", "delivered") == kept)
    found = lists(logged(tmp_path / "logs" / "audit.log" / "served.jsonl"))
    assert len(found) == kept
    assert found == [name for name in (f"case-{number}" for number in range(40)) if name in found]
    assert found[0] == "case-0"


def test_what_a_killed_process_sent_twice_counts_once(
    kafka: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(kafka, partitions=2)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "KAFKA_TOPIC": topic.name,
        "LTR_KAFKA_TIMEOUT_SECONDS": "5",
        "LTR_DATA_URI": str(tmp_path / "data"),
        "LTR_REGISTRY_URI": str(tmp_path / "registry"),
    }
    server = Server(tmp_path / "service", environment)
    with server:
        server.post("/ltr/rank", asked("case-first"))
        server.until(lambda: counted(server, "impressions", "delivered") == 1)
        answered = hammer(server, signal.SIGKILL)
        [left] = (tmp_path / "service" / "var" / "spool").glob("*/delivered")
        left.unlink()  # as if the kill had come before anything was noted
        server.start()
        server.until(lambda: server.metric("ltr_spool_events") == 0 and "earlier process" in server.log)
    names = Counter(json.loads(value)["context"]["event_id"] for _, _, value in topic.consumed())
    assert max(names.values()) == 2
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    moment = night_of(dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1))
    nightly.build_dataset(nightly.extract_events({"moment": moment.isoformat()}, {}, settings), {}, settings)
    manifest = Run(run_name(moment), settings).read(DATASET)
    assert manifest.impressions.landed == 3 * names.total()
    assert manifest.impressions.duplicates == 3 * (names.total() - len(names))
    assert manifest.impressions.dropped == {"immature": 3 * len(names)}
    assert len(answered) * 0.5 < len(names) <= len(answered) + 2
