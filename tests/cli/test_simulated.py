"""The simulated log: never over another one, and continued as if nothing had been when it was killed."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate import growing
from support.commands import PROGRAM, ltr, project

FIRST = dt.date(2025, 7, 1)
DAYS = 5
SIMULATE = ("simulate", "--first", "2025-07-01", "--days", str(DAYS), "--rankings-per-day", "10")
PATIENCE_SECONDS = 60


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    project(tmp_path, monkeypatch)
    return load_settings()


@pytest.fixture
def log(settings: Settings) -> Path:
    return Path(settings.events_path)


def record(log: Path) -> Path:
    return log.with_name(f"{log.name}.world.json")


def test_a_log_of_the_days_asked_for_is_written(log: Path) -> None:
    done = ltr(*SIMULATE)
    assert (done.code, done.err) == (0, "")
    lines = log.read_bytes().splitlines()
    shown = [line for line in lines if b'"match_recommendation"' in line]
    assert f"Simulated {DAYS} days until 2025-07-06:" in done.out
    times = [line[14:24].decode() for line in shown if line.startswith(b'{"timestamp":"')]
    assert (min(times), max(times)) == ("2025-07-01", "2025-07-05")
    assert json.loads(record(log).read_bytes())["size"] == log.stat().st_size


def test_the_same_command_gives_the_same_log_and_another_seed_another(log: Path) -> None:
    ltr(*SIMULATE)
    for seed, same in (("7", True), ("8", False)):
        done = ltr(*SIMULATE, "--path", f"other-{seed}.log", "--seed", seed)
        assert done.code == 0
        assert (Path(f"other-{seed}.log").read_bytes() == log.read_bytes()) is same


def test_by_default_the_log_ends_today(log: Path) -> None:
    today = dt.datetime.now(dt.UTC).date()
    assert ltr("simulate", "--days", "2", "--rankings-per-day", "10").code == 0
    assert dt.date.fromisoformat(json.loads(record(log).read_bytes())["end"]) - today in (
        dt.timedelta(0),
        dt.timedelta(days=1),  # midnight passed in between
    )


def test_another_log_is_never_overwritten(log: Path) -> None:
    log.parent.mkdir()
    log.write_text("mine\n")
    done = ltr(*SIMULATE)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "is not overwritten" in line
    assert [path.name for path in log.parent.iterdir()] == ["audit.log"]
    assert log.read_text() == "mine\n"


@pytest.mark.parametrize(
    "wrong", [("--first", "2025-13-01"), ("--days", "0"), ("--rankings-per-day", "0"), ("--days", "9999999")]
)
def test_a_wrong_option_writes_nothing(log: Path, wrong: tuple[str, str]) -> None:
    done = ltr("simulate", *wrong)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert not log.exists()


def test_a_log_that_is_continued_is_the_log_that_would_have_been_written_at_once(settings: Settings, log: Path) -> None:
    ltr(*SIMULATE)
    whole = log.read_bytes()
    log.unlink()
    record(log).unlink()
    ltr("simulate", "--first", "2025-07-01", "--days", "2", "--rankings-per-day", "10")
    for day in (3, 4, 6, 6, 2):
        growing.up_to(settings, dt.date(2025, 7, day))
    assert log.read_bytes() == whole


@pytest.mark.parametrize("left", [None, 0, 1, 5_000, -1, 10**9])
def test_what_a_kill_left_is_written_again(settings: Settings, log: Path, left: int | None) -> None:
    """`left` bytes were written when the first simulation was killed, or the night that continues it."""
    ltr("simulate", "--first", "2025-07-01", "--days", "3", "--rankings-per-day", "10")
    three, after_three = log.read_bytes(), record(log).read_bytes()
    growing.up_to(settings, FIRST + DAYS * dt.timedelta(days=1))
    whole = log.read_bytes()
    assert len(whole) > len(three) > 5_000
    started = json.dumps(json.loads(after_three) | {"end": "2025-07-01", "size": 0, "growing": True}).encode()
    going_on = json.dumps(json.loads(after_three) | {"growing": True}).encode()
    for before, at in ((b"", started), (three, going_on)):
        record(log).write_bytes(at)
        log.unlink()
        if left is not None or before:
            log.write_bytes(before + whole[len(before) :][:left])
        growing.up_to(settings, FIRST + DAYS * dt.timedelta(days=1))
        assert log.read_bytes() == whole


def test_what_a_service_appended_in_the_meantime_stays(settings: Settings, log: Path) -> None:
    ltr(*SIMULATE)
    served = log.read_bytes() + b'{"message": "served"}\n'
    log.write_bytes(served)
    growing.up_to(settings, FIRST + (DAYS + 1) * dt.timedelta(days=1))
    assert log.read_bytes().startswith(served)
    assert log.stat().st_size > len(served)


def test_a_simulation_that_is_killed_is_continued(settings: Settings, log: Path, tmp_path: Path) -> None:
    days = 25
    command = ["--first", "2025-07-01", "--days", str(days), "--rankings-per-day", "200"]
    process = subprocess.Popen([PROGRAM, "simulate", *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed = log.stat().st_size
    assert json.loads(record(log).read_bytes())["size"] == 0
    growing.up_to(settings, FIRST + days * dt.timedelta(days=1))
    assert ltr("simulate", *command, "--path", str(tmp_path / "undisturbed.log")).code == 0
    whole = (tmp_path / "undisturbed.log").read_bytes()
    assert 0 < killed < len(whole)
    assert log.read_bytes() == whole


def test_a_day_waits_for_a_service_that_is_writing(settings: Settings, log: Path) -> None:
    ltr(*SIMULATE)
    with log.open("ab", buffering=0) as service, ThreadPoolExecutor() as pool:
        fcntl.flock(service, fcntl.LOCK_EX)
        service.write(b'{"message": ')
        day = pool.submit(growing.up_to, settings, FIRST + (DAYS + 1) * dt.timedelta(days=1))
        time.sleep(0.5)
        service.write(b'"served"}\n')
        fcntl.flock(service, fcntl.LOCK_UN)
        day.result(PATIENCE_SECONDS)
    assert b'\n{"message": "served"}\n' in log.read_bytes()
