"""Eight processes publish and roll back in one registry at once, a hundred times each; nothing may be lost.

    python benchmarks/registry_race.py [--processes 8] [--rounds 100] [--on s3]

Every two processes want the same minutes for their versions. On S3 half of them go through a proxy that swallows the
answer of every tenth write. Afterwards the ledger is read: one line without a fork, every move that a process was told
of in it exactly once, `latest` what its head says. Prints moves per second; fails loudly.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # LightGBM's threads spin otherwise, in all processes

import structlog

from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.forks import A, B, C, Place, publish
from support.proxy import Proxy


def act(place: Place, name: int, rounds: int, told: Path) -> None:
    """Publish and roll back, in turn; every move carries an id, and all that was answered is written down."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    registry = Registry(place.storage("race"))
    answers = []
    for n in range(rounds):
        minute = name // 2 * rounds + n
        result = document(f"{C[:8]}_{minute // 60:02}{minute % 60:02}", high=0.5 + (name * rounds + n) / 1e5)
        published = registry.publish(result, who=str(name), why="race", move_id=f"p-{name}-{n}")
        back = registry.rollback((A, B)[n % 2], who=str(name), why="race", move_id=f"r-{name}-{n}")
        answers.append([published.version, back.seq, back.move_id])
        if n % 5 == 4:
            registry.unpin(who=str(name), why="race")
    (told / f"{name}.json").write_text(json.dumps(answers))


def judge(registry: Registry, told: Path, processes: int, rounds: int) -> int:
    """Assert all that was promised; the number of moves."""
    history = registry.history()
    assert [move.seq for move in history] == [*range(1, len(history) + 1)], "the ledger has a gap or a fork"
    assert all(later.before == earlier.to for earlier, later in pairwise(history)), "an entry follows none"
    entered = Counter(move.move_id for move in history)
    assert not [move_id for move_id, times in entered.items() if times > 1], "a move was made twice"
    by_id = {move.move_id: move for move in history}
    for name in range(processes):
        answers = json.loads((told / f"{name}.json").read_text())
        assert len(answers) == rounds
        for n, (version, seq, move_id) in enumerate(answers):
            assert by_id[f"p-{name}-{n}"].version == version, "a publish was lost"
            assert by_id[move_id].seq == seq, "a rollback was lost"
    assert sum(move.move == "publish" for move in history) == 2 + processes * rounds
    head = history[-1]
    latest = registry.storage.get("latest/ltr_weights.json")
    assert latest == registry.storage.get(f"{head.to}/ltr_weights.json"), "latest is not what the ledger says"
    return len(history)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--on", choices=["local", "s3", "both"], default="both")
    chosen = parser.parse_args()
    for backend in ("local", "s3") if chosen.on == "both" else (chosen.on,):
        with tempfile.TemporaryDirectory() as folder:
            race(backend, Path(folder), chosen.processes, chosen.rounds)


def race(backend: str, folder: Path, processes: int, rounds: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    server = S3Server(folder / "s3") if backend == "s3" else None
    told = folder / "told"
    told.mkdir()
    if server is None:
        places = [Place(str(folder / "registry"), told, {})] * 2
    else:
        server.start()
        server.make_bucket()
        proxy = Proxy("127.0.0.1", server.port)
        proxy.drop_answers(b"PUT ", times=sys.maxsize, every=10)
        through = server.environment | {"S3_ENDPOINT": f"http://127.0.0.1:{proxy.port}"}
        places = [Place(f"s3://{BUCKET}", told, environment) for environment in (server.environment, through)]
    try:
        registry = Registry(places[0].storage("race"))
        publish(registry, A, B)
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=act, args=(places[name % 2], name, rounds, told)) for name in range(processes)
        ]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * processes, "a process failed"
        seconds = time.perf_counter() - start
        moves = judge(registry, told, processes, rounds)
        lost = f", {proxy.dropped} answers swallowed" if server is not None else ""
        print(
            f"{backend}: {processes} processes, {rounds} publishes and rollbacks each: {moves} moves in one line, none "
            f"lost{lost}; {seconds:.0f} s, {moves / seconds:.0f} moves/s"
        )
    finally:
        if server is not None:
            proxy.close()
            server.stop()


if __name__ == "__main__":
    main()
