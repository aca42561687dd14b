"""One night's jobs against bare `lgb.train`: what everything around the training costs.

The history is landed; then a night is run in this process, from `extract_events` to the notification, and beside it
LightGBM alone trains on the same matrix with the same parameters and number of trees. Both are repeated in turn; the
medians and their ratio are printed. What Airflow itself adds to a night is measured apart, on a small log.

    python benchmarks/night.py [--impressions 1000000] [--repeats 5] [--trees 100]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ltr_pipeline.dataset.load import load_part
from ltr_pipeline.events.manifest import read_manifest
from ltr_pipeline.jobs import nightly
from ltr_pipeline.jobs.chain import CHAIN, LAST, finish
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.ranker.parameters import PARAMETERS
from ltr_pipeline.ranker.train import boost, label_gain
from ltr_pipeline.report.artefacts import DATASET, TABLES
from ltr_pipeline.runs.logs import FILE_NAME
from ltr_pipeline.runs.run import Json, Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

NIGHT = dt.date(2026, 9, 30)
DAY = dt.timedelta(days=1)
WINDOW_DAYS = 28
SMALL_RANKINGS = 100


def main() -> None:
    """Parse the command line and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trees", type=int, default=100)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    parameters = {"num_iterations": arguments.trees, "early_stopping_round": 0}
    with tempfile.TemporaryDirectory(prefix="ltr-night-") as folder:
        _against_lightgbm(Path(folder), arguments.impressions, arguments.repeats, parameters)
    with tempfile.TemporaryDirectory(prefix="ltr-night-") as folder:
        _airflow_overhead(Path(folder), arguments.repeats)


def _against_lightgbm(folder: Path, impressions: int, repeats: int, parameters: dict[str, Any]) -> None:
    history = _history(folder, impressions / WINDOW_DAYS / 11.3, parameters)
    ours, bare, tasks = [], [], []
    for repeat in range(repeats):
        settings = _copy(history, folder / f"night-{repeat}")
        seconds, by_task = _night(settings)
        ours.append(seconds)
        tasks.append(by_task)
        bare.append(_bare(settings))
        shutil.rmtree(folder / f"night-{repeat}")
    rows = read_manifest(history.data, night_of(NIGHT - DAY)).impressions
    print(f"a night over {rows:,} impressions landed in the window, {parameters['num_iterations']} trees, 1 thread")
    for name in tasks[0]:
        print(f"  {name:16} {statistics.median(task[name] for task in tasks):7.2f} s")
    print(f"  {'all jobs':16} {statistics.median(ours):7.2f} s")
    print(f"  {'bare lgb.train':16} {statistics.median(bare):7.2f} s")
    ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
    print(f"  jobs / bare: {statistics.median(ratios):.2f} (median of {repeats}; {ratios[0]:.2f} to {ratios[-1]:.2f})")


def _settings(folder: Path, **more: Any) -> Settings:
    return load_settings(
        events_path=str(folder / "audit.log"),
        data_uri=str(folder / "data"),
        registry_uri=str(folder / "registry"),
        window_days=WINDOW_DAYS,
        **more,
    )


def _history(folder: Path, rankings_per_day: float, parameters: dict[str, Any]) -> Settings:
    """A log of a month of which all but the last day has landed."""
    home = folder / "history"
    first = NIGHT - (WINDOW_DAYS + 1) * DAY
    legacy = load_mapping().legacy_weights
    world = World(legacy_weights=legacy, rankings_per_day=max(1, round(rankings_per_day)), start=first)
    settings = _settings(home, parameters=parameters)
    log = Path(settings.events_path)
    write_log(log, world, first, WINDOW_DAYS)
    nightly.extract_events({"moment": f"{NIGHT - DAY}T02:15:00+00:00"}, {}, settings)
    write_log(log, world, NIGHT - DAY, 1, append=True)
    return settings


def _copy(history: Settings, folder: Path) -> Settings:
    """The same history for another repetition; its files are only read, so links do."""
    shutil.copytree(Path(history.data_uri), folder / "data", copy_function=os.link)
    settings = _settings(folder, parameters=history.parameters)
    return settings.model_copy(update={"events_path": history.events_path})


def _night(settings: Settings) -> tuple[float, dict[str, float]]:
    """Seconds of all jobs and of each."""
    by_task: dict[str, float] = {}

    def timed(name: str, task: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = task()
        by_task[name] = time.perf_counter() - started
        return result

    started = time.perf_counter()
    handed: Json = {"moment": f"{NIGHT}T02:15:00+00:00"}
    for name, task in CHAIN.items():
        handed = timed(name, partial(task, handed, {}, settings))
    timed("publish or keep", partial(finish, handed, "benchmark", settings))
    timed(LAST, partial(nightly.notify, handed, settings))
    return time.perf_counter() - started, by_task


def _bare(settings: Settings) -> float:
    """Seconds of `lgb.train` alone: the matrix is in memory, nothing is written."""
    run = Run(f"{NIGHT:%Y%m%d}_0215", settings)
    manifest = run.read(DATASET)
    train, valid = (load_part(settings.data, run.key(TABLES), manifest, part, ids=()) for part in ("train", "valid"))
    parameters = PARAMETERS | settings.parameters
    gain = label_gain(settings.mapping.max_relevance)
    started = time.perf_counter()
    boost(train, parameters | {"label_gain": gain}, valid=valid, seed=settings.seed, debias=True)
    return time.perf_counter() - started


def _airflow_overhead(folder: Path, repeats: int) -> None:
    """Return what Airflow adds to the jobs of a night: a whole run of the DAG less the jobs in it."""
    history = _history(folder, SMALL_RANKINGS, {})
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
        "LTR_EVENTS_PATH": history.events_path,
        "LTR_LOG_FOLDER": str(folder),
    }
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"], env=environment, check=True, capture_output=True
    )
    overhead = []
    for repeat in range(repeats):
        settings = _copy(history, folder / f"night-{repeat}")
        environment |= {"LTR_DATA_URI": settings.data_uri, "LTR_REGISTRY_URI": settings.registry_uri}
        command = [
            sys.executable,
            "-m",
            "ltr_pipeline.airflow.once",
            "train_ltr_daily",
            json.dumps({"date": str(NIGHT)}),
        ]
        started = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        overhead.append(time.perf_counter() - started - _busy(folder / FILE_NAME))
        (folder / FILE_NAME).unlink()
    print(f"Airflow's own part of a night (`make run`): {statistics.median(overhead):.1f} s (median of {repeats})")


def _busy(log: Path) -> float:
    """Seconds between the start and the end of every task in a training log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    times = {
        event: [dt.datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == event]
        for event in ("task started", "task finished")
    }
    pairs = zip(times["task started"], times["task finished"], strict=True)
    return sum((end - start).total_seconds() for start, end in pairs)


if __name__ == "__main__":
    main()
