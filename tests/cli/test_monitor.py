"""`ltr monitor`, `monitor-init`, `monitor-export` and `simulate --history`, as a user types them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from ltr_pipeline.cli.history import simulate_history
from ltr_pipeline.monitoring.records import DriftReport, NightRecord, Outcomes
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.settings import load_settings
from ltr_pipeline.simulate.month import HALVED, month_until
from ltr_pipeline.storage.local import LocalStorage
from support.commands import ltr
from support.small import DAY, DAYS, NIGHT, WORLD, simulate, up_to


@pytest.fixture
def landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which a night has landed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTR_REGISTRY_URI", "registry")
    monkeypatch.setenv("LTR_DATA_URI", "data")
    monkeypatch.setenv("LTR_EVENTS_PATH", "audit.log")
    monkeypatch.setenv("LTR_WINDOW_DAYS", str(DAYS))
    simulate(tmp_path)
    up_to("extract_events", load_settings())
    return tmp_path


def test_a_landed_night_is_watched_told_and_then_known(landed: Path) -> None:
    first = ltr("monitor")
    assert (first.code, first.err) == (0, "")
    lines = first.out.splitlines()
    assert lines[0].startswith(f"{NIGHT}: data of {NIGHT - DAY} ")
    assert f"  lists of {NIGHT - 4 * DAY} by legacy:" in first.out
    assert lines[-1] == "No alert stands."
    assert ltr("monitor").out.startswith("Every landed night has been watched")
    again = ltr("monitor", str(NIGHT), "--json")
    assert [one["night"] for one in again.json["nights"]] == [str(NIGHT)]
    assert again.json["alerts"] == []
    assert ltr("monitor", "2031-01-01").err.startswith("error: no events landed in the night of 2031-01-01")
    assert "write it as 2025-07-15" in ltr("monitor", "yesterday").err


def test_files_and_tables_are_made(landed: Path) -> None:
    made = ltr("monitor-init")
    assert made.code == 0, made.err
    assert "Tables model_metrics, drift_reports and outcomes_daily are in SQLite file var/ltr.db" in made.out
    names = {"model_metrics.json", "predictions_log.csv", "drift_reports.json"}
    assert {path.name for path in Path("var/monitoring").iterdir()} == names
    assert ltr("monitor-export", "out", "--days", "1").code == 0
    assert {path.name for path in Path("out").iterdir()} == names
    assert len(Path("out/predictions_log.csv").read_text().splitlines()) > 1000


def test_nothing_landed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nothing has landed" in ltr("monitor").err


def test_a_month_is_not_lived_where_something_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var" / "history").mkdir(parents=True)
    (tmp_path / "var" / "history" / "mine").touch()
    refused = ltr("simulate", "--history")
    assert refused.code == 2
    assert "var/history is not empty and is not overwritten" in refused.err


@pytest.mark.long
def test_a_month_has_a_drift_rejected_nights_a_rollback_and_an_event_day(tmp_path: Path) -> None:
    newest = dt.date(2026, 11, 29)
    month = month_until(newest, WORLD.legacy_weights)
    simulate_history(tmp_path, newest)
    history = History(LocalStorage(tmp_path / "data"))
    nights = history.read(NightRecord)
    assert [night.date for night in nights] == month.nights
    kept = {night.date for night in nights if night.verdict == "keep"}
    assert kept & {day + 4 * DAY for day in month.noise}, "answers that mean nothing are rejected"
    reports = {report.date: report for report in history.read(DriftReport)}
    assert reports[month.drift].alerts[0].subject == HALVED
    assert not any(report.alerts for day, report in reports.items() if day < month.drift)
    assert reports[month.event].events == ["Open day"]
    outcomes = {(one.date, one.matured): one for one in history.read(Outcomes)}
    assert outcomes[month.event, True].alerts == [], "a declared day is not held against ordinary ones"
    assert len({one.version for one in outcomes.values()}) > 10
    assert (tmp_path / ".env").exists()
