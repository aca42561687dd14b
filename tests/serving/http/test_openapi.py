"""The description of the API: true of the real service, and shown in a real browser without the internet."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright
from starlette.routing import Route

from ltr_pipeline.errors import RequestError
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving import wire
from ltr_pipeline.serving.http.app import create_app
from ltr_pipeline.serving.http.examples import examples, sample
from ltr_pipeline.serving.http.openapi import OPERATIONS, Operation
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import load
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support import servers
from support.documents import document
from support.service import Server

EXAMPLES = examples(sample(load_mapping()))
KEY = "a-key-for-the-robots"
CHROMIUM = Path("/usr/bin/chromium")
QUIET = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
BOUNDED = "--mode all --max-examples 50 --generation-deterministic --no-color"

RUNS = ("--exclude-path", "/monitoring/run-pipeline")
"""Here nothing can run the pipeline, which is answered by 503."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    Registry(LocalStorage(folder / "registry" / "ltr")).publish(document(), who="test", why="test")
    with Server(folder, LTR_API_KEYS=KEY, LTR_REGISTRY_URI=str(folder / "registry")) as server:
        yield server


def test_no_request_made_from_the_description_breaks_the_service(server: Server, tmp_path: Path) -> None:
    # Schema-valid requests may be refused: how long a list of features must be is the model's to say.
    program = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{server.url}/openapi.json",
        "--header",
        f"X-API-Key: {KEY}",
    ]
    done = subprocess.run(
        [*program, *BOUNDED.split(), *RUNS, "--exclude-checks", "positive_data_acceptance"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert re.search(r"[1-9]\d\d+ generated", done.stdout)
    assert "Traceback" not in server.log


def test_every_route_is_described(tmp_path: Path) -> None:
    app = create_app(load(ServingSettings, registry_uri=str(tmp_path)))
    served = {
        (method.lower(), route.path)
        for route in app.routes
        if isinstance(route, Route) and route.include_in_schema
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(method, path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert described == served


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_examples_are_what_the_structs_take(operation: Operation) -> None:
    example = EXAMPLES[operation.method, operation.path]
    if operation.asks:
        wire.decode(json.dumps(example.asks).encode(), operation.asks)
    if operation.gives:
        msgspec.convert(example.gives, operation.gives)


def test_what_writes_asks_for_a_key_and_what_is_wrong_is_documented(server: Server) -> None:
    description = server.get("/openapi.json")
    rank = description["paths"]["/ltr/rank"]["post"]
    assert set(rank["responses"]) == {"200", "400", "401", "403", "408", "413", "415", "422", "429", "503"}
    assert {"key": []} in rank["security"]
    assert [header["name"] for header in rank["parameters"]] == ["x-shadow-ltr"]
    assert "security" not in description["paths"]["/ltr/health"]["get"]
    assert description["components"]["schemas"]["RankRequest"]["properties"]["k"]["description"].startswith("How many")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
VALUES = st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=3))
FEATURES = st.one_of(st.dictionaries(st.sampled_from(["A", "S", "Z"]), VALUES), st.lists(VALUES, max_size=3), JSON)
CANDIDATES = st.lists(
    st.fixed_dictionaries({"item_id": st.text(max_size=3) | JSON, "features": FEATURES}, optional={"available": JSON}),
    max_size=4,
)
REQUESTS = st.fixed_dictionaries(
    {"query_id": st.text(max_size=3), "candidates": CANDIDATES | JSON}, optional={"k": JSON, "user_id": JSON, "z": JSON}
)


@given((REQUESTS | JSON).map(lambda request: json.dumps(request).encode()) | st.binary(), st.data())
@example(b'{"query_id":"q","candidates":[{"item_id":"a","features":{"\xff":1}}]}', None)
def test_decoding_gives_a_request_or_says_why_not(body: bytes, data: Any) -> None:
    if data is not None and body and data.draw(st.booleans()):  # a byte that is not what it was
        at = data.draw(st.integers(0, len(body) - 1))
        body = body[:at] + data.draw(st.binary(max_size=2)) + body[at + 1 :]
    with suppress(RequestError):
        request = wire.decode(body, wire.RankRequest)
        wire.check_candidates(request.candidates, 3)
        read = Scorer.from_linear({"A": 1.0}, ["A", "S"]).read(request.candidates)
        assert read.matrix.shape == (len(request.candidates), 2)
        msgspec.json.encode([request.query_id, read.unknown])  # what is let in can be answered


def test_docs_page_is_shown_without_the_internet(server: Server, tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        servers.missing("Chromium", f"install the package chromium, for {CHROMIUM}")
    elsewhere: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.on("request", lambda asked: urlsplit(asked.url).hostname == "127.0.0.1" or elsewhere.append(asked.url))
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{server.url}/docs")
        page.locator("#operations-Ranking-post_ltr_rank").click()
        page.get_by_role("button", name="Try it out").click()
        page.locator(".authorization__btn").first.click()
        page.get_by_label("auth-api-key").or_(page.locator(".auth-container input")).first.fill(KEY)
        page.locator(".auth-btn-wrapper .authorize").click()
        page.locator(".auth-btn-wrapper .btn-done").click()
        page.get_by_role("button", name="Execute").click()
        answer = page.locator(".live-responses-table .response-col_status").last
        answer.wait_for()
        page.screenshot(path=tmp_path / "docs.png", full_page=True)
        assert answer.inner_text().split()[0] == "200"
        browser.close()
    assert [url for url in elsewhere if not url.startswith("data:")] == []
    assert wrong == []
