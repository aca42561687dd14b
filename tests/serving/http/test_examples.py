"""Requests to copy, from `/docs`, from what the service prints and from the documentation, lack no feature."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ltr_pipeline.mapping import Mapping, load_mapping
from ltr_pipeline.serving.http.examples import Sample, curl, sample
from ltr_pipeline.serving.weights.models import load
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import Feature, Golden, Weights, encode
from support.documents import document, model_text
from support.programs import CHECKOUT
from support.service import Server

PAGES = (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
KEY = "a-key-of-the-restaurants"
RESTAURANTS = """
kind = ["type"]
impression_kinds = ["shown"]
feedback_kinds = ["clicked"]
features = ["distance_km", "price_level", "rating", "is_open"]

[fields]
time = ["at"]
query_id = ["search.id"]
item_id = ["payload.restaurantId"]
user_id = ["guest_id"]
features = ["payload.signals"]
action = ["payload.what"]

[relevance]
opened = 1
booked = 3
"""


def trained(mapping: Mapping, *items: dict[str, float | None]) -> Weights:
    """Document of a model with the features of a mapping, and golden candidates with rising scores."""
    names = mapping.features
    text = model_text(names=names)
    model = msgspec.structs.replace(document().model, text=text, sha256=hashlib.sha256(text.encode()).hexdigest())
    first = dict.fromkeys(names, 0.2)
    golden = items or (first, first | {names[0]: 0.9})
    scores = [0.75 if (item[names[0]] or 0.0) > 0.5 else 0.25 for item in golden]
    return msgspec.structs.replace(
        document(),
        model=msgspec.structs.replace(model, importance={names[0]: 1.0}),
        features=[Feature(name=name, missing="as zero") for name in names],
        golden=[Golden(query_id="q1", items=list(golden), scores=scores)],
        linear_weights={name: 1 / len(names) for name in names},
    )


@pytest.fixture
def restaurants(tmp_path: Path) -> Path:
    path = tmp_path / "restaurants.toml"
    path.write_text(RESTAURANTS)
    return path


@pytest.fixture(scope="module")
def lawyers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As `make serve` starts it after a first night."""
    folder = tmp_path_factory.mktemp("lawyers")
    Registry(LocalStorage(folder / "registry" / "ltr")).publish(trained(load_mapping()), who="test", why="test")
    with Server(folder, LTR_REGISTRY_URI=str(folder / "registry")) as server:
        yield server


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def answered(command: str, **environment: str) -> list[dict[str, Any]]:
    """JSON objects that a command prints."""
    done = subprocess.run(
        ["bash", "-euc", command], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    decoder, answers, rest = json.JSONDecoder(), [], done.stdout.strip()
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].strip()
    return answers


def whole(answer: dict[str, Any]) -> bool:
    """Whether the model knows all features of a request, and lacks none."""
    return (answer["missing"], answer["unknown_features"], answer["fallback"]) == ({}, [], None)


def test_the_readmes_requests_lack_no_feature(lawyers: Server) -> None:
    (commands,) = [block for block in blocks(PAGES[0].read_text(), "bash") if "/ltr/rank" in block]
    ranked, fed, health = answered(commands.replace("http://127.0.0.1:8000", lawyers.url))
    assert whole(ranked)
    assert [item["item_id"] for item in ranked["items"]] == ["lawyer-456", "lawyer-789"]
    assert fed == {"accepted": 1}
    assert health["version"] == ranked["version"] == document().version


def test_the_printed_request_lacks_no_feature_and_is_a_test(lawyers: Server) -> None:
    (command,) = re.findall(r"^curl .*$", lawyers.log, re.MULTILINE)
    assert f"{lawyers.url}/docs" in lawyers.log
    (ranked,) = answered(command)
    assert whole(ranked)
    assert '"test": true' in command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_request_and_event_on_a_page_has_every_feature(page: Path) -> None:
    # Of the default mapping. A null stands where a page tells of missing features.
    shown = re.findall(r'"features": (\{"A":[^}]*\})', page.read_text())
    given = [json.loads(features) for features in shown if "…" not in features]
    every = load_mapping().features
    assert [features for features in given if None not in features.values() and tuple(features) != every] == []


