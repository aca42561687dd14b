"""The service against the ordinary way to serve a ranker, and against LightGBM alone.

    python benchmarks/serving.py [--rounds 7] [--seconds 3]
    python benchmarks/serving.py --memory [--requests 1000 10000 100000]

One request ranks 100 candidates with 30 features by name, 81 KB of JSON, with 200 trees; the features are float32, as
the model takes them. Both services are processes of their own with one worker each and answer the same bytes; the
client is a third process, the same for both. They take turns, so that whatever else the machine does meets all of
them. Events and metrics are on, as they are by default; events go to a spool in a temporary folder.

a. requests per second at 16 connections against the naive service: FastAPI, pydantic models, a pandas DataFrame and
   scikit-learn's wrapper, ``LGBMRanker(n_jobs=1)``; wanted: at least 10 times as many. Beside it the processor time of
   each service a request, which other programs on the machine change less
b. p95 at one connection, from the request's first byte to the answer's last, against the p95 of
   ``Booster.predict(matrix, num_threads=1)`` alone on the same matrix, by the client while the service rests, in turns
   of a fraction of a second, for requests by name and for those with a list in the model's order; wanted: at most 1.3
   times as long
c. p95 at one connection of 50 requests a second, all of them scored by a shadow of another version, too, against a
   service without a shadow
d. with ``--memory``: resident memory of one worker with 500 trees after so many requests; wanted: under 200 MB, flat

Printed are the medians of the rounds, and the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from ltr_pipeline.local.ports import free_port, listens
from ltr_pipeline.local.programs import Program, stop, wait
from ltr_pipeline.scoring.latency import cpu_name
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import Feature, Golden, Model
from support.documents import document

CANDIDATES, FEATURES, TREES, MEMORY_TREES = 100, 30, 200, 500
CONNECTIONS = 16
PAUSE = 0.02  # seconds between two requests that a shadow has time for
SERVED, SHADOW = "20250714_0215", "20250713_0215"
NAMES = [f"feature_{number:02}" for number in range(FEATURES)]
SLICES = 10
"""Parts of a round at one connection; in between, predict alone."""

START_SECONDS = 60.0


def train(trees: int) -> lgb.LGBMRanker:
    """Ranker of 200 random lists of 50 items."""
    rng = np.random.default_rng(1)
    matrix = rng.random((10_000, FEATURES))
    relevance = np.digitize(matrix[:, :5].sum(axis=1) + rng.normal(0, 0.5, len(matrix)), [2, 2.5, 3])
    ranker = lgb.LGBMRanker(n_estimators=trees, num_leaves=31, n_jobs=1, verbose=-1)
    return ranker.fit(matrix, relevance, group=[50] * 200, feature_name=NAMES)


def publish(folder: Path, ranker: lgb.LGBMRanker, version: str = SERVED) -> None:
    """Put the model into a registry, as a night does."""
    text = ranker.booster_.model_to_string()
    rows = np.random.default_rng(2).random((5, FEATURES)).astype(np.float32)
    made = msgspec.structs.replace(
        document(version),
        model=Model(
            text=text,
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            trees=ranker.booster_.num_trees(),
            importance={},
        ),
        features=[Feature(name=name, missing="zero") for name in NAMES],
        golden=[
            Golden(
                query_id="q",
                items=[dict(zip(NAMES, map(float, row), strict=True)) for row in rows],
                scores=ranker.booster_.predict(rows, raw_score=True).tolist(),
            )
        ],
        linear_weights=dict.fromkeys(NAMES, 1 / FEATURES),
    )
    Registry(LocalStorage(folder / "registry" / "ltr")).publish(made, who="benchmark", why="to measure")


def sample() -> Any:
    """Features of a request."""
    return np.random.default_rng(3).random((CANDIDATES, FEATURES)).astype(np.float32)


def request(port: int, *, by_name: bool = True) -> bytes:
    """A whole HTTP request."""
    rows = [[float(str(value)) for value in row] for row in sample()]
    candidates = [
        {"item_id": f"item-{n:03}", "features": dict(zip(NAMES, row, strict=True)) if by_name else row}
        for n, row in enumerate(rows)
    ]
    body = json.dumps({"query_id": "query-1", "candidates": candidates}).encode()
    head = f"POST /ltr/rank HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


# Services.


@contextmanager
def service(folder: Path, port: int, python: str = sys.executable, **settings: str) -> Iterator[Program]:
    """The service of this repository, as it is by default, or with these settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LTR_", "KAFKA_", "S3_"))}
    environment |= {
        "LTR_REGISTRY_URI": str(folder / "registry"),
        "LTR_SERVE_PORT": str(port),
        "LTR_SPOOL": str(folder / "spool"),
        "LTR_EVENTS_PATH": str(folder / "audit.log"),
        "OMP_WAIT_POLICY": "PASSIVE",
    } | settings
    with running((python, "-m", "ltr_pipeline.serving"), port, environment, folder) as program:
        yield program


