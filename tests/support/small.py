"""A night small enough to run task by task: twelve days of events, a gate that lets a sound model through."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path

from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.jobs.chain import CHAIN
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.runs.run import Json, Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.storage.local import LocalStorage

DAY = dt.timedelta(days=1)
DAYS = 12
FIRST = dt.date(2025, 7, 3)
NIGHT = FIRST + DAYS * DAY
RUN = "20250715_0215"
WORLD = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=60)
LENIENT = {"ltr_on_inconclusive": "publish", "ltr_fairness_max": "0.3", "ltr_regression_max": "0.2"}
UNDECIDED = {"ltr_on_inconclusive": "ask", "ltr_fairness_max": "0.3", "ltr_regression_max": "0"}
"""The same model, of which the data cannot rule out a loss: the gate leaves it to a person."""

WHO = "airflow/nightly"


def small_settings(folder: Path, **fields: object) -> Settings:
    """Settings of a project in `folder`."""
    places = {
        "events_path": str(folder / "audit.log"),
        "data_uri": str(folder / "data"),
        "registry_uri": str(folder / "registry"),
    }
    return load_settings(**(places | {"window_days": DAYS, "buckets": 2} | fields))


def simulate(folder: Path, first: dt.date = FIRST, days: int = DAYS) -> None:
    """Append days to the event log of the project."""
    write_log(folder / "audit.log", WORLD, first, days, append=True)


def moment(date: dt.date) -> str:
    return dt.datetime.combine(date, dt.time(2, 15), dt.UTC).isoformat()


def steps(
    settings: Settings, date: dt.date = NIGHT, variables: Mapping[str, str] = LENIENT, **asked: object
) -> dict[str, Callable[[Json], Json]]:
    """Every task up to the gate, in order; each takes what the one before gave."""
    request = {"moment": moment(date), **asked}
    return {
        name: lambda handed, task=task: task(handed or request, variables, settings) for name, task in CHAIN.items()
    }


def up_to(
    last: str, settings: Settings, date: dt.date = NIGHT, variables: Mapping[str, str] = LENIENT, **asked: object
) -> Json:
    """Return what the task `last` handed on, after all before it."""
    reference: Json = {}
    for name, step in steps(settings, date, variables, **asked).items():
        reference = step(reference)
        if name == last:
            return reference
    raise ValueError(last)


def artefacts(settings: Settings, run: str = RUN) -> dict[str, bytes]:
    """Every file of a run's folder, by name."""
    storage, folder = settings.data, Run(run, settings).key("")
    return {key.removeprefix(folder): storage.get(key) for key in storage.keys(folder.rstrip("/"))}


def land_days(data: Path, days: int) -> None:
    """Land simulated days as one partition of the landing zone in `data`."""
    log = data.with_name("landed.log")
    write_log(log, WORLD, FIRST, days)
    source, since = FileSource(str(log)), dt.datetime.combine(FIRST, dt.time(), dt.UTC)
    land(LocalStorage(data), night_of(FIRST + (days + 1) * DAY), source, load_mapping(), buckets=2, since=since)
