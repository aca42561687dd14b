"""Programs in the background: what is started is known again and stopped, and nobody else ever is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local import programs
from ltr_pipeline.local.programs import Program, all_or_none, stop, wait

FAMILY = ("sh", "-c", "sleep 601 & echo well; wait")
LTR = Path(sys.executable).with_name("ltr")


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, with a group of its own."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Program]:
    """A program of two processes, which runs and is well."""
    program = started(FAMILY, tmp_path)
    processes = program.processes()
    yield program
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def started(command: tuple[str, ...], folder: Path) -> Program:
    program = Program("The family", "family", command, folder)
    program.start()
    wait({program: lambda: program.log.read_text() == "well\n"}, 60)
    return program


def down(home: Path) -> str:
    done = subprocess.run(
        [LTR, "down"],
        env=os.environ | {"AIRFLOW_HOME": str(home), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lives(process: subprocess.Popen[bytes]) -> bool:
    time.sleep(0.2)  # a signal takes a moment
    return process.poll() is None


def test_down_leaves_alone_who_has_the_number_of_a_stale_record(
    stranger: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "standalone.pid").write_text(str(stranger.pid))
    said = down(tmp_path)
    assert lives(stranger)
    assert f"process {stranger.pid}, which runs `sleep 600`; it is left alone" in said
    assert "Nothing is running." in said
    assert down(tmp_path) == "Nothing is running.\n"


@pytest.mark.parametrize("record", ["{pid} 12.34 {boot}", "{pid} 1764550000.25", "{pid}", "", "0", "no number"])
def test_a_record_of_another_process_is_no_program_that_runs(
    stranger: subprocess.Popen[bytes], tmp_path: Path, record: str
) -> None:
    program = Program("Nobody", "nobody", FAMILY, tmp_path)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    program.record.write_text(record.format(pid=stranger.pid, boot=boot))
    assert not program.running()
    assert program.ended()
    assert stop([program]) == []
    assert lives(stranger)
    assert not program.record.exists()


def test_the_same_command_started_at_another_time_is_somebody_else(tmp_path: Path) -> None:
    program = Program("The sleeper", "sleeper", ("sleep", "600"), tmp_path)
    namesake = subprocess.Popen(program.command, start_new_session=True)
    try:
        program.record.write_text(str(namesake.pid))
        os.utime(program.record, (0, time.time() - 3600))
        assert not program.running()
        assert "left alone" in str(program.doubt())
        stop([program])
        assert lives(namesake)
    finally:
        namesake.kill()
        namesake.wait()


def test_what_was_started_is_stopped_with_its_children(family: Program) -> None:
    assert len(family.processes()) == 2
    found = family.processes()
    assert family.running()
    assert not family.ended()
    assert stop([family]) == [family]
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in found)
    assert not family.ended()
    assert stop([family]) == []


@pytest.mark.parametrize("former", ["{pid}", "{pid} {created}"])
def test_what_a_former_release_started_is_stopped(family: Program, former: str) -> None:
    leader = psutil.Process(int(family.record.read_text().split()[0]))
    family.record.write_text(former.format(pid=leader.pid, created=leader.create_time()))
    assert family.doubt() is None
    assert len(family.processes()) == 2
    family.note()
    assert len(family.record.read_text().splitlines()[0].split()) == 3
    assert stop([family]) == [family]


def test_children_whose_parent_was_killed_are_stopped(family: Program) -> None:
    leader = int(family.record.read_text().split()[0])
    os.kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    family.note()
    assert [process.cmdline() for process in family.processes()] == [["sleep", "601"]]
    assert stop([family]) == [family]


def test_a_group_without_any_recorded_process_is_left_alone(family: Program) -> None:
    leader, *_ = family.record.read_text().splitlines()
    family.record.write_text(f"{leader}\n")
    (child,) = (process for process in family.processes() if process.pid != int(leader.split()[0]))
    os.kill(int(leader.split()[0]), signal.SIGKILL)
    os.waitpid(int(leader.split()[0]), 0)
    assert stop([family]) == []
    assert child.is_running()


def test_who_does_not_end_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "STOP_SECONDS", 1)
    stubborn = started(("sh", "-c", "trap '' TERM; echo well; sleep 600"), tmp_path)
    assert stop([stubborn]) == [stubborn]
    assert not stubborn.running()


def test_the_end_of_the_log_says_why_a_program_has_ended(tmp_path: Path) -> None:
    program = Program("The loser", "loser", ("sh", "-c", "echo no luck; exit 3"), tmp_path)
    program.start()
    with pytest.raises(ProgramError, match=r"The loser has ended; \S*loser.log ends:\n  no luck$"):
        wait({program: lambda: False}, 60)
    assert program.ended()
    slow = Program("The sleeper", "sleeper", ("sleep", "600"), tmp_path)
    slow.start()
    with pytest.raises(ProgramError, match="did not become healthy within 0 s"):
        wait({slow: lambda: False}, 0)
    stop([slow])


def test_progress_says_who_is_awaited_for_how_long_and_what_its_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "TELL_SECONDS", 0.6)
    said: list[str] = []
    slow = Program("The slow one", "slow", ("sh", "-c", "printf 'one\\n\\033[35mtwo\\033[0m\\n'; sleep 600"), tmp_path)
    quiet, quick = (Program(f"The {name} one", name, ("sleep", "600"), tmp_path) for name in ("quiet", "quick"))
    family = [slow, quiet, quick]
    for program in family:
        program.start()
    try:
        wait({slow: lambda: len(said) >= 4, quiet: lambda: len(said) >= 2, quick: lambda: True}, 60, said.append)
    finally:
        stop(family)
    assert [line.split(", for ")[0] for line in said] == [
        "The slow one is starting",
        "The quiet one is starting",
        "The slow one is starting",
        "The slow one is starting",
    ]
    assert [line.split(" s now: ")[1] for line in said] == ["two", "its log is empty", "two", "two"]


@pytest.mark.parametrize("error", [ProgramError("no luck"), KeyboardInterrupt()])
def test_what_has_started_is_stopped_when_something_fails(tmp_path: Path, error: BaseException) -> None:
    said: list[str] = []
    runs, ended, never = family = [
        Program(f"Number {number}", str(number), (*command,), tmp_path)
        for number, command in enumerate((("sleep", "600"), ("true",), ("sleep", "600")))
    ]

    def start() -> None:
        with all_or_none(family, said.append):
            runs.start()
            ended.start()
            raise error

    with pytest.raises(type(error)):
        start()
    assert not any(program.running() or program.record.exists() for program in family)
    assert said in (["Stopping what had started: Number 0."], ["Stopping what had started: Number 0, Number 1."])
    assert not never.log.exists()


def test_a_child_that_ended_unnoticed_is_seen(tmp_path: Path) -> None:
    heedless = "import subprocess, time; child = subprocess.Popen(['true']); time.sleep(600)"
    parent = Program("The parent", "parent", (sys.executable, "-c", heedless), tmp_path)
    assert parent.ended_children() == set()
    parent.start()
    try:
        wait({parent: parent.ended_children}, 60)
    finally:
        stop([parent])
