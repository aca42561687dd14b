"""A thousand reloads of a service under load: no failed request, no mixed versions, and what p99 makes of it.

    python benchmarks/reloads.py [--reloads 1000] [--trees 200] [--candidates 100] [--connections 4] [--pause 0.1]

Two models of as many trees and 30 features are in a registry on disk. A service of one worker ranks the same candidates
over and over for a client of its own, in another process, which looks at every answer: its version, and that every
score is the one that this version gives, to the last bit. Rounds take turns: a while without reloads, then `latest` is
pointed at the one and the other model and the service asked to reload, again and again with a pause in between. Prints
p50, p95 and p99 of both, their ratio over all rounds, p99 of the requests that a reload was under way in, and the
memory of the worker. Fails loudly.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # LightGBM's threads spin otherwise, in all processes
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parents[1]))

import lightgbm as lgb
import msgspec
import numpy as np
import structlog

from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.latest import LATEST
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import Feature, Golden, Model, Weights
from support.documents import document
from support.service import Server

FEATURES = [f"F{number:02}" for number in range(30)]
A, B = "20250714_0215", "20250715_0215"
ROUNDS = 10
QUIET_SECONDS = 15.0
Expected = dict[str, dict[str, float]]


def weights(version: str, trees: int, seed: int) -> Weights:
    """A model of random data: which one does not matter, but that two of them differ in every score does."""
    rng = np.random.default_rng(seed)
    matrix = rng.random((20_000, len(FEATURES))).astype(np.float32)
    labels = np.digitize(matrix @ rng.random(len(FEATURES)), np.array([7.0, 8.0, 9.0]))
    data = lgb.Dataset(matrix, labels, group=[20] * 1000, feature_name=FEATURES)
    parameters = {"objective": "lambdarank", "num_leaves": 31, "verbose": -1, "num_threads": 2, "seed": seed}
    text = lgb.train(parameters, data, trees).model_to_string()
    rows = matrix[:20]
    return msgspec.structs.replace(
        document(version),
        model=Model(text=text, sha256=hashlib.sha256(text.encode()).hexdigest(), trees=trees, importance={}),
        features=[Feature(name=name, missing="as zero") for name in FEATURES],
        golden=[
            Golden(
                query_id="q",
                items=[dict(zip(FEATURES, row, strict=True)) for row in rows.tolist()],
                scores=Scorer.from_model(text, FEATURES).score(rows).tolist(),
            )
        ],
        linear_weights=dict.fromkeys(FEATURES, 1 / len(FEATURES)),
    )


def request(candidates: int) -> list[dict[str, Any]]:
    values = np.random.default_rng(7).random((candidates, len(FEATURES))).astype(np.float32).round(4).tolist()
    return [{"item_id": f"i{n:03}", "features": dict(zip(FEATURES, row, strict=True))} for n, row in enumerate(values)]


def scores(one: Weights, items: list[dict[str, Any]]) -> dict[str, float]:
    scorer = Scorer.from_model(one.model.text, one.feature_names)
    found = scorer.score(scorer.read([Candidate.of(item["item_id"], item["features"]) for item in items]).matrix)
    return {item["item_id"]: score for item, score in zip(items, found.tolist(), strict=True)}


def client(port: int, body: bytes, expected: Expected, connections: int, end: Event, told: Any) -> None:
    """Ask without a break until `end`; tells of each request its start, its end and the version that answered."""
    told.send(asyncio.run(_client(port, body, expected, connections, end)))


async def _client(
    port: int, body: bytes, expected: Expected, connections: int, end: Event
) -> tuple[list[tuple[float, float, str]], list[str]]:
    asked: list[tuple[float, float, str]] = []
    wrong: list[str] = []
    head = "POST /ltr/rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        while not end.is_set():
            start = time.monotonic()
            writer.write(message)
            try:
                said = await reader.readuntil(b"\r\n\r\n")
                length = int(said.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                data = await reader.readexactly(length)
            except (asyncio.IncompleteReadError, OSError, ValueError) as error:
                wrong.append(f"failed: {error!r}")
                return
            stop = time.monotonic()
            answer = msgspec.json.decode(data)
            asked.append((start, stop, answer.get("version", "")))
            if problem := judge(said, answer, expected):
                wrong.append(problem)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return asked, wrong


def judge(head: bytes, answer: dict[str, Any], expected: Expected) -> str | None:
    if b" 200 " not in head.partition(b"\r\n")[0] or answer.get("fallback"):
        return f"failed: {head[:40]!r} {str(answer)[:200]}"
    if {item["item_id"]: item["score"] for item in answer["items"]} != expected[answer["version"]]:
        return f"mixed: an answer of {answer['version']} has scores of another version"
    return None


def reload(server: Server, storage: LocalStorage, number: int) -> tuple[float, float]:
    """Point `latest` at the other version and have it loaded; when that began and ended."""
    version = (A, B)[number % 2]  # B was published last
    storage.point(LATEST, f"{version}/ltr_weights.json")
    start = time.monotonic()
    answer = server.post("/api/debug/reload_weights")
    assert (answer["outcome"], answer["version"]) == ("loaded", version), answer
    return start, time.monotonic()


def memory(server: Server) -> float:
    """Resident MB of the service."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def line(name: str, ms: np.ndarray) -> str:
    p50, p95, p99 = np.percentile(ms, [50, 95, 99])
    return f"| {name} | {len(ms)} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {ms.max():.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two reloads")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), chosen)


