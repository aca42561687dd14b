"""Fuzzed requests to a real service: its answers by status, tracebacks in its log, its memory.

    python benchmarks/fuzz.py [--requests 100000] [--seed 7] [--connections 16]

Two models are published; exploration, interleaving, a shadow and reported lists are on, so that every part is met.
Every request begins as the printed example of an operation. Then its body is spoiled (values of any type where others
belong, keys missing, twice or unknown, JSON cut or padded), or its method, path, query, headers and the way its body is
sent, or bytes anywhere in it; a part of them is left as it is. Whoever gets no answer to half a request within a moment
hangs up. Prints the answers by status, and the service's memory after a tenth, half and all of them. Exits 1 where an
answer is a 5xx (but a 503 where a run is asked for, as nothing here can run one), the log has a traceback, memory grows
by more than 16 MB from the middle on, or the example of an operation is not answered afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import psutil
import structlog

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parents[1]))

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.serving.http.examples import examples, sample
from ltr_pipeline.serving.http.openapi import OPERATIONS
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.hostile import KEYS, TEXTS, VALUES
from support.service import Server

EXAMPLES = examples(sample(load_mapping()))
KEY = "a-key-of-the-fuzzing"
PARTS = {
    "LTR_API_KEYS": KEY,
    "LTR_EXPLORE_SHARE": "0.1",
    "LTR_INTERLEAVE_SHARE": "0.1",
    "LTR_INTERLEAVE_VERSION": "legacy",
    "LTR_SHADOW_SHARE": "0.1",
    "LTR_SHADOW_VERSION": "20250713_0215",
    "LTR_SHOWN": "reported",
}
ANSWER_SECONDS = 0.3  # for an answer to what may be half a request
ROOM = 16 << 20  # bytes of memory that may come and go
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "QUERY", "PRI", "get", "X")
PATHS = (
    *(
        "/",
        "//",
        "/docs",
        "/docs/",
        "/docs/oauth2-redirect",
        "/openapi.json",
        "/nope",
        "*",
        "",
        "http://a/ltr/health",
        "a:1",
    ),
    *(
        "/ltr/rank/",
        "/ltr//rank",
        "/ltr/../ltr/rank",
        "/ltr/%72ank",
        "/ltr/rank%00",
        "/ltr/%ff",
        "/%",
        "/\x7f",
        "/ltr/é",
    ),
    *("/static-offline-docs/", "/static-offline-docs/swagger-ui.css", "/static-offline-docs/..%2f..%2fapp.py"),
    *("/static-offline-docs/%00", "/static-offline-docs/" + "a" * 300, "/" + "a" * 17_000),
)
QUERIES = ("force=true", "force=", "force=%ff", "force=true&force=x", "&&&", "=", "a" * 5000, "x=x&" * 2000, "%", "#a")
HEADERS = (
    *("Origin: http://[", "Origin: null", "Origin: https://a", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: \xff"),
    *("Host: [", "Host:", "Host: a\x00", "Host: a, b", "X-API-Key: \xff\xfe", "X-API-Key:", "x-shadow-ltr: 1"),
    *(
        "Content-Type: text/plain",
        "Content-Type: application/json; charset=utf-16",
        "Content-Type:",
        "Content-Type: \xe9",
    ),
    *("Content-Length: -1", "Content-Length: 1e3", "Content-Length: 99999999999999999999", "Content-Length: 10"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Encoding: gzip", "Expect: 100-continue"),
    *("Upgrade: websocket\r\nConnection: upgrade", "Connection: close", "Connection: \x01", "Accept-Encoding: *;q=x"),
    *(
        "Range: bytes=5-2",
        "Range: bytes=0-0,-1,5-",
        "Range: x",
        "If-Range: x",
        "If-Modified-Since: x",
        "If-None-Match: *",
    ),
    *("X-Forwarded-For: 127.0.0.1", "Cookie: " + "a=b; " * 500, ": empty", "no colon", " folded", "X: " + "x" * 17_000),
    *("x: x\r\n" * 101, "X-Request-ID: \r", "traceparent: \x00"),
)


RUNS = "/monitoring/run-pipeline"
"""It is answered by 503 where nothing can run the pipeline, as here."""


class Requests:
    """Draws requests.

    Attributes
    ----------
    seen
        Ids of answers, for what users tell of them.
    failed
        What was answered by a 5xx.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.seen = ["nobody-gave-it"]
        self.failed: list[str] = []

    def draw(self) -> tuple[bytes, bool]:
        """Draw a request, and whether it is one whole request of HTTP."""
        chance = self._chance
        operation = chance.choice(OPERATIONS)
        method, path, body = operation.method.upper(), operation.path, b""
        headers = [f"X-API-Key: {KEY}", "Content-Type: application/json"]
        kind = chance.choice(("body", "body", "body", "head", "bytes", "none"))
        if (asks := EXAMPLES[operation.method, operation.path].asks) is not None:
            body = self._body(deepcopy(asks), spoil=kind == "body")
        if kind == "head":
            method, path = self._or(method, METHODS), self._or(path, PATHS)
            path += f"?{chance.choice(QUERIES)}" if chance.random() < 0.2 else ""
            headers = chance.sample([*headers, *chance.sample(HEADERS, 3)], chance.randrange(1, 5))
        message = self._written([f"{method} {path} HTTP/{self._version(kind)}", "Host: localhost", *headers], body)
        if kind == "bytes":
            message = self._spoilt_bytes(message)
        return message, kind in ("body", "none") and method != "HEAD"

    def _or(self, value: str, others: tuple[str, ...]) -> str:
        return self._chance.choice(others) if self._chance.random() < 0.4 else value

    def _version(self, kind: str) -> str:
        return (
            self._chance.choice(("1.1", "1.0", "2.0", "x")) if kind == "head" and self._chance.random() < 0.1 else "1.1"
        )

    def _written(self, lines: list[str], body: bytes) -> bytes:
        """Write a request whose body has a length, or comes in chunks."""
        if self._chance.random() < 0.9:
            return _head([*lines, f"Content-Length: {len(body)}"]) + body
        size = self._chance.randrange(1, 200)
        chunks = [
            b"%x\r\n%b\r\n" % (len(part), part) for part in (body[n : n + size] for n in range(0, len(body), size))
        ]
        return _head([*lines, "Transfer-Encoding: chunked"]) + b"".join(chunks) + b"0\r\n\r\n"

    def _body(self, example: Any, *, spoil: bool) -> bytes:
        if isinstance(example, dict) and "request_id" in example:
            example["request_id"] = self._chance.choice(self.seen)
        for event in example.get("events", []):
            event["request_id"] = self._chance.choice(self.seen)
        if not spoil:
            return json.dumps(example).encode()
        if self._chance.random() < 0.05:
            return self._chance.choice(TEXTS)
        for _ in range(self._chance.choice((1, 1, 2, 5))):
            self._spoil(example)
        body = json.dumps(example, ensure_ascii=self._chance.random() < 0.5).encode(errors="surrogatepass")
        return self._spoilt_bytes(body) if self._chance.random() < 0.3 else body

    def _spoil(self, inside: Any) -> None:
        """Change one thing, somewhere in the body."""
        chance = self._chance
        places: list[Any] = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        deeper = [inside[place] for place in places if isinstance(inside[place], dict | list) and inside[place]]
        if deeper and chance.random() < 0.7:
            self._spoil(chance.choice(deeper))
        elif isinstance(inside, list):
            change: Callable[[list[Any]], None] = chance.choice((self._repeat, self._put))
            change(inside)
        else:
            key = chance.choice([*places, chance.choice(KEYS)])
            if chance.random() < 0.2:
                inside.pop(key, None)
            else:
                inside[key] = deepcopy(chance.choice(VALUES))

    def _repeat(self, inside: list[Any]) -> None:
        inside += [deepcopy(each) for each in inside[: self._chance.randrange(3)] * self._chance.choice((1, 1, 1, 300))]

    def _put(self, inside: list[Any]) -> None:
        inside.insert(self._chance.randrange(len(inside) + 1), deepcopy(self._chance.choice(VALUES)))

    def _spoilt_bytes(self, data: bytes) -> bytes:
        """Cut, leave out, put in, repeat or change some bytes, most often near the start."""
        chance = self._chance
        for _ in range(chance.choice((1, 1, 2, 4))):
            place = chance.randrange(min(len(data), chance.choice((100, 400, 1 << 30))) + 1)
            size = chance.randrange(1, 20)
            data = chance.choice(
                (
                    data[:place],
                    data[:place] + data[place + size :],
                    data[:place] + chance.randbytes(size) + data[place:],
                    data[:place]
                    + chance.choice((b"\r\n", b"\n", b"\x00", b":", b" ", b'"', b"}", b"\xff"))
                    + data[place:],
                    data[:place] + data[place : place + size] * chance.choice((2, 50)) + data[place + size :],
                    data[:place] + chance.randbytes(1) + data[place + 1 :],
                )
            )
        return data


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")