@contextmanager
def naive(folder: Path, port: int) -> Iterator[Program]:
    """The ordinary service."""
    command = (sys.executable, str(Path(__file__)), "--naive", str(folder / "ranker.pickle"), str(port))
    with running(command, port, os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}, folder) as program:
        yield program


@contextmanager
def running(command: tuple[str, ...], port: int, environment: dict[str, str], folder: Path) -> Iterator[Program]:
    """A program that serves on a port, until the block ends."""
    program = Program(f"The service on {port}", f"service-{port}", command, folder)
    program.start(environment, folder)
    try:
        wait({program: lambda: listens(program.processes(), port)}, START_SECONDS)
        yield program
    finally:
        stop([program])


def serve_naively(pickled: Path, port: int) -> None:
    """FastAPI as its tutorial has it, a DataFrame, scikit-learn's wrapper."""
    import pandas as pd
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Candidate(BaseModel):
        item_id: str
        features: dict[str, float]

    class RankRequest(BaseModel):
        query_id: str
        candidates: list[Candidate]

    class Item(BaseModel):
        item_id: str
        score: float
        rank: int

    class RankAnswer(BaseModel):
        query_id: str
        items: list[Item]

    ranker: lgb.LGBMRanker = pickle.loads(pickled.read_bytes())
    app = FastAPI()

    def rank(request: RankRequest) -> RankAnswer:
        frame = pd.DataFrame([candidate.features for candidate in request.candidates])
        frame.insert(0, "item_id", [candidate.item_id for candidate in request.candidates])
        frame["score"] = ranker.predict(frame[NAMES])
        frame = frame.sort_values("score", ascending=False)
        items = [
            Item(item_id=row.item_id, score=row.score, rank=place) for place, row in enumerate(frame.itertuples(), 1)
        ]
        return RankAnswer(query_id=request.query_id, items=items)

    rank.__annotations__ = {"request": RankRequest, "return": RankAnswer}  # they are local
    app.post("/ltr/rank")(rank)
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


# The client.


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as it is answered, or after a pause."""

    def __init__(self, message: bytes, until: float, pause: float, times: list[float], ended: asyncio.Event) -> None:
        self.message, self.until, self.pause, self.times, self.ended = message, until, pause, times, ended

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.missing, self.head = -1, b""
        self.start = time.perf_counter()
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, _, data = self.head.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit((head + data).decode())
            self.missing = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        self.missing -= len(data)
        if self.missing == 0:
            now = time.perf_counter()
            self.times.append(now - self.start)
            if now >= self.until:
                self.transport.close()
            elif self.pause:
                asyncio.get_running_loop().call_later(self.pause, self.send)
            else:
                self.send()

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended.set()


async def load(message: bytes, port: int, connections: int, seconds: float, pause: float = 0.0) -> list[float]:
    """Seconds of each request."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    ended = [asyncio.Event() for _ in range(connections)]
    loop = asyncio.get_running_loop()
    for end in ended:
        await loop.create_connection(lambda end=end: Connection(message, until, pause, times, end), "127.0.0.1", port)
    for end in ended:
        await end.wait()
    return times


def predict(booster: lgb.Booster, matrix: Any, seconds: float) -> list[float]:
    """Seconds of each call of predict alone."""
    times = []
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        booster.predict(matrix, num_threads=1)
        times.append(time.perf_counter() - start)
    return times


