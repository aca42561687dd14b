"""A simulated month, lived night by night, for the board to show: real nights, and the watch every morning."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from ltr_pipeline.cli.console import console, print_line
from ltr_pipeline.errors import SourceError
from ltr_pipeline.folders import record_of
from ltr_pipeline.gate.rivals import load_rival
from ltr_pipeline.jobs import chain, monitor
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.monitoring.alerts import standing
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.schedule import newest_night, night_of
from ltr_pipeline.settings import Settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.month import Month, month_until
from ltr_pipeline.simulate.stage import settings_at
from ltr_pipeline.simulate.world import Ranker

__all__ = ["simulate_history"]

DAY: Final = dt.timedelta(days=1)

VARIABLES: Final = {"ltr_on_inconclusive": "publish", "ltr_fairness_max": "0.3", "ltr_regression_max": "0.05"}
"""The gate is more lenient than by default: nights of so few lists are often inconclusive, and then nothing moves."""

ENVIRONMENT: Final = {
    "LTR_EVENTS_PATH": "audit.log",
    "LTR_DATA_URI": "data",
    "LTR_REGISTRY_URI": "registry",
    "LTR_SPOOL": "spool",
    "LTR_CALENDAR": "events.toml",
    "LTR_DATABASE_URL": "sqlite:///ltr.db",
    "LTR_BUCKETS": "1",  # its days are small, and each bucket costs time
}
"""Settings of the month's project, whose paths are from its folder."""


def simulate_history(folder: Path, newest: dt.date | None = None, seed: int = 7) -> None:
    """Live a month until the newest night in a folder, which must be empty, and say how to look at it."""
    if folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder} is not empty and is not overwritten; move it away or name another --path")
    month = month_until(newest or newest_night(dt.datetime.now(dt.UTC)), load_mapping().legacy_weights, seed)
    settings = _begin(folder, month)
    with console.status("simulating a month"):
        for night, said in _live(settings, month):
            print_line(f"{night}: {said}")
    alerts = standing(History(settings.data), month.nights[-1])
    console.print()
    print_line(f"{len(month.nights)} nights in {folder}; {len(alerts)} alerts stand")
    print_line(f"Look at them: cd {folder} && ltr serve, then http://127.0.0.1:8000/board/")


def _begin(folder: Path, month: Month) -> Settings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.toml").write_text(month.calendar)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items()))
    paths = ("LTR_EVENTS_PATH", "LTR_DATA_URI", "LTR_REGISTRY_URI", "LTR_CALENDAR")
    places = {name: str(folder / ENVIRONMENT[name]) for name in paths}
    settings = settings_at(places | {"LTR_BUCKETS": ENVIRONMENT["LTR_BUCKETS"]})
    record_of(settings.events_path).write_bytes(msgspec.json.encode({"world": month.world, "end": month.nights[-1]}))
    return settings


def _live(settings: Settings, month: Month) -> Iterator[tuple[dt.date, str]]:
    """Live the month, and yield each night with what became of it."""
    log, registry = Path(settings.events_path), settings.registry
    rankers: dict[dt.date, Ranker] = {}
    write_log(log, month.world, month.first_day, (month.nights[0] - month.first_day).days)
    for night in month.nights:
        if night != month.nights[0]:
            write_log(log, month.world, night - DAY, 1, append=True, rankers=rankers.get)
        moment = night_of(night)
        registry.ledger.clock = _stopped(moment + dt.timedelta(minutes=20))
        judged = chain.judge({"moment": moment.isoformat()}, VARIABLES, settings)
        said = [str(chain.finish(judged, "airflow/simulated", settings)["reason"])]
        registry.ledger.clock = _stopped(moment + dt.timedelta(hours=8))
        if night == month.rolled_back:
            said.append(str(registry.rollback(who="ops", why="complaints about the first places")))
        if night == month.unpinned:
            said.append(str(registry.unpin(who="ops", why="the next night was looked at")))
        if version := registry.promoted():
            rankers[night] = _ranker(settings, version)
        for _, drift, _ in monitor.watch(settings, night):
            said += [alert.what for alert in drift.alerts]
        yield night, "; ".join(said)


def _stopped(moment: dt.datetime) -> Callable[[], dt.datetime]:
    """Return a clock that stands at a moment of the simulated calendar."""
    return lambda: moment


def _ranker(settings: Settings, version: str) -> Ranker:
    rival = load_rival(settings.registry, version)
    if rival is None:
        raise SourceError(f"version {version} does not load; see the log")
    return Ranker(version, rival.scorer.score)
