"""Watch landed nights, begin the history, and write it into files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from ltr_pipeline.cli.console import console, print_json, print_line
from ltr_pipeline.cli.events import day
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.jobs import monitor
from ltr_pipeline.monitoring.alerts import Standing, standing
from ltr_pipeline.monitoring.records import DriftReport, Outcomes
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.report.wording import figure

__all__ = ["export", "init", "watch"]


def watch(date: str | None, as_json: bool) -> None:
    """Watch the nights that are due, or the one of a date, and print what was found."""
    settings = load_settings()
    nights: list[dt.date] = []
    found = []
    for night, drift, outcomes in monitor.watch(settings, day(date) if date else None):
        nights.append(night)
        found.append({"night": night, "drift": drift, "outcomes": outcomes})
        if not as_json:
            _print_night(night, drift, outcomes)
    monitor.conclude([str(night) for night in nights], settings)
    alerts = standing(History(settings.data), nights[-1]) if nights else []
    if as_json:
        print_json({"nights": found, "alerts": alerts})
        return
    if not nights:
        print_line("Every landed night has been watched; `ltr monitor DATE` watches one again.")
        return
    _print_alerts(alerts)


def _print_night(night: dt.date, drift: DriftReport, outcomes: list[Outcomes]) -> None:
    said = drift.status.replace("_", " ")
    print_line(f"{night}: data of {drift.date} {said}{': ' if drift.reason else ''}{drift.reason}")
    for one in outcomes:
        if one.matured:
            ndcg = figure(one.ndcg_at_5.value if one.ndcg_at_5 else None)
            said = one.status.replace("_", " ")
            print_line(f"  lists of {one.date} by {one.version}: {one.lists:,}, nDCG@5 {ndcg}, {said}")


def _print_alerts(alerts: list[Standing]) -> None:
    console.print()
    if not alerts:
        print_line("No alert stands.")
    for one in alerts:
        print_line(f"ALERT since {one.since}: {one.alert.what} {one.alert.remedy}".rstrip())


def init(folder: Path) -> None:
    """Begin the history, and print where it is."""
    settings = load_settings()
    taken, paths = monitor.init(settings, folder)
    print_line(f"History: {settings.data.uri('monitoring')}, {taken:,} nights taken in")
    print_line(f"Tables model_metrics, drift_reports and outcomes_daily are in {settings.database}")
    _print_files(paths)


def export(folder: Path, days: int) -> None:
    """Write the three files, and print their paths."""
    _print_files(monitor.export_history(load_settings(), folder, days))


def _print_files(paths: list[Path]) -> None:
    for path in paths:
        print_line(f"{path}: {path.stat().st_size:,} bytes")
