"""Logs of other domains than lawyers and cases: each shows items, and has feedback on the better ones."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

FIRST = dt.datetime(2025, 7, 1, 8, tzinfo=dt.UTC)
LISTS, ITEMS, USERS, PER_LIST, DAYS = 200, 60, 40, 6, 10


class Thing(NamedTuple):
    """An item of a list: its number, how well it fits, its price, whether it is in stock."""

    number: int
    fit: float
    price: float
    stocked: bool


class Visit(NamedTuple):
    """A list that a user was shown, and which item was liked best."""

    number: int
    at: dt.datetime
    user: int
    things: list[Thing]
    best: Thing


def visits(count: int = LISTS, seed: int = 3) -> Iterator[Visit]:
    """Lists shown over some days."""
    chance = Random(seed)
    for number in range(count):
        things = [
            Thing(item, round(chance.random(), 3), round(50 * chance.random(), 2), chance.random() < 0.5)
            for item in chance.sample(range(ITEMS), PER_LIST)
        ]
        best = max(things, key=lambda thing: thing.fit + chance.random() / 2)
        yield Visit(number, FIRST + dt.timedelta(days=DAYS * number / count), chance.randrange(USERS), things, best)


def iso(at: dt.datetime, **later: float) -> str:
    return (at + dt.timedelta(**later)).isoformat().replace("+00:00", "Z")


def millis(at: dt.datetime, **later: float) -> int:
    return int((at + dt.timedelta(**later)).timestamp() * 1000)


def shop() -> Iterator[dict[str, Any]]:
    """A product search: lists of hits, clicks and orders, and other messages."""
    for visit in visits():
        about = {"meta": {"at": iso(visit.at)}, "session": {"visitor": {"id": f"v-{visit.user}"}}}
        hits = [{"sku": f"p-{t.number}", "bm25": t.fit, "price": t.price, "in_stock": t.stocked} for t in visit.things]
        answer = {"search": f"s-{visit.number}", "sku": f"p-{visit.best.number}"}
        yield {"type": "search.results", **about, "payload": {"search": f"s-{visit.number}", "hits": hits}}
        yield {"type": "click", **about, "payload": answer}
        if not visit.number % 5:
            yield {"type": "order", **about, "payload": answer}
        if not visit.number % 7:
            yield {"type": "page.view", **about, "payload": {"url": "/"}}


def leads() -> Iterator[dict[str, Any]]:
    """Leads for contractors: one message an item, numbers as ids, milliseconds, places from 0."""
    for visit in visits():
        about = {"contractor": 1000 + visit.user, "request_id": 5000 + visit.number}
        for place, thing in enumerate(visit.things):
            signals = {"distance_km": thing.price, "fit": thing.fit}
            shown = {"event": "lead_shown", "ts": millis(visit.at), **about, "lead": thing.number, "slot": place}
            yield shown | {"signals": signals}
        yield {"event": "lead_click", "ts": millis(visit.at, minutes=1), **about, "lead": visit.best.number}
        if not visit.number % 6:
            yield {"event": "lead_hired", "ts": millis(visit.at, hours=1), **about, "lead": visit.best.number}


def metarank(*, text: bool = False) -> Iterator[dict[str, Any]]:
    """Metarank's form: features by name and value, ids called `id`; times may be numbers written as text."""
    for number in range(ITEMS):
        fields = [{"name": "popularity", "value": number}, {"name": "title", "value": "…"}]
        yield {"event": "item", "id": f"e-{number}", "timestamp": iso(FIRST), "item": f"i-{number}", "fields": fields}
    for visit in visits():
        at = str(millis(visit.at)) if text else iso(visit.at)
        items = [
            {"id": f"i-{t.number}", "fields": [{"name": "fit", "value": t.fit}, {"name": "price", "value": t.price}]}
            for t in visit.things
        ]
        common = {"timestamp": at, "user": f"u-{visit.user}", "session": f"s-{visit.user}"}
        query = [{"name": "query", "value": "jeans"}]
        yield {"event": "ranking", "id": f"r-{visit.number}", **common, "fields": query, "items": items}
        answer = {"ranking": f"r-{visit.number}", "type": ("click", "purchase")[visit.number % 2], "fields": []}
        yield {"event": "interaction", "id": f"x-{visit.number}", **common, **answer, "item": f"i-{visit.best.number}"}


def kindless() -> Iterator[dict[str, Any]]:
    """Lists and answers of which none says what it is, and an outcome among the numbers."""
    for visit in visits():
        about = {"query": f"q-{visit.number}", "ts": visit.at.timestamp(), "uid": visit.user}
        shown = [
            {"doc": f"d-{t.number}", "score": t.fit, "age": t.price, "later": int(t is visit.best)}
            for t in visit.things
        ]
        yield {**about, "results": shown}
        yield {**about, "ts": visit.at.timestamp() + 60, "doc": f"d-{visit.best.number}"}


def searches() -> Iterator[dict[str, Any]]:
    """Lists that are known only by what was typed and who typed it."""
    for visit in visits():
        about = {"client": visit.user, "query": ("red shoes", "hat", "bag")[visit.number % 3]}
        docs = [{"id": f"d-{t.number}", "x": {"a": t.fit, "b": t.price}} for t in visit.things]
        yield {"kind": "serp", "at": iso(visit.at), **about, "docs": docs}
        yield {"kind": "tap", "at": iso(visit.at, minutes=1), **about, "doc": f"d-{visit.best.number}"}


def two_sided() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was shown and what was done, for a file each; the kind is what each has of its own."""
    shown, done = [], []
    for visit in visits():
        about = {"time": iso(visit.at), "user": f"u-{visit.user}", "surface": ("home", "search")[visit.number % 2]}
        items = [{"id": t.number, "features": {"a": t.fit, "b": t.price}} for t in visit.things]
        shown.append(about | {"impressions": items, "req": f"{visit.number:08x}"})
        action = ("like", "skip", "purchase")[visit.number % 3]
        done.append(about | {"action": action, "id": visit.best.number, "req": f"{visit.number:08x}"})
    return shown, done


def written(path: Path, messages: Iterable[dict[str, Any]], *, wrapped: bool = False) -> Path:
    """Write a log, wrapped by Docker's json-file driver or not."""
    lines = map(json.dumps, messages)
    if wrapped:
        envelope = {"stream": "stdout", "time": "2025-07-15T10:30:00.1Z"}
        lines = (json.dumps({"log": f"{line}\n"} | envelope, separators=(",", ":")) for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