async def ask(port: int, drawn: Requests, count: int, found: Counter[str]) -> None:
    """Send so many requests, one after the other."""
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for _ in range(count):
        message, whole = drawn.draw()
        if stream is None:
            stream = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        reader, writer = stream
        status, body = b"none", None
        try:
            async with asyncio.timeout(30 if whole else ANSWER_SECONDS):
                writer.write(message)
                status, body = await _answer(reader, whole=whole)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            found["unanswered" if whole else "hung up"] += 1
        else:
            found[status.decode()] += 1
            if status.startswith(b"5") and not _nothing_can_run(message, status):
                drawn.failed.append(f"{status.decode()} to {message[:300]!r}: {body!r}")
        if body is None:  # what comes next may be of this answer
            writer.close()
            stream = None
        elif body.startswith(b'{"request_id":"'):
            drawn.seen[len(drawn.seen) if len(drawn.seen) < 100 else hash(body) % 100 :] = [
                json.loads(body)["request_id"]
            ]
    if stream:
        stream[1].close()


def _nothing_can_run(message: bytes, status: bytes) -> bool:
    """Tell whether an answer says that no Airflow is there to run the pipeline, as it should here."""
    return status == b"503" and RUNS.encode() in message.partition(b"\r\n")[0]


async def _answer(reader: asyncio.StreamReader, *, whole: bool) -> tuple[bytes, bytes | None]:
    """Read an answer: its status, and its body if the connection can be used again."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    if not whole or not length or b"connection: close" in head.lower():
        return status, None
    return status, await reader.readexactly(int(length))


async def fuzz(port: int, drawn: Requests, count: int, connections: int) -> Counter[str]:
    found = Counter[str]()
    await asyncio.gather(*(ask(port, drawn, count // connections, found) for _ in range(connections)))
    return found


def attacked(folder: Path, count: int, chance: Random, connections: int) -> list[str]:
    """Fuzz a service and tell of it; what is wrong with it."""
    registry = Registry(LocalStorage(folder / "registry" / "ltr"))
    for version, high in (("20250713_0215", 0.75), ("20250714_0215", 0.5)):
        registry.publish(document(version, high=high), who="benchmark", why="fuzzing")
    found, memory, drawn = Counter[str](), [], Requests(chance)
    with Server(folder / "run", PARTS | {"LTR_REGISTRY_URI": str(folder / "registry")}) as server:
        for part in (count // 10, count * 4 // 10, count - count // 10 - count * 4 // 10):
            found += asyncio.run(fuzz(server.port, drawn, part, connections))
            memory.append(psutil.Process(server.pid).memory_info().rss)
        wrong = [f"{len(drawn.failed)} answers of 5xx", *drawn.failed[:5]] if drawn.failed else []
        wrong += [f"{found['unanswered']} whole requests were not answered"] if found["unanswered"] else []
        asked = {operation.path: _asked(server, operation) for operation in OPERATIONS if operation.path != RUNS}
        wrong += [f"{path}: {told}" for path, told in asked.items() if told >= 500]
        log = server.log
    if tracebacks := log.count("Traceback"):
        wrong.append(f"{tracebacks} tracebacks, the first: {log[log.index('Traceback') :].splitlines()[0]}")
    if memory[-1] - memory[1] > ROOM:
        wrong.append("memory grows")
    print(
        "| answer | times |\n|---|---|",
        *(f"| {status} | {seen:,} |" for status, seen in sorted(found.items())),
        sep="\n",
    )
    print("memory after a tenth, half and all of them:", *(f"{each / 2**20:.0f} MB" for each in memory))
    return wrong


def _asked(server: Server, operation: Any) -> int:
    """Status of the answer to an operation's example."""
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    asks = EXAMPLES[operation.method, operation.path].asks
    return server.http.request(operation.method, operation.path, json=asks, headers=headers).status_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--connections", type=int, default=16)
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    begin = perf_counter()
    with tempfile.TemporaryDirectory(prefix="ltr-fuzz-") as folder:
        wrong = attacked(Path(folder), chosen.requests, Random(chosen.seed), chosen.connections)
    print(f"{chosen.requests:,} requests, seed {chosen.seed}, {perf_counter() - begin:.0f} s")
    print(*(wrong or ["nothing is wrong"]), sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
