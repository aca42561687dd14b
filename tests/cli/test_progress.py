"""How far a command is: one line a step when piped, and a line that lives on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ltr_pipeline.cli.progress import Steps
from ltr_pipeline.jobs import chain
from ltr_pipeline.report.artefacts import DATASET
from ltr_pipeline.runs.run import Run
from support.small import small_settings

PLACES = [("read",), ("publish", "keep"), ("tell",)]
TITLES = {"read": "read the log", "publish": "publish", "keep": "keep the former", "tell": "tell people"}
SCRIPT = """
import threading
from ltr_pipeline.cli.progress import Steps
with Steps([("a",), ("b",)], {"a": "think", "b": "write"}) as steps:
    steps.begin("a")
    threading.Event().wait(0.4)
    steps.begin("b")
"""


def untimed(text: str) -> list[str]:
    return re.sub(r"\d+\.\d s", "… s", text).splitlines()


def test_each_step_is_a_line_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"keep": 1234}
    with Steps(PLACES, TITLES, rows.get) as steps:
        steps.begin("read")
        assert capsys.readouterr().out == ""
        steps.end(56)
        steps.begin("keep")
        steps.begin("tell")
        assert untimed(capsys.readouterr().out) == [
            "step 1 of 3: read the log, … s, 56 rows",
            "step 2 of 3: keep the former, … s, 1,234 rows",
        ]
    assert untimed(capsys.readouterr().out) == ["step 3 of 3: tell people, … s"]


def test_a_step_that_failed_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(ZeroDivisionError), Steps(PLACES, TITLES, about="seed 3, ") as steps:
        steps.begin("read")
        _ = 1 / 0
    assert untimed(capsys.readouterr().out) == ["seed 3, step 1 of 3: read the log, failed after … s"]


def test_on_a_terminal_the_step_at_work_is_shown_while_it_is() -> None:
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=follower, stdin=follower, env=environment)
    os.close(follower)
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody writes any more
        while chunk := os.read(leader, 65536):
            shown += chunk
    os.close(leader)
    assert done.wait(timeout=60) == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert len(re.findall(r". step 1 of 2: think 0:00:00", text)) >= 3
    assert re.search(r"step 1 of 2: think, 0\.\d s", text)


def test_every_task_has_a_place_and_a_title() -> None:
    placed = [task for place in chain.PLACES for task in place]
    assert placed == list(chain.TITLES)
    assert len(placed) == len(set(placed)) == len(chain.CHAIN) + len(chain.ENDS) + 1


def test_rows_that_cannot_be_known_are_none(tmp_path: Path) -> None:
    run = Run("20250715_0215", small_settings(tmp_path))
    assert chain.rows_of(run, "build_dataset") is None
    run.storage.put(run.key(DATASET.name), b"{")
    assert chain.rows_of(run, "train_ranker") is None
