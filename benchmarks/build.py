"""Building a dataset from landed events, against the same build in pandas.

    python benchmarks/build.py [--impressions 1000000] [--repeats 3]

Simulates four weeks of lawyers for cases and lands them. Then each path reads the landed tables in a process of its
own, drops duplicates and unavailable items, joins feedback by ranking or to the latest earlier impression, labels,
splits by time and makes the arrays of the three parts. The pandas path does no more than that: no reasons, no
accounting, no manifest, no labelled tables on disk. Both must find the same labels. Prints the best time and the peak
memory of each.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.mapping import load_mapping

DAYS = 28
CUTOFF = dt.datetime(2025, 7, 15, tzinfo=dt.UTC)
WINDOWS = Windows(cutoff=CUTOFF, window_days=DAYS)
PER_RANKING = 10.3  # impressions, on average
BUCKETS = 16


def prepare(folder: Path, impressions: int) -> list[str]:
    """Land a month of about so many impressions; the landed folders."""
    from ltr_pipeline.events.chain import partitions_for
    from ltr_pipeline.events.landing import land
    from ltr_pipeline.events.sources.files import FileSource
    from ltr_pipeline.simulate.log import write_log
    from ltr_pipeline.simulate.world import World
    from ltr_pipeline.storage.local import LocalStorage

    mapping, storage = load_mapping(), LocalStorage(folder / "data")
    world = World(legacy_weights=mapping.legacy_weights, rankings_per_day=round(impressions / DAYS / PER_RANKING))
    write_log(folder / "audit.log", world, WINDOWS.start.date(), DAYS)
    source = FileSource(str(folder / "audit.log"))
    land(storage, CUTOFF, source, mapping, buckets=BUCKETS, since=WINDOWS.start)
    return partitions_for(storage, CUTOFF.date())


def ours(folder: Path, partitions: list[str]) -> dict[str, int]:
    from ltr_pipeline.dataset.build import build
    from ltr_pipeline.dataset.load import load_part
    from ltr_pipeline.storage.local import LocalStorage

    storage = LocalStorage(folder / "data")
    manifest = build(storage, "runs/r/dataset", dict.fromkeys(partitions, ""), load_mapping(), WINDOWS)
    parts = [load_part(storage, "runs/r/dataset", manifest, part) for part in ("train", "valid", "test")]
    return {
        "rows": sum(len(part.relevance) for part in parts),
        "labels": sum(int(part.relevance.sum()) for part in parts),
    }


def pandas_path(folder: Path, partitions: list[str]) -> dict[str, int]:
    import numpy as np
    import pandas as pd

    mapping = load_mapping()
    features = [f"feature_{name}" for name in mapping.features]

    def table(name: str) -> pd.DataFrame:
        paths = [path for part in partitions for path in sorted((folder / "data" / part).glob(f"{name}-*.parquet"))]
        return pd.concat([pd.read_parquet(path) for path in paths]).drop_duplicates("event_id")

    shown, given = table("impressions"), table("feedback")
    given["relevance"] = given["action"].map(mapping.relevance)
    shown = shown[shown["available"] & (shown["time"] < CUTOFF)].sort_values("time")
    keys, columns = ["query_id", "item_id"], ["ranking_id", "query_id", "item_id", "time"]
    targets = shown[columns].assign(shown_at=shown["time"])
    named = given[given["ranking_id"].notna()].merge(targets.drop(columns="time"), on=["ranking_id", *keys])
    nameless = given[given["ranking_id"].isna()].drop(columns="ranking_id").sort_values("time")
    joined = pd.concat([named, pd.merge_asof(nameless, targets, on="time", by=keys)])
    elapsed = joined["time"] - joined["shown_at"]
    joined = joined[elapsed.between(pd.Timedelta(0), pd.Timedelta(days=WINDOWS.attribution_days))]
    best = joined.groupby(["ranking_id", *keys])["relevance"].max().reset_index()
    table = shown.merge(best, on=["ranking_id", *keys], how="left").fillna({"relevance": 0})
    rankings = table.groupby("ranking_id")["time"]
    table["began"] = rankings.transform("min")
    table = table[(table["began"] < WINDOWS.mature_end) & (rankings.transform("size") > 1)]
    table = table.sort_values(["began", "ranking_id", "item_id"])
    edges = [WINDOWS.start, *(WINDOWS.mature_end - dt.timedelta(days=days) for days in (5, 3, 0))]
    rows, labels = 0, 0
    for start, end in pairwise(edges):
        part = table[(table["began"] >= start) & (table["began"] < end)]
        matrix = part[features].to_numpy(np.float32)
        group = part.groupby("ranking_id", sort=False).size().to_numpy()
        rows, labels = rows + len(matrix), labels + int(part["relevance"].sum())
        assert group.sum() == len(matrix)
    return {"rows": rows, "labels": labels}


def child(path: str, folder: Path, partitions: list[str]) -> None:
    start = time.perf_counter()
    found = {"ours": ours, "pandas": pandas_path}[path](folder, partitions)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {"seconds": seconds, "peak_mb": peak}))


def measured(path: str, folder: Path, partitions: list[str], repeats: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", path, "--folder", str(folder), "--partitions", *partitions]
    runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(repeats)]
    return min(runs, key=lambda run: run["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--partitions", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder, options.partitions)
        return
    with tempfile.TemporaryDirectory() as scratch:
        partitions = prepare(Path(scratch), options.impressions)
        runs = {path: measured(path, Path(scratch), partitions, options.repeats) for path in ("ours", "pandas")}
    for path, run in runs.items():
        size = f"{run['rows']:,} rows, labels {run['labels']:,}"
        print(f"{path:8} {run['seconds']:6.2f} s  {run['peak_mb']:6.0f} MB  {size}")
    own, other = runs["ours"], runs["pandas"]
    print(f"time 1 : {other['seconds'] / own['seconds']:.1f}, memory {own['peak_mb'] / other['peak_mb']:.2f} : 1")
    if any(own[key] != other[key] for key in ("rows", "labels")):
        sys.exit("the two paths disagree")


if __name__ == "__main__":
    main()