def measure(
    ours: int, theirs: int, pids: tuple[int, int], pickled: Path, rounds: int, seconds: float
) -> dict[str, list[tuple[float, float]]]:
    """Pairs of figures, one a round."""
    booster = pickle.loads(pickled.read_bytes()).booster_
    matrix = sample()
    naive_message, *messages = request(theirs), request(ours), request(ours, by_name=False)
    for port, message in ((ours, messages[0]), (theirs, naive_message)):
        uvloop.run(load(message, port, CONNECTIONS, 1))
    rates: list[tuple[float, float]] = []
    works: list[tuple[float, float]] = []
    p95s: list[list[tuple[float, float]]] = [[], []]
    for _ in range(rounds):
        before = [worked(pid) for pid in pids]
        fast, slow = (
            len(uvloop.run(load(message, port, CONNECTIONS, seconds)))
            for port, message in ((ours, messages[0]), (theirs, naive_message))
        )
        rates.append((fast / seconds, slow / seconds))
        own, other = (1e3 * (worked(pid) - was) for pid, was in zip(pids, before, strict=True))
        works.append((own / fast, other / slow))
        for pairs, message in zip(p95s, messages, strict=True):
            served: list[float] = []
            alone: list[float] = []
            for _ in range(SLICES):
                served += uvloop.run(load(message, ours, 1, seconds / SLICES))
                alone += predict(booster, matrix, seconds / SLICES)
            pairs.append((p95_ms(served), p95_ms(alone)))
    return {"rates": rates, "works": works, "by name": p95s[0], "by list": p95s[1]}


def worked(pid: int) -> float:
    """Seconds of processor time of a service."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def measure_shadow(shadowed: int, ours: int, rounds: int, seconds: float) -> list[tuple[float, float]]:
    """Pairs of p95s in ms, with a shadow and without."""
    pairs = []
    for _ in range(rounds):
        first, second = (p95_ms(uvloop.run(load(request(port), port, 1, seconds, PAUSE))) for port in (shadowed, ours))
        pairs.append((first, second))
    return pairs


def p95_ms(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 95)) * 1e3


# What is printed.


def compare(rounds: int, seconds: float) -> None:
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ranker = train(TREES)
        publish(folder, train(TREES), SHADOW)
        publish(folder, ranker)
        (folder / "ranker.pickle").write_bytes(pickle.dumps(ranker))
        ours, theirs, shadowed = free_port(), free_port(), free_port()
        services = [stack.enter_context(service(folder, ours)), stack.enter_context(naive(folder, theirs))]
        pids = [str(process.pid) for each in services for process in each.processes()]
        command = [
            sys.executable,
            str(Path(__file__)),
            "--client",
            str(ours),
            str(theirs),
            *pids,
            str(folder / "ranker.pickle"),
        ]
        done = subprocess.run([*command, str(rounds), str(seconds)], check=True, stdout=subprocess.PIPE)
        measured = json.loads(done.stdout)
        stack.enter_context(service(folder, shadowed, LTR_SHADOW_VERSION=SHADOW, LTR_SHADOW_SHARE="1"))
        shadows = measure_shadow(shadowed, ours, rounds, seconds)
    print(f"{CANDIDATES} candidates x {FEATURES} features, {TREES} trees; medians of {rounds} rounds")
    print(f"{cpu_name()}, {os.cpu_count()} processors, load before {load_before:.1f}")
    report(f"requests/s, {CONNECTIONS} connections", ("service", "naive"), measured["rates"])
    report(f"ms of processor time, {CONNECTIONS} connections", ("service", "naive"), measured["works"])
    for features in ("by name", "by list"):
        report(f"p95 in ms, 1 connection, {features}", ("service", "Booster.predict"), measured[features])
    report("p95 in ms, 50 requests/s", ("with a shadow", "without"), shadows)


def report(what: str, names: tuple[str, str], pairs: list[list[float]]) -> None:
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(first / second for first, second in pairs)
    print(
        f"{what:33} {names[0]} {ours:.3g}, {names[1]} {theirs:.3g}, ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def measure_memory(steps: list[int], python: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder, train(MEMORY_TREES))
        port = free_port()
        with service(folder, port, python) as program:
            done = 0
            print(f"resident memory of one worker with {MEMORY_TREES} trees:", flush=True)
            for step in steps:
                while done < step:
                    done += uvloop.run(requests(port, min(step - done, 1000)))
                memory = sum(process.memory_info().rss for process in program.processes()) / 2**20
                print(f"  after {done:>7,} requests: {memory:.0f} MB", flush=True)


async def requests(port: int, count: int) -> int:
    """Send so many, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    message = request(port)
    for _ in range(count):
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--requests", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--python", default=sys.executable, help="of the environment whose service is measured")
    parser.add_argument("--client", nargs=7, help=argparse.SUPPRESS)
    parser.add_argument("--naive", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        *ports, own, other, pickled, rounds, seconds = given.client
        pids = (int(own), int(other))
        print(json.dumps(measure(*map(int, ports), pids, Path(pickled), int(rounds), float(seconds))))
    elif given.naive:
        serve_naively(Path(given.naive[0]), int(given.naive[1]))
    elif given.memory:
        measure_memory(given.requests, given.python)
    else:
        compare(given.rounds, given.seconds)


if __name__ == "__main__":
    main()
