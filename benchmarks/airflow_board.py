"""Time the board in Airflow: every page and act over a registry of many versions, as a logged-in browser asks for it.

    python benchmarks/airflow_board.py [--versions 400] [--rounds 15]

Real documents, a year of nights, Airflow's API server as a process, one request at a time over loopback. The first
request of each page and the others are told apart; facts older than ten seconds are read again meanwhile.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.apiserver import ApiServer
from support.board import environment_of, registry_of
from support.documents import document
from support.history import DAY, Quick, name_of, write_history

PAGES = (
    "",
    "nights",
    "versions",
    "versions?page=9",
    "compare",
    "drift",
    "outcomes",
    "predictions",
    "batches",
    "segments",
)
ACTS = ("act/rollback", "act/pin")
STALE_SECONDS = 11.0  # more than facts are kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--versions", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_history(Quick(folder / "data"), days=told.versions)
        registry = registry_of(folder)
        for ago in reversed(range(told.versions)):
            version = name_of(DAY - dt.timedelta(days=ago))
            registry.publish(document(version, high=0.7 + ago / 10_000), who="airflow/nightly", why="passed the gate")
        with ApiServer(folder / "airflow", **environment_of(folder)) as airflow, airflow.client("otto") as client:
            before = _memory()
            print(f"{told.versions} versions; milliseconds: first, median, largest of {told.rounds}; kB")
            for page in (*PAGES, *ACTS):
                first, size = _timed(client, page)
                rest = [_timed(client, page)[0] for _ in range(told.rounds)]
                print(f"  /ltr/{page:<18} {first:6.0f} {np.median(rest):6.0f} {max(rest):6.0f}   {size / 1000:5.0f}")
            stale = []
            for _ in range(3):
                time.sleep(STALE_SECONDS)
                stale.append(_timed(client, "versions")[0])
            waited = ", ".join(f"{ms:.0f}" for ms in stale)
            print(f"  /ltr/versions after {STALE_SECONDS:.0f} s without a look: {waited} ms")
            print(f"  memory of the API server: {before:.0f} MB, and {_memory():.0f} MB after all of this")


def _timed(client: httpx.Client, page: str) -> tuple[float, int]:
    begun = time.perf_counter()
    answer = client.get(f"/ltr/{page}")
    assert answer.status_code == 200, answer.text[-500:]
    return 1000 * (time.perf_counter() - begun), len(answer.content)


def _memory() -> float:
    """Return the resident memory of the API server and its children, in MB."""
    return sum(one.memory_info().rss for one in psutil.Process().children(recursive=True)) / 1e6


if __name__ == "__main__":
    main()
