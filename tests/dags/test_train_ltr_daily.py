"""The real DAG, run by Airflow in this process: branches, retries, Variables, the Asset, repeats and backfills."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from airflow.sdk import DAG
from msgspec.structs import replace

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.monitoring.records import NightRecord
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from support.dagruns import moved_events, note

FIRST = dt.date(2026, 9, 1)
NIGHT = dt.date(2026, 10, 1)
DAY = dt.timedelta(days=1)
WORLD = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=150)

Run = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "audit.log"
    write_log(path, WORLD, FIRST, (NIGHT - FIRST).days)
    return path


@pytest.fixture
def settings(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    mine = tmp_path / "audit.log"
    mine.write_bytes(log.read_bytes())
    monkeypatch.setenv("LTR_EVENTS_PATH", str(mine))
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    monkeypatch.setenv("LTR_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.setenv("AIRFLOW_VAR_LTR_FAIRNESS_MAX", "0.2")  # 300 rankings are too few for 0.05
    return load_settings()


@pytest.fixture
def run(dag: DAG, settings: Settings) -> Run:
    def night(date: dt.date = NIGHT, **params: Any) -> dict[str, str]:
        """State of every task after a run."""
        done = dag.test(run_conf={"date": date.isoformat(), **params})
        states = {instance.task_id: str(instance.state) for instance in done.get_task_instances()}
        tries = max(instance.try_number for instance in done.get_task_instances())
        return states | {"run": str(done.state), "run_id": done.run_id, "tries": str(tries)}

    return night


def test_a_good_model_is_published_and_a_repeat_changes_nothing(run: Run, settings: Settings, tmp_path: Path) -> None:
    states = run()
    assert states["run"] == "success"
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("success", "skipped", "success")
    registry = settings.registry
    assert registry.promoted() == "20261001_0215"
    (event,) = moved_events(states["run_id"])
    assert event["version"] == "20261001_0215"
    assert event["metrics"]["ndcg_at_5"] == registry.load("20261001_0215").ndcg_at_5
    before = {path: path.read_bytes() for path in (tmp_path / "registry").rglob("*") if path.is_file()}
    assert note(states["run_id"]).startswith("Published 20261001_0215: ")
    again = run()
    assert again["run"] == "success"
    assert moved_events(again["run_id"]) == []
    assert {path: path.read_bytes() for path in (tmp_path / "registry").rglob("*") if path.is_file()} == before
    logged = [json.loads(line) for line in (tmp_path / "logs" / "ltr_training.log").read_text().splitlines()]
    assert {(line["run"], line["date"]) for line in logged} == {("20261001_0215", "2026-10-01")}
    assert "weights published" in {line["event"] for line in logged}


def test_a_rejected_model_leaves_the_former_one_and_the_run_green(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    write_log(Path(settings.events_path), WORLD, NIGHT, 1, append=True)
    monkeypatch.setenv("AIRFLOW_VAR_LTR_NDCG_MIN", "0.99")
    states = run(NIGHT + DAY)
    assert states["run"] == "success"
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("skipped", "success", "success")
    assert settings.registry.promoted() == "20261001_0215"
    assert moved_events(states["run_id"]) == []
    assert "below the minimum of 0.99" in settings.data.get("runs/20261002_0215/report.html").decode()
    said = note(states["run_id"])
    assert said.startswith("Kept the former version: 20261001_0215 stays in use: ")
    assert "below the minimum of 0.99" in said
    assert said.endswith("runs/20261002_0215/report.html (`ltr report 20261002_0215 --open` shows it)")


def test_a_night_that_is_not_due_is_green_and_the_param_trains_all_the_same(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LTR_RETRAIN", "policy")
    assert run()["publish_weights"] == "success"  # nothing was published before
    write_log(Path(settings.events_path), WORLD, NIGHT, 1, append=True)
    states = run(NIGHT + DAY)
    assert states["run"] == "success"
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("skipped", "success", "success")
    assert moved_events(states["run_id"]) == []
    said = note(states["run_id"])
    assert said.startswith(
        "No model was trained: 20261001_0215 stays in use: not due: the newest good model was trained "
    )
    assert run(NIGHT + DAY, retrain=True)["run"] == "success"
    first, second = History(settings.data).read(NightRecord)
    assert (first.because, second.because) == ("no version is in use yet", "somebody asked for it")
    assert first.by_hand  # `dag.test` is a run that somebody asked for
    assert second.metrics["trees"] > 0


@pytest.mark.long
def test_a_dry_run_publishes_nothing_and_binds_no_later_run(run: Run, settings: Settings) -> None:
    states = run(dry_run=True)
    assert (states["run"], states["keep_previous"]) == ("success", "success")
    assert settings.registry.versions() == []
    assert run(dry_run=False)["publish_weights"] == "success"
    assert run(dry_run=True)["keep_previous"] == "success"


def test_a_date_that_has_not_come_is_refused_before_anything_lands(run: Run, settings: Settings) -> None:
    states = run(dt.date(2031, 1, 1))
    assert (states["run"], states["extract_events"], states["tries"]) == ("failed", "failed", "1")
    assert settings.data.keys("events") == []
    assert note(states["run_id"]).startswith("Failed in extract_events: the run's date 2031-01-01 is in the future")


@pytest.mark.parametrize("value", ["1.7", pytest.param("abc", marks=pytest.mark.long)])
def test_a_wrong_variable_fails_the_first_task_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LTR_NDCG_MIN", value)
    states = run()
    assert (states["run"], states["extract_events"], states["build_dataset"]) == ("failed", "failed", "upstream_failed")
    assert states["tries"] == "1"  # trying again would not help
    logged = (tmp_path / "logs" / "ltr_training.log").read_text()
    assert "ltr_ndcg_min" in logged
    assert value in logged


def test_storage_that_is_away_is_tried_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder belongs")
    states = run()
    assert (states["run"], states["extract_events"], states["tries"]) == ("failed", "failed", "4")


@pytest.mark.parametrize(
    ("place", "task"),
    [("data", "extract_events"), pytest.param("registry", "publish_weights", marks=pytest.mark.long)],
)
def test_storage_that_comes_back_is_found_by_the_next_try(
    run: Run, dag: DAG, settings: Settings, tmp_path: Path, place: str, task: str
) -> None:
    away = tmp_path / place
    away.write_text("a file where a folder belongs")
    dag.get_task(task).on_retry_callback = [lambda context: away.unlink()]
    states = run()
    assert not away.is_file()
    assert (states["run"], states["publish_weights"], states["tries"]) == ("success", "success", "2")
    assert settings.registry.promoted() == "20261001_0215"


@pytest.mark.long
@pytest.mark.parametrize("outage", ["no_feedback", "silent"])
def test_a_day_that_teaches_nothing_keeps_the_former_model(
    run: Run, settings: Settings, outage: Literal["silent", "no_feedback"]
) -> None:
    run()
    if outage == "no_feedback":
        write_log(Path(settings.events_path), replace(WORLD, outages={NIGHT: outage}), NIGHT, 1, append=True)
    states = run(NIGHT + DAY)
    assert (states["run"], states["keep_previous"]) == ("success", "success")
    assert settings.registry.promoted() == "20261001_0215"


def test_a_missing_log_is_a_clear_error(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LTR_EVENTS_PATH", str(tmp_path / "nowhere.log"))
    states = run()
    assert (states["run"], states["extract_events"]) == ("failed", "failed")
    assert "LTR_EVENTS_PATH" in (tmp_path / "logs" / "ltr_training.log").read_text()


@pytest.mark.long
def test_a_backfill_publishes_a_version_but_never_moves_latest_backwards(run: Run, settings: Settings) -> None:
    run()
    states = run(NIGHT - DAY)
    registry = settings.registry
    assert states["run"] == "success"
    assert registry.promoted() == "20261001_0215"
    assert moved_events(states["run_id"]) == []


@pytest.mark.long
def test_a_rollback_pins_until_unpin(run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = settings.registry
    monkeypatch.setenv("AIRFLOW_VAR_LTR_REGRESSION_MAX", "0.1")  # publishes the second model, better or not
    run()
    registry.rollback("20261001_0215", who="test", why="drill")
    write_log(Path(settings.events_path), WORLD, NIGHT, 2, append=True)
    states = run(NIGHT + 2 * DAY)
    assert states["publish_weights"] == "success"
    assert [listed.version for listed in registry.versions()] == ["20261003_0215", "20261001_0215"]
    assert registry.promoted() == "20261001_0215"
    assert moved_events(states["run_id"]) == []
    registry.unpin(who="test", why="drill over")
    assert registry.promoted() == "20261001_0215"
