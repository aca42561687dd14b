"""One JSON object a line, whole lines only, and never a secret."""

from __future__ import annotations

import json
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from ltr_pipeline.serving.logs import Logs
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.service import Server

A = "20250714_0215"
KEY, SECRET, SIGNING = "key-0123456789abcdef", "secret-0123456789abcdef0123", "signing-0123456789abcdef0123456789"
JSON = {"content-type": "application/json"}
BODY = {
    "query_id": "q",
    "candidates": [{"item_id": f"i{n}", "features": {"A": 0.9, "S": 0.1}} for n in range(3)],
    "k": 2,
}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / "api.log").read_text().splitlines()]


def requests(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if line["event"] == "request"]


def test_a_request_is_a_line_under_the_id_of_its_answer(tmp_path: Path) -> None:
    Registry(LocalStorage(tmp_path / "var" / "registry" / "ltr")).publish(document(A), who="night", why="passed")
    with Server(tmp_path, LTR_LOG_FOLDER="logs") as server:
        good = server.http.post("/ltr/rank", json=BODY)
        bad = server.http.post("/ltr/rank", json={})
        other = server.http.get("/ltr/versions-of-nothing")
        assert good.headers["x-request-id"] == good.json()["request_id"]
        server.stop()
    found = {line["request_id"]: line for line in requests(tmp_path)}
    line = found[good.headers["x-request-id"]]
    assert line.pop("ms") > 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": good.json()["request_id"],
        "method": "POST",
        "path": "/ltr/rank",
        "status": 200,
        "version": A,
        "candidates": 3,
        "k": 2,
        "outcome": "model",
    }
    line = found[bad.headers["x-request-id"]]
    assert (line["status"], line["outcome"]) == (422, "refused")
    assert found[other.headers["x-request-id"]]["status"] == 404
    events = [line["event"] for line in lines(tmp_path)]
    assert "weights loaded" in events
    assert "Application startup complete." in events  # uvicorn's own, the same way
    assert '"request"' not in (tmp_path / "service.log").read_text()  # not on stderr


@pytest.mark.long
def test_lines_of_several_workers_are_whole(tmp_path: Path) -> None:
    asked = 300
    with Server(tmp_path, LTR_LOG_FOLDER="logs", LTR_SERVE_WORKERS="2") as server:

        def ask(_: int) -> str:
            answer = httpx.post(f"{server.url}/ltr/rank", json=BODY, trust_env=False, timeout=60)
            return answer.headers["x-request-id"]

        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(ask, range(asked)))
        assert server.stop() == 0
    seen = Counter(line["request_id"] for line in requests(tmp_path))
    assert all(seen[request_id] == 1 for request_id in ids)


def test_without_a_folder_only_warnings_reach_stderr(tmp_path: Path) -> None:
    published = tmp_path / "var" / "registry" / "ltr" / "latest" / "ltr_weights.json"
    published.parent.mkdir(parents=True)
    published.write_text("{}")
    with Server(tmp_path, LTR_LOG_FOLDER=None) as server:
        server.post("/ltr/rank", BODY)
        server.stop()
    assert not (tmp_path / "logs" / "api.log").exists()
    said = server.log.splitlines()
    world = f"(real events; data in {tmp_path}/var/data, registry in var/registry)"
    board = f"The board: {server.url}/board/"
    first = f"Every operation: {server.url}/docs. Try one:"
    *told, request = [line for line in said if not line.startswith("{")]
    assert told == [f"serving on {server.url}", world, board, first]
    assert request.startswith(f"curl -s {server.url}/ltr/rank ")
    warnings = [json.loads(line) for line in said if line.startswith("{")]
    assert [(line["level"], line["event"]) for line in warnings] == [("warning", "weights refused")]


def test_no_secret_is_ever_logged(tmp_path: Path) -> None:
    environment = {
        "LTR_API_KEYS": f"{KEY} other-{KEY}",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ACCESS_KEY_ID": "me",
        "LTR_SIGNING_KEY": SIGNING,
        "S3_BUCKET": "litgo-models",
        "S3_ENDPOINT": "http://127.0.0.1:9",  # nobody listens: every poll fails
        "LTR_S3_TIMEOUT_SECONDS": "0.2",
        "WEIGHTS_POLL_SECONDS": "0.2",
        "LTR_SHADOW_VERSION": "newest",
        "LTR_LOG_FOLDER": "logs",
    }
    with Server(tmp_path, environment) as server:
        server.post("/ltr/rank", BODY, headers={"x-api-key": KEY})
        server.post("/ltr/rank", BODY, headers={"x-api-key": f"wrong-{KEY}"}, expect=403)
        server.post("/ltr/rank", b"{" + KEY.encode(), headers=JSON | {"x-api-key": KEY}, expect=400)
        server.http.get(f"/ltr/health?key={KEY}", headers={"authorization": f"Bearer {KEY}"})
        server.post("/api/debug/reload_weights", headers={"x-api-key": KEY})
        server.stop()
    said = server.log + (tmp_path / "logs" / "api.log").read_text()
    assert "looking for weights failed" in said
    for secret in (KEY, SECRET, SIGNING):
        assert secret not in said


def test_a_request_that_breaks_is_answered_with_its_id_and_logged(tmp_path: Path, monkeypatch) -> None:
    from fastapi.testclient import TestClient

    from ltr_pipeline.serving.http.app import create_app
    from ltr_pipeline.serving.settings import ServingSettings
    from ltr_pipeline.settings import load

    settings = load(
        ServingSettings, log_folder=tmp_path / "logs", registry_uri=str(tmp_path / "r"), data_uri=str(tmp_path / "d")
    )
    app = create_app(settings)

    async def breaks(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr(app.state.parts.service, "rank", breaks)
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as client:
        answer = client.post("/ltr/rank", json=BODY)
    assert answer.status_code == 500
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.json()["error"]
    assert "ZeroDivisionError" not in answer.text
    failed, line = (line for line in lines(tmp_path) if line.get("request_id") == request_id)
    assert "nobody thought of it" in failed["exception"]
    assert (line["status"], line["outcome"], line["level"]) == (500, "error", "error")


def test_a_log_that_cannot_be_written_counts_its_lines_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file, not a folder")
    dropped: list[int] = []
    with Logs(tmp_path / "logs", dropped.append) as logs:
        logs.write(b"{}")
        structlog.get_logger().info("two")
    assert sum(dropped) == 2


def test_logging_is_as_before_afterwards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    with Logs(tmp_path / "logs"):
        logging.getLogger("some.library").warning("beware of %s", "the dog")
        structlog.get_logger().debug("not this")
    assert (structlog.get_config(), logging.getLogger().handlers) == (before, handlers)
    (line,) = lines(tmp_path)
    assert (line["event"], line["level"], line["logger"]) == ("beware of the dog", "warning", "some.library")
    assert json.loads(capfd.readouterr().err) == line
