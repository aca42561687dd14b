"""The real service over real HTTP: what docs/api.md says of right and wrong requests."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ltr_pipeline.serving.http.app import create_app
from ltr_pipeline.serving.ranking.service import CrowdedError
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.programs import CHECKOUT
from support.service import Server

KEYS = ("first-key-of-the-test", "second-key-of-the-test")
HEADERS = {"content-type": "application/json", "x-api-key": KEYS[0]}
API = CHECKOUT / "docs" / "api.md"
MONITORING = CHECKOUT / "docs" / "monitoring.md"
LIMIT = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Ranks by a document with the features A and S; asks for keys."""
    folder = tmp_path_factory.mktemp("api")
    Registry(LocalStorage(folder / "registry" / "ltr")).publish(document(), who="test", why="test")
    more = {"LTR_MAX_CANDIDATES": "20", "LTR_MAX_BODY_BYTES": str(LIMIT), "LTR_BODY_SECONDS": "1"}
    with Server(folder, more, LTR_API_KEYS=" ".join(KEYS), LTR_REGISTRY_URI=str(folder / "registry")) as server:
        yield server


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As `make serve` starts it in a fresh clone; it also listens where other machines would come in."""
    more = {"LTR_SERVE_HOST": "0.0.0.0", "LTR_SHOWN": "reported"}
    with Server(tmp_path_factory.mktemp("keyless"), more) as server:
        yield server


def request(features: str = '{"A": 0.9, "S": 0.1}', **more: Any) -> bytes:
    """Body whose second candidate has these features, as they are."""
    head = json.dumps({"query_id": "q1", **more})[:-1]
    first = '{"item_id": "a", "features": {"A": 0.2, "S": 0.5}}'
    return f'{head}, "candidates": [{first}, {{"item_id": "b", "features": {features}}}]}}'.encode()


def candidates(*items: Any, **more: Any) -> bytes:
    return json.dumps({"query_id": "q1", "candidates": items, **more}).encode()


ITEM = {"item_id": "a", "features": {"A": 1.0}}
DEEP = b"[" * 40_000 + b"]" * 40_000

WRONG = {
    "empty": (b"", 400, "not JSON"),
    "cut off": (request()[:-3], 400, "not JSON"),
    "text after it": (request() + b"x", 400, "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + request(), 400, "not JSON"),
    "utf-16": (request().decode().encode("utf-16"), 400, "not JSON"),
    "NaN": (request('{"A": NaN}'), 400, "not JSON"),
    "Infinity": (request('{"A": -Infinity}'), 400, "not JSON"),
    "not utf-8 in an id": (request().replace(b"q1", b"q\xff"), 400, "not JSON"),
    "not utf-8 in a feature's name": (request().replace(b'"A": 0.9', b'"\xff": 0.9'), 422, "candidate 1"),
    "deep": (request().replace(b"0.9", DEEP), 400, "nested too deep"),
    "deep outside": (DEEP, 422, "object"),
    "nested feature": (request('{"A": [[0.1]]}'), 422, "candidate 1 (item_id 'b'): feature A"),
    "too large": (request(note="x" * LIMIT), 413, "LTR_MAX_BODY_BYTES"),
    "list": (b"[]", 422, "object"),
    "number": (b"3", 422, "object"),
    "null": (b"null", 422, "object"),
    "unknown field": (request(canidates=[]), 422, "unknown key 'canidates'; did you mean candidates? The known"),
    "unknown field of a candidate": (
        candidates({**ITEM, "id": 1}),
        422,
        "unknown key 'id' at `$.candidates[0]`. The known",
    ),
    "no query_id": (json.dumps({"candidates": [ITEM]}).encode(), 422, "query_id"),
    "no candidates": (b'{"query_id": "q"}', 422, "candidates"),
    "no item_id": (candidates({"features": {}}), 422, "item_id"),
    "no features": (candidates({"item_id": "a"}), 422, "features"),
    "empty candidates": (candidates(), 422, "$.candidates"),
    "too many candidates": (candidates(*[{**ITEM, "item_id": str(n)} for n in range(21)]), 422, "LTR_MAX_CANDIDATES"),
    "candidate is text": (candidates("a"), 422, "$.candidates"),
    "long query_id": (candidates(ITEM, query_id="x" * 257), 422, "$.query_id"),
    "long item_id": (candidates({**ITEM, "item_id": "x" * 257}), 422, "item_id"),
    "long group": (candidates({**ITEM, "group": "x" * 257}), 422, "group"),
    "long feature's name": (request(json.dumps({"x" * 257: 1})), 422, "candidate 1 (item_id 'b'): a feature's name"),
    "empty query_id": (candidates(ITEM, query_id=""), 422, "$.query_id"),
    "empty item_id": (candidates({**ITEM, "item_id": ""}), 422, "item_id"),
    "number as id": (candidates({**ITEM, "item_id": 7}), 422, "item_id"),
    "available is text": (candidates({**ITEM, "available": "yes"}), 422, "available"),
    "item twice": (
        candidates(ITEM, {**ITEM, "item_id": "b"}, ITEM),
        422,
        "candidate 2: item_id 'a' is also candidate 0",
    ),
    "probability is text": (request(probability="yes"), 422, "$.probability"),
    "k of 0": (request(k=0), 422, "$.k"),
    "negative k": (request(k=-1), 422, "$.k"),
    "k is a fraction": (request(k=1.5), 422, "$.k"),
    "k is text": (request(k="1"), 422, "$.k"),
    "k of thousands of digits": (request().replace(b'"q1"', b'"q1", "k": ' + b"9" * 5000), 422, "$.k"),
    "feature is text": (request('{"A": 0.5, "S": "high"}'), 422, "candidate 1 (item_id 'b'): feature S"),
    "feature is a boolean": (request('{"A": true}'), 422, "candidate 1 (item_id 'b'): feature A"),
    "feature is an object": (request('{"A": {}}'), 422, "candidate 1 (item_id 'b'): feature A"),
    "unknown feature is text": (request('{"A": 1, "Z": "x"}'), 422, "candidate 1 (item_id 'b'): feature Z"),
    "beyond float32": (request('{"A": 1e39}'), 422, "candidate 1 (item_id 'b'): feature A is beyond"),
    "beyond float64": (request('{"A": 1e400}'), 422, "candidate 1 (item_id 'b')"),
    "hundreds of digits": (request('{"A": ' + "9" * 400 + "}"), 422, "candidate 1 (item_id 'b')"),
    "thousands of digits": (request('{"A": ' + "9" * 5000 + "}"), 422, "candidate 1 (item_id 'b')"),
    "short list": (
        request("[0.1]"),
        422,
        "candidate 1 (item_id 'b'): 1 features, but the model has the 2 features A, S",
    ),
    "long list": (request("[0.1, 0.2, 0.3]"), 422, "the 2 features A, S"),
    "empty list": (request("[]"), 422, "the 2 features A, S"),
    "text in a list": (request('[0.1, "x"]'), 422, "candidate 1 (item_id 'b'): feature 1 is not a number"),
    "features are null": (request("null"), 422, "candidate 1 (item_id 'b'): features must be"),
    "features are text": (request('"A"'), 422, "candidate 1 (item_id 'b'): features must be"),
    "features are a number": (request("1"), 422, "candidate 1 (item_id 'b'): features must be"),
}

RIGHT: dict[str, tuple[bytes, Callable[[Any], bool]]] = {
    "missing": (request("{}"), lambda a: a["missing"]["A"] == {"candidates": 1, "read_as": "zero"}),
    "null": (request('{"A": null, "S": 1}'), lambda a: list(a["missing"]) == ["A"]),
    "null in a list": (request("[null, 1]"), lambda a: list(a["missing"]) == ["A"]),
    "unknown": (request('{"A": 1, "Z": 2, "Y": 1e39}'), lambda a: a["unknown_features"] == ["Y", "Z"]),
    "none available": (candidates({**ITEM, "available": False}), lambda a: a["items"] == []),
    "unread": (candidates(ITEM, {"item_id": "b", "features": 7, "available": False}), lambda a: len(a["items"]) == 1),
    "large k": (request(k=10**30), lambda a: len(a["items"]) == 2),
    "key twice": (request('{"A": 0.1, "S": 0, "A": 0.9}'), lambda a: a["items"][0]["item_id"] == "b"),
    "integer": (request('{"A": 1, "S": 0}'), lambda a: a["items"][0] == {"item_id": "b", "score": 0.75, "rank": 1}),
    "small": (request('{"A": -0.0, "S": 1e-400}'), lambda a: a["missing"] == {}),
    "list": (request("[0.9, 0.1]"), lambda a: a["items"][0]["item_id"] == "b"),
    "explained": (request(explain=True), lambda a: set(a["items"][0]["contributions"]) == {"A", "S"}),
    "none explained": (candidates({**ITEM, "available": False}, explain=True), lambda a: a["items"] == []),
    "surrogates": (candidates({**ITEM, "item_id": "\U0001f4a9"}), lambda a: a["items"][0]["item_id"] == "\U0001f4a9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_request_is_told_what_is_wrong(server: Server, case: str) -> None:
    body, status, words = WRONG[case]
    answer = server.post("/ltr/rank", body, headers=HEADERS, expect=status)
    assert words in answer["error"]
    assert len(answer["error"]) <= 1000


@pytest.mark.parametrize("case", RIGHT)
def test_odd_request_is_taken_as_documented(server: Server, case: str) -> None:
    body, fits = RIGHT[case]
    answer = server.post("/ltr/rank", body, headers=HEADERS)
    assert fits(answer), answer


def test_depth_is_never_an_error_of_the_service(server: Server) -> None:
    for depth in range(800, 1000):  # somewhere here the interpreter's limit is met, at one of two readers
        body = request('{"A": ' + "[" * depth + "]" * depth + "}")
        assert server.http.post("/ltr/rank", content=body, headers=HEADERS).status_code in (400, 422)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
@pytest.mark.parametrize("path", ["/ltr/rank", "/ltr/explain"])
def test_body_must_be_said_to_be_json(server: Server, path: str, kind: str | None) -> None:
    headers = {"x-api-key": KEYS[0]} | ({} if kind is None else {"content-type": kind})
    assert "Content-Type" in server.post(path, request(), headers=headers, expect=415)["error"]


def test_content_type_may_name_a_charset(server: Server) -> None:
    server.post("/ltr/rank", request(), headers=HEADERS | {"content-type": "Application/JSON; charset=utf-8"})


def test_unknown_path_and_method_are_answered_alike(server: Server) -> None:
    assert server.get("/ltr/rnak", expect=404).keys() == {"error"}
    answer = server.http.get("/ltr/rank")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json().keys() == {"error"}
    assert server.http.delete("/api/debug/reload_weights").headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/ltr/health", "/ltr/ready", "/metrics", "/docs", "/openapi.json"])
def test_head_is_answered_like_get_without_a_body(server: Server, path: str) -> None:
    got, asked = server.http.get(path), server.http.head(path)
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]


def test_redirects_stay_here_whatever_the_caller_says_its_host_is(server: Server) -> None:
    there = server.http.get("/", headers={"host": "elsewhere.example"})
    assert (there.status_code, there.headers["location"]) == (307, "/docs")
    assert server.http.get("/ltr/health/", headers={"host": "elsewhere.example"}).status_code == 404


def test_body_in_chunks_is_read_up_to_the_limit(server: Server) -> None:
    chunks = [request()[start : start + 7] for start in range(0, len(request()), 7)]
    assert server.http.post("/ltr/rank", content=iter(chunks), headers=HEADERS).status_code == 200
    endless = (b" " * 1000 for _ in range(LIMIT))
    assert server.http.post("/ltr/rank", content=endless, headers=HEADERS).status_code == 413


def raw(server: Server, data: bytes) -> bytes:
    """First bytes of the answer to what is sent as it is."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        return connection.recv(65536)


