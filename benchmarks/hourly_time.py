"""How long an hourly refresh takes beside a nightly model of a million rows.

    python benchmarks/hourly_time.py [--impressions 1000000] [--trees 100]

A month of events lands, a night trains, is judged and published, whatever its gate finds but a failure. Then a day of
events arrives, and the hourly job does all that an hour does: lands it, makes the refresh, judges and publishes it.
Nothing of the night is in memory.

Prints how long that takes by the clock and of a processor, and exits with 1 when the latter is more than 10 s: on a
busy machine the clock says more.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import tempfile
import time
from pathlib import Path

import structlog

from ltr_pipeline.jobs import hourly
from ltr_pipeline.jobs.chain import CHAIN, finish
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.report.artefacts import FRESH
from ltr_pipeline.runs import extract
from ltr_pipeline.runs.names import REFRESHES
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

NIGHT = dt.date(2026, 9, 30)
DAY = dt.timedelta(days=1)
MOMENT = dt.datetime.combine(NIGHT, dt.time(23, 35), dt.UTC)
WINDOW_DAYS = 28
LISTED = 11.3  # impressions of a list
MOST_SECONDS = 10
LENIENT = {"ltr_on_inconclusive": "publish", "ltr_fairness_max": "0.3"}


def night(folder: Path, impressions: int, trees: int) -> tuple[Settings, str]:
    """Publish a nightly version, and let another day arrive."""
    settings = load_settings(
        events_path=str(folder / "audit.log"),
        data_uri=str(folder / "data"),
        registry_uri=str(folder / "registry"),
        window_days=WINDOW_DAYS,
        parameters={"num_iterations": trees, "early_stopping_round": 0},
    )
    first = NIGHT - WINDOW_DAYS * DAY
    lists = round(impressions / WINDOW_DAYS / LISTED)
    world = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=lists, start=first)
    for last, days in ((NIGHT - 5 * DAY, WINDOW_DAYS - 5), *((NIGHT - back * DAY, 1) for back in (4, 3, 2, 1))):
        write_log(Path(settings.events_path), world, last - days * DAY, days, append=True)
        extract.land(settings, night_of(last), night_of(first) - DAY, last_try=True)
    write_log(Path(settings.events_path), world, NIGHT - DAY, 1, append=True)
    handed = {"moment": f"{NIGHT}T02:15:00+00:00"}
    for task in CHAIN.values():
        handed = task(handed, LENIENT, settings)
    finish(handed, "benchmark", settings)
    write_log(Path(settings.events_path), world, NIGHT, 1, append=True)
    return settings, settings.registry.promoted() or ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=1_000_000, help="of the night's window")
    parser.add_argument("--trees", type=int, default=100)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    with tempfile.TemporaryDirectory(prefix="ltr-hourly-") as folder:
        settings, version = night(Path(folder), options.impressions, options.trees)
        started, worked = time.perf_counter(), time.process_time()
        outcome = hourly.refresh({"moment": MOMENT.isoformat()}, LENIENT, "benchmark", settings)
        seconds, work = time.perf_counter() - started, time.process_time() - worked
        run = Run(outcome["run"], settings, REFRESHES)
        rows, fresh = settings.registry.load(version).data.counts["train_impressions"], run.read(FRESH).train.rows
    print(f"{seconds:.2f} s ({work:.2f} s of a processor) beside a parent of {rows:,} rows, {fresh:,} fresh ones")
    print(outcome["reason"])
    return int(work > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