def measure(folder: Path, chosen: argparse.Namespace) -> None:
    storage = LocalStorage(folder / "registry" / "ltr")
    registry, items, expected = Registry(storage), request(chosen.candidates), {}
    for seed, version in enumerate((A, B)):
        one = weights(version, chosen.trees, seed)
        registry.publish(one, who="benchmark", why="reloads")
        expected[version] = scores(one, items)
    body = msgspec.json.encode({"query_id": "q", "candidates": items})
    environment = {"LTR_REGISTRY_URI": str(folder / "registry"), "WEIGHTS_POLL_SECONDS": "3600"}
    loose = {"LTR_GUARD_P95_MAX_MS": "60000", "LTR_DEADLINE_MS": "60000"}  # counted as ever, but nothing is judged slow
    context = multiprocessing.get_context("spawn")
    end, (theirs, ours) = context.Event(), context.Pipe()
    with Server(folder / "run", environment, **loose) as server:
        arguments = (server.port, body, expected, chosen.connections, end, theirs)
        process = context.Process(target=client, args=arguments, daemon=True)
        process.start()
        time.sleep(5)  # the client is there, and everything warm
        before, quiet, busy, reloads = memory(server), [], [], []
        each = -(-chosen.reloads // ROUNDS)
        for _ in range(ROUNDS):
            start = time.monotonic()
            while len(reloads) < chosen.reloads and len(reloads) < each * (len(busy) + 1):
                reloads.append(reload(server, storage, len(reloads)))
                time.sleep(chosen.pause)
            busy.append((start, time.monotonic()))
            time.sleep(min(QUIET_SECONDS, busy[-1][1] - start))
            quiet.append((busy[-1][1] + 0.5, time.monotonic()))
            print(f"{len(reloads)} reloads, {memory(server):.0f} MB", flush=True)
        after = memory(server)
        end.set()
        asked, wrong = ours.recv()
        process.join(30)
    report(chosen, asked, wrong, (quiet, busy, reloads))
    print(f"Memory of the service: {before:.0f} MB before, {after:.0f} MB after the last reload.")


Spans = list[tuple[float, float]]


def report(
    chosen: argparse.Namespace,
    asked: list[tuple[float, float, str]],
    wrong: list[str],
    spans: tuple[Spans, Spans, Spans],
) -> None:
    times = np.array([(start, stop) for start, stop, _ in asked])
    quiet, busy, during = (times_ms(times, chosen_spans) for chosen_spans in spans)
    versions = {version: sum(one == version for _, _, one in asked) for version in (A, B)}
    took = np.array([stop - start for start, stop in spans[2]]) * 1000
    print(
        f"{len(spans[2])} reloads, {chosen.trees} trees, {chosen.candidates} candidates, "
        f"{chosen.connections} connections, {chosen.pause} s between two"
    )
    print(f"{len(asked)} requests, {versions[A]} answered by one version and {versions[B]} by the other")
    print(f"{sum('failed' in one for one in wrong)} failed, {sum('mixed' in one for one in wrong)} mixed versions")
    print("\n| ms | requests | p50 | p95 | p99 | longest |\n|---|---|---|---|---|---|")
    print(line("without reloads", quiet))
    print(line("with reloads all the time", busy))
    print(line("a reload under way", during))
    print(f"\np99 with reloads / without: {np.percentile(busy, 99) / np.percentile(quiet, 99):.2f}")
    print(f"p99 with a reload under way / without: {np.percentile(during, 99) / np.percentile(quiet, 99):.2f}")
    print(f"A reload: median {np.median(took):.0f} ms, longest {took.max():.0f} ms.")
    assert not wrong, wrong[:5]


def times_ms(times: np.ndarray, spans: Spans) -> np.ndarray:
    """Duration of the requests that were under way in one of `spans`, in ms."""
    inside = np.zeros(len(times), bool)
    for start, stop in spans:
        inside |= (times[:, 1] >= start) & (times[:, 0] <= stop)
    return (times[inside, 1] - times[inside, 0]) * 1000


if __name__ == "__main__":
    main()