def test_a_service_of_another_domain_shows_its_own_words(restaurants: Path, tmp_path: Path) -> None:
    mapping = load_mapping(restaurants)
    registry = tmp_path / "registry"
    seen = {"distance_km": 0.30000001192092896, "price_level": 2.0, "rating": 4.349999904632568, "is_open": None}
    far = seen | {"distance_km": 12345.678, "is_open": 1.0}
    given = {"LTR_MAPPING": str(restaurants), "LTR_REGISTRY_URI": str(registry), "LTR_API_KEYS": KEY}
    with Server(tmp_path / "service", given) as server:
        assert '"rating": 0.9' in json.dumps(server.get("/openapi.json"))  # made up, as there is no model
        Registry(LocalStorage(registry / "ltr")).publish(trained(mapping, seen, far), who="test", why="test")
        server.post("/api/debug/reload_weights", headers={"x-api-key": KEY})
        described = server.get("/openapi.json")
        assert not re.findall("lawyer|case_id|case-", json.dumps(described))
        key = {"x-api-key": KEY}
        bodies = {
            path: methods["post"]["requestBody"]["content"]["application/json"]["example"]
            for path, methods in described["paths"].items()
            if "requestBody" in methods.get("post", {})
        }
        assert [item["item_id"] for item in bodies["/ltr/rank"]["candidates"]] == ["restaurant-456", "restaurant-789"]
        assert bodies["/ltr/rank"]["query_id"] == "search-123"
        assert bodies["/ltr/rank"]["user_id"] == "guest-9"
        assert bodies["/ltr/rank"]["candidates"][1]["features"] == {
            "distance_km": 0.3,
            "price_level": 2.0,
            "rating": 4.35,
            "is_open": 1.0,  # another candidate's
        }
        assert whole(server.post("/ltr/rank", bodies["/ltr/rank"], headers=key))
        explained = server.post("/ltr/explain", bodies["/ltr/explain"], headers=key)
        assert (explained["missing"], explained["unknown_features"]) == ({}, [])
        assert bodies["/ltr/feedback"]["events"][0]["action"] == "booked"
        assert server.post("/ltr/feedback", bodies["/ltr/feedback"], headers=key, expect=202) == {"accepted": 1}
        (command,) = re.findall(r"^curl .*$", server.log, re.MULTILINE)
        (ranked,) = answered(command, LTR_API_KEY=KEY)
        assert whole(ranked)


def test_without_a_model_values_are_made_up_and_none_is_left_out(restaurants: Path) -> None:
    for mapping in (load_mapping(), load_mapping(restaurants)):
        found = sample(mapping)
        assert [tuple(features) for features in found.features] == [mapping.features] * 2
        assert None not in {value for features in found.features for value in features.values()}


def test_features_of_mapping_and_model_are_shown_together(restaurants: Path) -> None:
    model = load(encode(trained(load_mapping())), where="a document", tried=True)
    mapping = load_mapping(restaurants)
    found = sample(mapping, model)
    assert [*found.features[0]] == [*mapping.features, *load_mapping().features]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("context.lawyer_id", "lawyer-456"),
        ("restaurantId", "restaurant-456"),
        ("hotel.id", "hotel-456"),
        ("$.payload.id", "item-456"),
        ("item.productUUID", "product-456"),
        ("holiday-home-key", "holiday-home-456"),
        ("paid", "paid-456"),
        ("_id", "item-456"),
    ],
)
def test_an_id_is_like_the_name_of_its_field(path: str, shown: str) -> None:
    mapping = load_mapping()
    named = msgspec.structs.replace(mapping, fields={**mapping.fields, "item_id": (path,)})
    assert sample(named).items[0] == shown


def test_an_id_is_a_number_where_ids_may_be_numbers() -> None:
    mapping = msgspec.structs.replace(load_mapping(), ids="text or number")
    found = sample(mapping)
    assert (found.query_id, found.items, found.user_id) == ("123", ("456", "789"), "9")


def test_quotes_in_a_request_do_not_break_the_command(tmp_path: Path) -> None:
    found = Sample(query_id="it's", user_id="u", items=("a", "b"), features=({"A": 1.0}, {"A": 0.5}), action="won")
    shown = subprocess.run(
        ["bash", "-c", curl("http://x", found, key=False).replace("curl", "printf '%s\\n'", 1)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout.splitlines()[-1])["query_id"] == "it's"
