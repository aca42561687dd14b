"""`ltr run`, which is what `make run` calls: the next night, a repeat, a kept model; tests/whole has the first one."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltr_pipeline.local.lock import held
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([program("airflow"), "db", "migrate"], env=environment(home), check=True, capture_output=True)
    return home


def program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"AIRFLOW_HOME": str(home / ".airflow"), "OMP_WAIT_POLICY": "PASSIVE"}


def ltr(folder: Path, *arguments: str, code: int = 0, **more: str) -> str:
    command = [program("ltr"), *arguments]
    done = subprocess.run(
        command, env=environment(folder) | more, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if "--json" in arguments else done.stdout + done.stderr


def versions(folder: Path) -> list[dict[str, object]]:
    return json.loads(ltr(folder, "versions", "--json"))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def first(folder: Path) -> str:
    """What the first night of a fresh clone prints."""
    return ltr(folder, "run")


@pytest.mark.long
def test_nights_follow_each_other_and_a_repeat_changes_nothing(folder: Path, first: str) -> None:
    (published,) = versions(folder)
    date = dt.datetime.strptime(str(published["version"])[:8], "%Y%m%d").replace(tzinfo=dt.UTC).date()
    kept = ltr(folder, "run", AIRFLOW_VAR_LTR_NDCG_MIN="0.9")
    assert f"Running train_ltr_daily for {date + DAY}" in kept
    assert "below the minimum of 0.9" in kept
    assert f"{published['version']} stays in use" in kept
    assert versions(folder) == [published]

    registry = folder / "var" / "simulated" / "registry"
    before = files(registry)
    repeated = ltr(folder, "run", "--date", date.isoformat())
    assert f"latest moved from nothing to {published['version']}" in repeated  # what became of that day, as before
    assert files(registry) == before


@pytest.mark.parametrize(
    ("arguments", "more", "says"),
    [
        (["--date", "tomorrow"], {}, "'tomorrow' is no day"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ([], {"AIRFLOW_VAR_LTR_FAIRNESS_MAX": "1.7"}, "ltr_fairness_max is '1.7'"),
                (["--date", "2090-01-01"], {}, "is in the future"),
                ([], {"LTR_WINDOW_DAYS": "soon"}, "LTR_WINDOW_DAYS"),
                ([], {"LTR_PARAMETERS": '{"num_leaves": -1}'}, "num_leaves"),
                ([], {"LTR_EVENTS_PATH": "nowhere.log", "LTR_DATA_URI": "other"}, "nowhere.log: no event log there"),
            )
        ),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(
    folder: Path, arguments: list[str], more: dict[str, str], says: str
) -> None:
    said = ltr(folder, "run", *arguments, code=2, **more)
    assert says in said
    assert "Traceback" not in said


def test_the_second_of_two_runs_at_once_is_refused(folder: Path) -> None:
    with held(folder / ".airflow" / "run.lock", "another run at hand"):
        said = ltr(folder, "run", code=2)
    assert f"error: another run at hand is under way: process {os.getpid()}, since " in said


@pytest.mark.long
def test_an_own_log_is_never_mixed_with_simulated_nights_and_is_shown_from_then_on(folder: Path, first: str) -> None:
    """The next step of the README, after nights simulated ahead of the calendar; tests/jobs has it without Airflow."""
    assert versions(folder)
    world = World(legacy_weights=load_mapping().legacy_weights, seed=7, rankings_per_day=60)
    write_log(folder / "mine.jsonl", world, dt.datetime.now(dt.UTC).date() - 20 * DAY, 20)
    (folder / ".env").write_text("LTR_EVENTS_PATH=mine.jsonl\nLTR_WINDOW_DAYS=20\n")
    ran = ltr(folder, "run", AIRFLOW_VAR_LTR_GATE_MODE="dry_run")
    assert "(real events; data in var/data, registry in var/registry)" in ran
    (folder / ".env").unlink()
    assert versions(folder) == []
    found = {one["subject"]: one["text"] for one in json.loads(ltr(folder, "doctor", "--json", code=1))}
    assert found["world"].startswith("real events")
    assert "check the file, its permissions, and LTR_EVENTS_PATH" in found["event log"]
