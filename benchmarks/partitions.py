"""A year of hourly landings: what it takes to know the newest, and what reading every manifest of it would take.

    python benchmarks/partitions.py [--partitions 9000] [--files 35] [--repeats 5] [--build 672]

One real landing is copied to every hour, its manifests chained; other files are empty, as only names are listed. Prints
medians in ms, warm, on the local disk. With `--build`, a landed month is built, too: once in so many landings, once in
a landing a day, of the same events.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.events.chain import Chain, arrived, partitions_for
from ltr_pipeline.events.landing import cursor, land
from ltr_pipeline.events.manifest import encoded, manifest_of
from ltr_pipeline.events.partitions import Partition, is_backfill, landed, landed_dates, newest
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.storage.local import LocalStorage

FIRST = dt.datetime(2025, 1, 1, 0, 35, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
BUCKETS = 16
WINDOW_DAYS = 28


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=9000)
    parser.add_argument("--files", type=int, default=2 * BUCKETS + 3, help="of each partition")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--build", type=int, default=0, help="landings of the month that is built; 0 = none is")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory() as folder:
        storage = LocalStorage(Path(folder) / "data")
        last = _year(storage, Path(folder), given.partitions, given.files)
        since = last - WINDOW_DAYS * DAY
        midnight = dt.datetime.combine(since, dt.time(), dt.UTC)
        asked: dict[str, Callable[[], object]] = {
            "the newest landed moment": lambda: newest(storage),
            "is a run a backfill": lambda: is_backfill(storage, last),
            "where the newest ended (cursor)": lambda: cursor(storage, "files"),
            "what landed within 24 h (arrived)": lambda: arrived(storage, last - DAY, last),
            f"what holds the last {WINDOW_DAYS} days (partitions_for)": lambda: partitions_for(
                storage, last.date(), midnight
            ),
            "the newest 35 days": lambda: landed_dates(storage, 35),
            "every partition's name": lambda: landed(storage),
            "every manifest, checked (ltr verify)": lambda: Chain(storage).links(),
        }
        print(f"{given.partitions:,} partitions of {given.files} files; median of {given.repeats}, ms")
        for what, ask in asked.items():
            print(f"{what:55} {_median(ask, given.repeats):10,.1f}")
        if given.build:
            _builds(Path(folder), given.build)


def _median(ask: Callable[[], object], repeats: int) -> float:
    ask()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)


def _year(storage: LocalStorage, folder: Path, partitions: int, files: int) -> dt.datetime:
    """Make so many hourly partitions of one landing, chained; return the moment of the last."""
    log = folder / "audit.log"
    world = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=20)
    write_log(log, world, FIRST.date() - DAY, 1)
    first = land(storage, FIRST, FileSource(log), load_mapping(), buckets=BUCKETS, since=FIRST - 28 * DAY)
    previous = hashlib.sha256(storage.get(f"{first.partition.folder}/manifest.json")).hexdigest()
    for ahead in range(1, partitions):
        moment = FIRST + ahead * HOUR
        place = storage.root / Partition.at(moment).folder
        place.mkdir(parents=True)
        manifest = msgspec.structs.replace(
            first,
            date=moment.date(),
            run_at=moment,
            previous=previous,
            first_time=moment - HOUR,
            last_time=moment,
        )
        data = encoded(manifest)
        (place / "manifest.json").write_bytes(data)
        for number in range(files - 1):
            (place / f"impressions-{number:03}.parquet").touch()
        previous = hashlib.sha256(data).hexdigest()
    return FIRST + (partitions - 1) * HOUR


def _builds(folder: Path, landings: int) -> None:
    """Land the same events of a month often and once a day, and build each."""
    mapping = load_mapping()
    world = World(legacy_weights=mapping.legacy_weights, rankings_per_day=480)
    begin = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)
    whole = folder / "whole.log"
    write_log(whole, world, begin.date(), WINDOW_DAYS)
    lines = whole.read_bytes().splitlines(keepends=True)
    end = begin + WINDOW_DAYS * DAY
    windows = Windows(cutoff=end, window_days=WINDOW_DAYS)
    for count in (WINDOW_DAYS, landings):
        storage, log = LocalStorage(folder / f"month-{count}"), folder / f"{count}.log"
        for number in range(count):
            with log.open("ab") as file:
                file.writelines(lines[number * len(lines) // count : (number + 1) * len(lines) // count])
            moment = begin + 2 * DAY + (number + 1) * (end - begin) / count  # later than what it brings
            land(storage, moment, FileSource(log), mapping, buckets=BUCKETS, since=begin)
        partitions = partitions_for(storage, end.date(), begin)
        read = sum(manifest_of(storage, one).impressions for one in partitions)
        seconds = _median(lambda s=storage, p=partitions: build(s, "dataset", p, mapping, windows), 3) / 1000
        print(f"built from {len(partitions)} landings ({read:,} impressions): {seconds:.1f} s")


if __name__ == "__main__":
    main()
