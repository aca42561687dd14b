"""Landing an event log, and building a dataset from it, against the naive path.

The naive path is json.loads a line, pandas.json_normalize, groupby.

    python benchmarks/landing.py [--impressions 1000000] [--repeats 5]

Simulates four weeks of lawyers for cases, some messages malformed. Then all paths read the log in turns, each time in
a process of its own; imports are not counted. Landing also checks every value, accounts for every record, and writes
its tables durably; building also joins feedback, labels and splits. The naive path does nothing of the kind. Prints
medians, and medians of the ratios.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DAYS = 28
FIRST = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
NIGHT = FIRST.date() + dt.timedelta(days=DAYS)
PER_RANKING = 10.3  # impressions, on average
BUCKETS = 16


def simulate(log: Path, impressions: int) -> None:
    """Write four weeks with about so many impressions."""
    from ltr_pipeline.mapping import load_mapping
    from ltr_pipeline.simulate.log import write_log
    from ltr_pipeline.simulate.world import World

    rankings = round(impressions / DAYS / PER_RANKING)
    write_log(log, World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=rankings), FIRST.date(), DAYS)


def naive(log: Path) -> Callable[[], int]:
    import pandas as pd

    def run() -> int:
        messages = []
        with log.open() as lines:
            for text in lines:
                try:
                    messages.append(json.loads(text))
                except ValueError:
                    continue
        events = pd.json_normalize(messages)
        shown = events[events["message"] == "match_recommendation"]
        return int(shown.groupby(["context.case_id", shown["timestamp"].str[:10]]).size().sum())

    return run


def landing(log: Path) -> Callable[[], int]:
    import pyarrow as pa

    from ltr_pipeline.events.landing import land
    from ltr_pipeline.events.sources.files import FileSource
    from ltr_pipeline.mapping import load_mapping
    from ltr_pipeline.schedule import night_of
    from ltr_pipeline.storage.local import LocalStorage

    pa.scalar(0)  # with its first scalar pyarrow imports pandas, where that is installed

    def run() -> int:
        with tempfile.TemporaryDirectory(dir=log.parent) as folder:
            storage = LocalStorage(Path(folder))
            return land(
                storage, night_of(NIGHT), FileSource(log), load_mapping(), buckets=BUCKETS, since=FIRST
            ).impressions

    return run


def building(log: Path) -> Callable[[], int]:
    import pyarrow as pa

    from ltr_pipeline.dataset.build import build
    from ltr_pipeline.dataset.windows import Windows
    from ltr_pipeline.events.chain import partitions_for
    from ltr_pipeline.events.landing import land
    from ltr_pipeline.events.sources.files import FileSource
    from ltr_pipeline.mapping import load_mapping
    from ltr_pipeline.schedule import night_of
    from ltr_pipeline.storage.local import LocalStorage

    pa.scalar(0)

    def run() -> int:
        with tempfile.TemporaryDirectory(dir=log.parent) as folder:
            storage, mapping = LocalStorage(Path(folder)), load_mapping()
            landed = land(storage, night_of(NIGHT), FileSource(log), mapping, buckets=BUCKETS, since=FIRST)
            windows = Windows(cutoff=FIRST + DAYS * dt.timedelta(days=1), window_days=DAYS)
            build(storage, "dataset", partitions_for(storage, NIGHT), mapping, windows)
            return landed.impressions

    return run


PATHS = {"naive": naive, "landing": landing, "landing and build": building}


def measure(path: str, log: Path) -> dict[str, float]:
    """Return what one path takes in this process."""
    run = PATHS[path](log)
    began, busy = time.perf_counter(), time.process_time()
    impressions = run()
    return {
        "impressions": impressions,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - busy,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(path: str, log: Path) -> dict[str, float]:
    """Return what one path takes in a process of its own."""
    command = [sys.executable, __file__, "--path", path, "--log", str(log)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def compare(log: Path, repeats: int) -> None:
    """Run all paths in turns and print what they took."""
    runs = [{path: measured(path, log) for path in PATHS} for _ in range(repeats)]

    def median(path: str, what: str) -> float:
        return statistics.median(run[path][what] for run in runs)

    def ratio(path: str, other: str, what: str) -> float:
        return statistics.median(run[path][what] / run[other][what] for run in runs)

    print(
        f"{log.stat().st_size / 1e6:,.0f} MB, {runs[0]['landing']['impressions']:,} impressions, medians of {repeats}"
    )
    for path in PATHS:
        took = [median(path, what) for what in ("seconds", "cpu", "peak_mb")]
        print("{:18}{:8.2f} s{:8.2f} s of processors{:8,.0f} MB".format(path, *took))
    for path in ("landing", "landing and build"):
        speed, memory = ratio("naive", path, "seconds"), ratio(path, "naive", "peak_mb")
        print(
            f"{path}: {speed:.1f} times as fast as naive (wanted: 5), {memory:.2f} of its memory (wanted: 0.5 at most)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--log", type=Path, help="a log of the default wire format, instead of a simulated one")
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.path:
        print(json.dumps(measure(given.path, given.log)))
        return
    with tempfile.TemporaryDirectory() as folder:
        log = given.log or Path(folder) / "audit.log"
        if given.log is None:
            simulate(log, given.impressions)
        compare(log, given.repeats)


if __name__ == "__main__":
    main()
