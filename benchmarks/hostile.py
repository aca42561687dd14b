"""Hostile lines through landing and building: whether every record is accounted for.

    python benchmarks/hostile.py [--lines 1000000] [--seed 7]

A tenth of the lines is as it should be. The others are broken JSON, other encodings, values of any type where others
belong, keys twice or missing, texts of control characters, numbers that fit nowhere, lists inside lists. They land a
day at a time; then a dataset is built from all days. Of each day: the records that were read are those that were
written, and those read are the rows of the landed tables, the quarantined and the ignored ones. Of the dataset: every
landed record is used, a duplicate, or dropped for a reason. Prints the account, and all that was broken; exits 1 then.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import perf_counter

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest, read_quarantine
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.schema import FEEDBACK, IMPRESSIONS
from ltr_pipeline.storage.local import LocalStorage
from support.hostile import hostile_lines

DAYS = 10
FIRST = dt.date(2025, 7, 16)
WINDOWS = Windows(
    cutoff=dt.datetime(2025, 7, 26, tzinfo=dt.UTC),
    window_days=28,
    attribution_days=3,
    test_days=3,
    valid_days=2,
    min_queries=100,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    begin = perf_counter()
    with tempfile.TemporaryDirectory(prefix="ltr-hostile-") as folder:
        broken, account = passed_through(Path(folder), chosen.lines, Random(chosen.seed))
    print("| where | records |\n|---|---|")
    print(*(f"| {where} | {records:,} |" for where, records in account.items()), sep="\n")
    print(f"\n{chosen.lines:,} lines, seed {chosen.seed}, {perf_counter() - begin:.0f} s")
    print(*(broken or ["every record is accounted for"]), sep="\n")
    sys.exit(1 if broken else 0)


def passed_through(folder: Path, lines: int, chance: Random) -> tuple[list[str], Counter[str]]:
    """Land so many lines and build a dataset from them; what was broken, and where the records are."""
    data, account, broken = LocalStorage(folder / "data"), Counter[str](), list[str]()
    log = folder / "audit.log"
    for day in range(DAYS):
        date = FIRST + dt.timedelta(days=day)
        written = _append(log, lines * (day + 1) // DAYS - lines * day // DAYS, chance)
        manifest = land(data, night_of(date), FileSource(str(log)), load_mapping(), buckets=4, since=WINDOWS.start)
        broken += _unaccounted(data, manifest, written)
        account += Counter(read=manifest.read, landed=manifest.impressions + manifest.feedback)
        account += Counter({f"quarantined: {why}": n for why, n in manifest.quarantine_reasons.items()})
        account += Counter({f"ignored: {why}": n for why, n in manifest.ignored_reasons.items()})
    dataset = build(data, "dataset", partitions_for(data, FIRST + dt.timedelta(days=DAYS - 1)), load_mapping(), WINDOWS)
    for name, part in (("impressions", dataset.impressions), ("feedback", dataset.feedback)):
        if part.landed != part.used + part.duplicates + sum(part.dropped.values()):
            broken.append(f"dataset, {name}: {part}")
        account += Counter({f"{name} used": part.used, f"{name} duplicates": part.duplicates})
        account += Counter({f"{name} dropped: {why}": n for why, n in part.dropped.items()})
    if (landed := dataset.impressions.landed + dataset.feedback.landed) != account["landed"]:
        broken.append(f"{account['landed']} landed, the dataset knows of {landed}")
    return broken, account


def _append(log: Path, count: int, chance: Random) -> int:
    """Append so many lines to the log; the records in them."""
    written = 0
    with log.open("ab") as file:
        for line, records in hostile_lines(chance, count):
            file.write(line + b"\n")
            written += records
    return written


def _unaccounted(data: LocalStorage, manifest: Manifest, written: int) -> Iterator[str]:
    """Yield what in a partition is not accounted for."""
    rows = {name: _rows(data, manifest, name) for name in (IMPRESSIONS, FEEDBACK)}
    quarantined = sum(1 for _ in read_quarantine(data, manifest.partition.folder))
    found = (manifest.read, manifest.impressions, manifest.feedback, manifest.quarantined)
    if found != (written, rows[IMPRESSIONS], rows[FEEDBACK], quarantined):
        yield f"{manifest.date}: {written} records were written, {rows} landed, {quarantined} quarantined, but {found}"
    if manifest.read != manifest.impressions + manifest.feedback + manifest.quarantined + manifest.ignored:
        yield f"{manifest.date}: {manifest.read} read are not the sum of the others"


def _rows(data: LocalStorage, manifest: Manifest, table: str) -> int:
    pattern = data.root / manifest.partition.folder / f"{table}-*.parquet"
    return int(pl.scan_parquet(pattern).select(pl.len()).collect().item())


if __name__ == "__main__":
    main()
