"""Requests and answers to copy, in the words of the mapping in use: its features, its actions, ids like its own.

Values of features come from a published model's golden requests, which are real candidates; without one they are made
up. So what ``/docs`` shows, and what is printed when the service starts, can be sent as it is.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, Final

import msgspec

from ltr_pipeline import mapping as meaning
from ltr_pipeline.schema import ITEM_ID, QUERY_ID, RATING, RATINGS, USER_ID
from ltr_pipeline.serving.weights.models import Loaded

__all__ = ["Example", "Sample", "curl", "examples", "sample"]

VERSION: Final = "20250714_0215"
REQUEST_ID: Final = "0c2b6d1e8f0a4d5c9b7e3f2a1d6c5b4a"
HIGH: Final = (1.0, 0.8, 0.9, 0.7, 0.6, 1.0, 0.8, 0.5)
LOW: Final = (0.5, 0.9, 0.4, 0.9, 0.7, 0.5, 0.6, 0.2)
NOUNS: Final = {QUERY_ID: "query", ITEM_ID: "item", USER_ID: "user"}
WRAPPERS: Final = frozenset({"context", "data", "event", "message", "payload", "properties"})
"""Objects that hold a message's fields and are not what an id is of."""

_END: Final = re.compile(r"(?i:^|[_-])(?i:ids?|uuid|key)$|(?<=[a-z])(?:Id|ID|Uuid|UUID|Key)$")
"""End of a field's name that says that it is an id."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of the examples: a query, a user, an action, and two items with features, the better one first.

    `rating` is None where the mapping has no path for one.
    """

    query_id: str
    user_id: str
    items: tuple[str, str]
    features: tuple[dict[str, float | None], dict[str, float | None]]
    action: str
    rating: int | None = None

    def candidates(self) -> list[dict[str, Any]]:
        """Return both items as a request names them."""
        pairs = zip(self.items, self.features, strict=True)
        return [{"item_id": item, "features": features} for item, features in pairs]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An operation's body, None where it takes none, and its answer."""

    asks: Any = None
    gives: Any


def sample(mapping: meaning.Mapping, model: Loaded | None = None) -> Sample:
    """Return a sample of this mapping's requests, with the features of the model that ranks, too."""
    names = tuple(dict.fromkeys((*mapping.model_features, *(model.scorer.features if model else ()))))
    better, worse = (model.sample if model else None) or ({}, {})
    return Sample(
        query_id=_id(mapping, QUERY_ID, "123"),
        user_id=_id(mapping, USER_ID, "9"),
        items=(_id(mapping, ITEM_ID, "456"), _id(mapping, ITEM_ID, "789")),
        features=(_features(names, better, HIGH), _features(names, worse, LOW)),
        action=max(mapping.relevance, key=mapping.relevance.__getitem__),
        rating=RATINGS[1] if mapping.paths(RATING) else None,
    )


def curl(url: str, found: Sample, *, key: bool) -> str:
    """Return a command that ranks the sample, as a test, which no model learns from."""
    body = {"query_id": found.query_id, "test": True, "candidates": found.candidates()}
    header = ' -H "X-API-Key: $LTR_API_KEY"' if key else ""
    sent = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl -s {url}/ltr/rank -H 'Content-Type: application/json'{header} -d {sent}"


def _features(names: Iterable[str], seen: Mapping[str, float | None], made_up: Sequence[float]) -> dict[str, Any]:
    """Return a value of each feature, in short: the one that was seen, else a made-up one."""
    values = {name: seen.get(name, value) for name, value in zip(names, cycle(made_up), strict=False)}
    return {name: None if value is None else _short(value) for name, value in values.items()}


def _short(value: float) -> float:
    """Return a number as people write it; a whole one may be a category, and stays."""
    return value if float(value).is_integer() else float(f"{value:.4g}")


def _id(mapping: meaning.Mapping, column: str, number: str) -> str:
    """Return an id such as the mapping's field suggests: ``restaurant-456`` of ``context.restaurant_id``."""
    if mapping.ids != "text":
        return number
    nouns = (noun for path in mapping.paths(column) for noun in _nouns(path))
    return f"{next(nouns, NOUNS[column])}-{number}"


def _nouns(path: str) -> Iterator[str]:
    """Yield what a field is the id of, by its own name, then by the objects that it is in."""
    for part in reversed(path.removeprefix(meaning.MESSAGE).split(".")):
        noun = re.sub(r"(?<=[a-z])(?=[A-Z])|_", "-", _END.sub("", part)).lower()
        if noun and noun not in WRAPPERS:
            yield noun


def examples(found: Sample) -> dict[tuple[str, str], Example]:
    """Return an example of every operation, by method and path."""
    above, below = found.candidates()
    return {
        ("post", "/ltr/rank"): Example(
            asks={"query_id": found.query_id, "user_id": found.user_id, "candidates": [above, below], "k": 5},
            gives=_ranked(found),
        ),
        ("post", "/ltr/explain"): Example(asks={"above": above, "below": below}, gives=_explained(found)),
        ("post", "/ltr/feedback"): Example(
            asks={"events": [_feedback(found)]},
            gives={"accepted": 1},
        ),
        ("post", "/ltr/shown"): Example(
            asks={"request_id": REQUEST_ID, "items": [found.items[0]]}, gives={"accepted": 1}
        ),
        ("get", "/monitoring/predictions"): Example(
            gives={"lists": [_shown(found)], "page": 1, "size": 50, "total": 1},
        ),
        **OPERATION,
    }


def _feedback(found: Sample) -> dict[str, Any]:
    rating = {} if found.rating is None else {"rating": found.rating}
    return {"query_id": found.query_id, "item_id": found.items[0], "action": found.action} | rating


