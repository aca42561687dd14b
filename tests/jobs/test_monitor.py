"""The watch over landed nights: what is due, what is kept, what people are told, and what goes out as files."""

from __future__ import annotations

import csv
import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

from ltr_pipeline.errors import SourceError
from ltr_pipeline.jobs import monitor
from ltr_pipeline.monitoring.records import Alert, DriftReport, NightRecord, Outcomes, PostedMetrics
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.runs import extract
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings
from support.databases import opened, run
from support.small import DAY, DAYS, NIGHT, simulate, small_settings, up_to
from support.webhook import Server, running

NIGHTS = [NIGHT + ahead * DAY for ahead in range(3)]


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which three nights have landed."""
    folder = tmp_path_factory.mktemp("landed")
    settings = small_settings(folder)
    simulate(folder, days=DAYS)
    for night in NIGHTS:
        up_to("extract_events", settings, night)
        simulate(folder, night, 1)
    return folder


@pytest.fixture
def settings(landed: Path, tmp_path: Path) -> Settings:
    """A copy of it, for a test of its own."""
    shutil.copytree(landed, tmp_path / "project")
    return small_settings(tmp_path / "project", database_url=f"sqlite:///{tmp_path / 'ltr.db'}")


def dates(nights: list[dt.date]) -> list[str]:
    return [str(night) for night in nights]


def test_every_landed_night_is_watched_once(settings: Settings) -> None:
    assert monitor.due(settings) == dates(NIGHTS)
    found = list(monitor.watch(settings))
    assert [night for night, _, _ in found] == NIGHTS
    assert monitor.due(settings) == []
    assert monitor.due(settings, NIGHTS[1]) == dates(NIGHTS[1:2])
    history = History(settings.data)
    assert [one.date for one in history.read(DriftReport)] == [night - DAY for night in NIGHTS]
    matured = {one.date for one in history.read(Outcomes) if one.matured}
    assert matured == {night - 4 * DAY for night in NIGHTS}
    early = {one.date for one in history.read(Outcomes) if one.age_hours == 24.0}
    assert early == {night - 2 * DAY for night in NIGHTS}
    assert {one.version for one in history.read(Outcomes)} == {"legacy"}


def test_a_night_is_watched_once_however_often_something_lands_on_its_day(settings: Settings) -> None:
    """From the moment on at which it was due: what lands before may lack events of the day before."""
    night = NIGHTS[-1] + DAY

    def lands(hour: int) -> list[str]:
        at = dt.datetime.combine(night, dt.time(hour, 35), dt.UTC)
        extract.land(settings, at, at - 20 * DAY, last_try=True)
        return monitor.due(settings)

    list(monitor.watch(settings))
    assert lands(0) == lands(1) == []
    assert lands(2) == [str(night)]
    assert [date for date, _, _ in monitor.watch(settings)] == [night]
    assert lands(3) == lands(4) == []
    assert monitor.due(settings, night) == [str(night)]


def test_the_log_of_predictions_covers_nights_not_landings(settings: Settings, tmp_path: Path) -> None:
    def rows(folder: str) -> list[list[str]]:
        monitor.export_history(settings, tmp_path / folder, days=2)
        with (tmp_path / folder / "predictions_log.csv").open() as file:
            return list(csv.reader(file))

    before = rows("before")
    at = night_of(NIGHTS[-1]) + dt.timedelta(hours=1)
    extract.land(settings, at, at - 20 * DAY, last_try=True)  # the last simulated day, which no night has landed
    after = rows("after")
    assert len(after) > len(before)
    assert {tuple(row) for row in before} <= {tuple(row) for row in after}


def test_a_night_that_is_watched_again_finds_the_same(settings: Settings) -> None:
    def found() -> list[object]:
        history = History(settings.data)
        return [*history.read(DriftReport), *history.read(Outcomes)]

    monitor.watch_data(dates(NIGHTS[-1:]), settings)
    monitor.watch_outcomes(dates(NIGHTS[-1:]), settings)
    first = found()
    assert first
    monitor.watch_data(dates(NIGHTS[-1:]), settings)
    monitor.watch_outcomes(dates(NIGHTS[-1:]), settings)
    assert found() == first


def test_with_one_day_of_history_nothing_alerts(settings: Settings) -> None:
    simulated = min(NIGHTS) - DAYS * DAY
    report = monitor._watch_data(settings, simulated + DAY)
    assert report.status == "not_evaluable"
    assert report.reason
    assert report.alerts == []


def test_what_is_not_there_is_said(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"no events landed in the night of 2031-01-01; nights that did: 2025-07-15 to"
    ):
        monitor.due(settings, dt.date(2031, 1, 1))
    with pytest.raises(SourceError, match=r"nothing has landed in .*; `ltr run` lands events"):
        monitor.due(small_settings(tmp_path / "empty"))
    assert monitor.conclude([], settings) == {"alerts": [], "rows": 0, "removed": 0}


PRICE = Alert(kind="drift", subject="price", what="price has moved by 40 %.", remedy="Ask who writes it.")


def test_channels_are_told_of_what_is_new(settings: Settings) -> None:
    history = History(settings.data)
    with running(Server()) as hook:
        told = settings.model_copy(update={"notify_urls": (f"json://127.0.0.1:{hook.port}/",)})
        for number, alerts in enumerate([[], [PRICE], [PRICE]]):
            history.write(DriftReport(date=NIGHTS[number] - DAY, status="fine", alerts=alerts))
            monitor.conclude(dates([NIGHTS[number]]), told)
            assert len(hook.got) == (number > 0), "nothing, then once"
    assert hook.got[0]["title"] == f"LTR {NIGHTS[1]}: price should be looked at"
    assert "price has moved by 40 %. Ask who writes it." in hook.got[0]["message"]
    assert hook.got[0]["type"] == "warning"


def test_tables_have_what_the_history_has_once_they_are_made(settings: Settings, tmp_path: Path) -> None:
    list(monitor.watch(settings))
    assert monitor.conclude(dates(NIGHTS), settings)["rows"] == 0
    History(settings.data).write(
        PostedMetrics(date=NIGHT, at=dt.datetime(2025, 7, 15, 9, tzinfo=dt.UTC), metrics={"accuracy": 0.95})
    )
    History(settings.data).write(NightRecord(run="20250715_0215", date=NIGHT, verdict="keep", metrics={"mrr": 0.5}))
    taken, files = monitor.init(settings, tmp_path / "files")
    assert (taken, [file.name for file in files]) == (
        0,
        ["model_metrics.json", "predictions_log.csv", "drift_reports.json"],
    )
    found = monitor.conclude(dates(NIGHTS), settings)
    with opened(settings.database_url, tables=False) as database:
        metrics = run(database, "SELECT source, metric, value FROM model_metrics ORDER BY metric")
        days = run(database, "SELECT count(DISTINCT date), count(*) FROM outcomes_daily")
        features = run(database, "SELECT count(*) FROM drift_reports")
    assert metrics == [("2025-07-15T09:00:00+00:00", "accuracy", 0.95), ("20250715_0215", "mrr", 0.5)]
    assert days == [(5, 6)]  # the early look and the matured one meet on a day
    assert found["rows"] == 2 + 6 + features[0][0]


def test_what_is_older_than_is_kept_goes(settings: Settings) -> None:
    history = History(settings.data)
    old = NIGHT - 401 * DAY
    history.write(DriftReport(date=old, status="fine"))
    history.write(DriftReport(date=NIGHT - DAY, status="fine"))
    assert monitor.conclude(dates([NIGHT]), settings)["removed"] == 1
    assert history.dates(DriftReport) == [NIGHT - DAY]


def test_three_files_have_the_names_that_people_know(settings: Settings, tmp_path: Path) -> None:
    History(settings.data).write(NightRecord(run="20250715_0215", date=NIGHT, verdict="keep", metrics={"mrr": 0.5}))
    History(settings.data).write(DriftReport(date=NIGHT - DAY, status="fine"))
    monitor.export_history(settings, tmp_path / "out", days=1)
    metrics = json.loads((tmp_path / "out" / "model_metrics.json").read_text())
    assert metrics["current"]["metrics"] == {"mrr": 0.5}
    assert [one["run"] for one in metrics["history"]] == ["20250715_0215"]
    reports = json.loads((tmp_path / "out" / "drift_reports.json").read_text())
    assert [one["status"] for one in reports["reports"]] == ["fine"]
    with (tmp_path / "out" / "predictions_log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model_version"] for row in rows} == {"legacy"}
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times)
    assert {time[:10] for time in times} <= {str(NIGHTS[-1] - back * DAY) for back in range(12)}
    assert all(row["item_id"].startswith("lawyer-") for row in rows)


def test_an_export_of_nothing_has_the_files_too(tmp_path: Path) -> None:
    monitor.export_history(small_settings(tmp_path), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "model_metrics.json").read_text())["current"] is None
    assert json.loads((tmp_path / "out" / "drift_reports.json").read_text()) == {"reports": []}
    assert (tmp_path / "out" / "predictions_log.csv").read_text().startswith("timestamp,query_id,")