def head(length: int) -> bytes:
    return (
        f"POST /ltr/rank HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-API-Key: {KEYS[0]}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_slow_body_is_given_up_while_others_are_answered(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        slow.sendall(head(len(request())) + request()[:20])
        server.post("/ltr/rank", request(), headers=HEADERS)
        assert b"408" in slow.recv(65536).splitlines()[0]


def test_client_that_hangs_up_is_no_error(server: Server) -> None:
    last = server.http.post("/ltr/rank", content=request(), headers=HEADERS).headers["x-request-id"]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head(1000) + request()[:20])
    server.until(lambda: '"event":"request"' in server.log.partition(last)[2])  # its line follows the last one's
    server.post("/ltr/rank", request(), headers=HEADERS)
    assert "Traceback" not in server.log


def test_what_is_no_http_is_refused(server: Server) -> None:
    assert raw(server, b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/ltr/rank", "/api/debug/reload_weights"])
def test_writes_need_one_of_the_keys(server: Server, path: str) -> None:
    body = {"content-type": "application/json"}
    assert "X-API-Key" in server.post(path, request(), headers=body, expect=401)["error"]
    for wrong in ("", "first-key-of-the-tesT", "first-key-of-the-test second-key-of-the-test", "schl\u00fcssel"):
        headers = [(b"content-type", b"application/json"), (b"x-api-key", wrong.encode())]
        answer = server.http.post(path, content=request(), headers=headers)
        assert answer.status_code == 403
        assert KEYS[0] not in answer.text
    for key in KEYS:
        last = server.http.post(path, content=request(), headers=body | {"x-api-key": key})
        assert last.status_code == 200
    server.until(lambda: last.headers["x-request-id"] in server.log)  # lines are written in order, a little later
    assert KEYS[0] not in server.log


FOREIGN = [
    {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"},
    {"sec-fetch-site": "same-site"},  # another port, or another name of one domain
    {"origin": "https://elsewhere.example"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "null"},
    {"origin": "http://["},  # no URL at all
]


@pytest.mark.parametrize(
    "path", ["/ltr/rank", "/ltr/explain", "/ltr/feedback", "/ltr/shown", "/api/debug/reload_weights"]
)
@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_writes_nothing(
    server: Server, keyless: Server, path: str, headers: dict[str, str]
) -> None:
    for asked, key in ((server, {"x-api-key": KEYS[0]}), (keyless, {})):
        answer = asked.http.post(path, headers=headers | key)
        assert answer.status_code == 403
        assert "another site" in answer.json()["error"]


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": "own"}])
def test_the_services_own_pages_may_write(keyless: Server, headers: dict[str, str]) -> None:
    headers = {name: keyless.url if value == "own" else value for name, value in headers.items()}
    keyless.post("/api/debug/reload_weights", headers=headers)


def test_an_explanation_too_many_is_answered_by_429(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How many are too many is a test of the service without HTTP (tests/serving/ranking/test_fallback.py)."""
    monkeypatch.chdir(tmp_path)
    app = create_app()

    async def crowded(_body: bytes) -> None:
        raise CrowdedError

    monkeypatch.setattr(app.state.parts.service, "explain", crowded)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        answer = client.post("/ltr/explain", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "explanations are under way" in answer.json()["error"]


def test_reading_needs_no_key(server: Server) -> None:
    for path in ("/ltr/health", "/ltr/ready", "/api/debug/reload_weights"):
        server.get(path)
    assert "ltr_predictions_total" in server.metrics()


def test_an_explanation_takes_a_core_for_long_and_needs_a_key(server: Server) -> None:
    pair = {"above": ITEM, "below": {**ITEM, "item_id": "b"}}
    server.post("/ltr/explain", pair, expect=401)
    assert server.post("/ltr/explain", pair, headers=HEADERS)["difference"] == 0.0


def test_without_keys_this_machine_may_write(keyless: Server) -> None:
    answer = keyless.post("/ltr/rank", request())
    assert (answer["version"], answer["model"]) == ("legacy", "legacy")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        keyless.post("/ltr/rank", request(), headers={"host": host, "content-type": "application/json"})


@pytest.mark.parametrize(
    "header",
    [
        {"x-forwarded-for": "203.0.113.9"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-real-ip": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x-forwarded-proto": "https"},
        {"via": "1.1 proxy"},
        {"host": "ltr.example.org"},
        {"host": "[::1"},
    ],
)
def test_without_keys_what_a_proxy_passes_on_may_not(keyless: Server, header: dict[str, str]) -> None:
    headers = {"content-type": "application/json"} | header
    assert "LTR_API_KEYS" in keyless.post("/ltr/rank", request(), headers=headers, expect=403)["error"]
    keyless.post("/api/debug/reload_weights", headers=header, expect=403)


def test_without_keys_other_machines_may_not(keyless: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, but tells this machine's own address
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    headers = {"host": "127.0.0.1"}
    answer = keyless.http.post(f"http://{address}:{keyless.port}/ltr/rank", json={}, headers=headers)
    assert answer.status_code == 403
    assert keyless.http.get(f"http://{address}:{keyless.port}/ltr/health").status_code == 200


def examples() -> list[str]:
    """Commands of docs/api.md, and of the part of docs/monitoring.md that is about the API."""
    monitoring = MONITORING.read_text().partition("\n## The API\n")[2].partition("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```", API.read_text() + monitoring, re.MULTILINE | re.DOTALL)


def test_every_operation_has_a_printed_example(keyless: Server) -> None:
    printed = "\n".join(examples())
    paths = keyless.get("/openapi.json")["paths"]
    assert all(f"http://127.0.0.1:8000{path}" in printed for path in paths)
    assert "-X POST http://127.0.0.1:8000/api/debug/reload_weights" in printed


@pytest.mark.parametrize("command", examples())
def test_printed_example_works(keyless: Server, command: str) -> None:
    served = keyless.get("/openapi.json")["paths"]
    assert set(re.findall(r"http://127\.0\.0\.1:8000(/[^\s?']*)", command)) <= served.keys()
    command = command.replace("127.0.0.1:8000", f"127.0.0.1:{keyless.port}")
    done = subprocess.run(["bash", "-euc", f"LTR_API_KEY=; {command}"], capture_output=True, text=True, check=True)
    if "/monitoring/run-pipeline" in command:  # here nothing can run it; test_monitoring.py begins runs
        assert "LTR_AIRFLOW_URL" in json.loads(done.stdout)["error"]
    elif command.rstrip().endswith(f"{keyless.port}/metrics"):
        assert "ltr_predictions_total" in done.stdout
    else:
        assert "error" not in json.loads(done.stdout)


def test_printed_answer_is_the_real_one(keyless: Server) -> None:
    (printed,) = re.findall(r"^```json\n(.*?)^```", API.read_text(), re.MULTILINE | re.DOTALL)
    command = examples()[0].replace("127.0.0.1:8000", f"127.0.0.1:{keyless.port}")
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=True)
    expected, real = json.loads(printed), json.loads(done.stdout)
    for item in real["items"]:
        item["score"] = round(item["score"], 6)
    assert {**real, "request_id": expected["request_id"]} == expected