def _shown(found: Sample) -> dict[str, Any]:
    return {
        "at": "2025-07-13T20:15:00Z",
        "query_id": found.query_id,
        "version": VERSION,
        "user_id": found.user_id,
        "ranking_id": REQUEST_ID,
        "items": list(found.items),
        "length": 2,
    }


def _ranked(found: Sample) -> dict[str, Any]:
    scored = zip(found.items, (1.27, -0.31), (1, 2), strict=True)
    return {
        "request_id": REQUEST_ID,
        "query_id": found.query_id,
        "version": VERSION,
        "model": "lightgbm",
        "fallback": None,
        "policy": VERSION,
        "items": [{"item_id": item, "score": score, "rank": rank} for item, score, rank in scored],
        "missing": {},
        "unknown_features": [],
    }


def _explained(found: Sample) -> dict[str, Any]:
    parts = dict(zip(found.features[0], (1.1, 0.6, -0.12), strict=False))
    return {
        "version": VERSION,
        "model": "lightgbm",
        "above": found.items[0],
        "below": found.items[1],
        "difference": round(sum(parts.values()), 2),
        "contributions": parts,
        "missing": {},
        "unknown_features": [],
    }


WATCH: Final = {
    "state": "passed",
    "version": VERSION,
    "sha256": "9f2c…",
    "since": 1752545100.25,
    "until": 1752545700.25,
    "requests": 5210,
    "failed": 0,
    "compared": 5150,
    "slow": 12,
    "reason": None,
    "rollback": None,
}
STATE: Final = {
    "source": "var/registry/ltr/latest/ltr_weights.json",
    "polls": 12,
    "reloads": 1,
    "outcome": "unchanged",
    "last_poll": 1752546000.5,
    "last_reload": 1752545100.25,
    "last_error": None,
    "pid": 4711,
    "version": VERSION,
    "sha256": "9f2c…",
    "former": "20250713_0215",
    "guard": WATCH,
    "refused": {},
}
HEALTH: Final = {
    "status": "live",
    "version": VERSION,
    "model": "lightgbm",
    "weights_age_seconds": 5400.0,
    "source": STATE["source"],
    "simulated": False,
    "guard": WATCH,
    "pid": 4711,
}
LISTED: Final = {
    "version": VERSION,
    "sha256": "9f2c…",
    "created_at": "2025-07-14T02:17:41Z",
    "is_latest": True,
    "pinned": False,
    "ndcg_at_5": 0.768,
    "parent": None,
    "problem": None,
    "in_use": True,
    "refused": None,
}
FIGURE: Final = {"value": 0.712, "low": 0.691, "high": 0.733, "n": 1204}
NIGHT: Final = {
    "kind": "night",
    "run": VERSION,
    "date": "2025-07-14",
    "verdict": "publish",
    "version": VERSION,
    "moved": True,
    "latest": VERSION,
    "champion": "20250713_0215",
    "reason": f"latest moved from 20250713_0215 to {VERSION}",
    "ndcg_at_5": FIGURE,
    "checks": {"ndcg_at_5": "pass"},
    "limits": {"ndcg_at_5": 0.65},
    "metrics": {"latency_p95_ms": 4.2},
    "impressions": 24000,
    "feedback": 3100,
}
POSTED: Final = {"accuracy": 0.95, "precision": 0.82}
DRIFTED: Final = {
    "name": "S",
    "status": "alert",
    "psi": {"trailing": 0.46, "weekday": 0.44},
    "ks": {"trailing": 0.31, "weekday": 0.3},
    "missing": 0.03,
    "reference_missing": 0.0,
}
DAY: Final = {
    "kind": "drift",
    "date": "2025-07-14",
    "status": "alert",
    "rows": 2000,
    "rankings": 200,
    "features": [DRIFTED],
    "alerts": [{"kind": "drift", "subject": "S", "what": "S differs from both references: PSI 0.46 and 0.44"}],
}
OPERATION: Final = {
    ("get", "/monitoring/metrics"): Example(
        gives={
            "current": NIGHT,
            "history": [NIGHT],
            "posted": [
                {"kind": "posted", "date": "2025-07-14", "at": "2025-07-14T09:00:00Z", "metrics": POSTED},
            ],
            "page": 1,
            "size": 50,
            "total": 1,
        }
    ),
    ("post", "/monitoring/metrics"): Example(
        asks=POSTED, gives={"recorded": True, "metrics": 2, "at": "2025-07-14T09:00:00Z", "said": ""}
    ),
    ("get", "/monitoring/drift"): Example(gives={"report": DAY, "history": [DAY], "page": 1, "size": 50, "total": 1}),
    ("get", "/monitoring/pipeline-status"): Example(
        gives={
            "version": VERSION,
            "latest": VERSION,
            "last_run": {
                "run": VERSION,
                "date": "2025-07-14",
                "verdict": "publish",
                "version": VERSION,
                "reason": NIGHT["reason"],
            },
            "running": False,
            "next_at": "2025-07-15T02:15:00Z",
            "said": "",
        }
    ),
    ("post", "/monitoring/run-pipeline"): Example(
        asks={"retrain": True}, gives={"run": None, "address": "/monitoring/pipeline-status"}
    ),
    ("get", "/ltr/health"): Example(gives=HEALTH),
    ("get", "/ltr/ready"): Example(gives={"ready": True, "version": VERSION}),
    ("get", "/api/debug/reload_weights"): Example(gives=STATE),
    ("post", "/api/debug/reload_weights"): Example(gives=STATE),
    ("get", "/ltr/versions"): Example(gives={"in_use": VERSION, "versions": [LISTED], "refused": {}, "pid": 4711}),
    ("get", "/metrics"): Example(gives="# TYPE ltr_predictions_total counter\n"),
}
"""Examples of what is the same in every domain."""
