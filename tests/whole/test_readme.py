"""The README in its order, as a newcomer types it: run, an own log, serve, up, run, roll back.

Every command and every snippet is taken from the README as it is printed; only ports, the name of the log and the
version to go back to are this test's own.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.local.ports import free_port
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import newest_night
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from support.programs import CHECKOUT

README = (CHECKOUT / "README.md").read_text()
SNIPPETS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PARTS = ("dags", "deploy", "ltr_pipeline")
DAY = dt.timedelta(days=1)
WORLD = World(legacy_weights=load_mapping().legacy_weights, seed=7, rankings_per_day=100)
LENIENT = {
    "AIRFLOW_VAR_LTR_FAIRNESS_MAX": "1",
    "AIRFLOW_VAR_LTR_REGRESSION_MAX": "1",
    "AIRFLOW_VAR_LTR_ON_INCONCLUSIVE": "publish",
}
"""For a log that is small, so that the test is short."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout in a folder of its own, whose programs have been installed before."""
    folder = tmp_path / "ltr pipeline"
    folder.mkdir()
    for path in CHECKOUT.iterdir():
        if path.name in PARTS:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file() and path.name not in {".git", ".env"}:
            shutil.copy(path, folder)
            os.utime(folder / path.name, (0, 0))  # older than the installation
    (folder / ".venv").symlink_to(CHECKOUT / ".venv")
    return folder


class Shell:
    """Types what the README prints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service, self.airflow = free_port(), free_port()
        own = ("LTR_", "AIRFLOW")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
            "PATH": f"{CHECKOUT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "LTR_SERVE_PORT": str(self.service),
            "AIRFLOW__API__PORT": str(self.airflow),
            "WEIGHTS_POLL_SECONDS": "0.5",
        }

    def __call__(self, command: str, **more: str) -> str:
        """Return what a printed command prints."""
        return self.run(printed(command), **more)

    def run(self, command: str, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    def snippet(self, language: str, holding: str) -> str:
        """Return a printed snippet, with this test's port."""
        (found,) = (text for kind, text in SNIPPETS if kind == language and holding in text)
        return str(found).replace("127.0.0.1:8000", f"127.0.0.1:{self.service}")

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.service}/ltr/health", timeout=60) as answer:
            return dict(json.load(answer))

    @contextmanager
    def meanwhile(self, command: str, says: str) -> Iterator[None]:
        """Keep a printed command running once it has said something; Ctrl-C ends it."""
        log = self.folder / "meanwhile.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", printed(command)],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait(lambda: says in log.read_text() or process.poll() is not None)
            assert says in log.read_text(), log.read_text()
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


@pytest.fixture
def shell(clone: Path) -> Shell:
    return Shell(clone)


def printed(command: str) -> str:
    """Return a command that the README holds."""
    assert re.search(rf"(^\$ |`){re.escape(command)}( |`|$)", README, re.MULTILINE), f"the README has no {command}"
    return command


def wait(ready: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


def answers(text: str) -> list[dict[str, Any]]:
    """Return the JSON documents that commands have printed one after the other."""
    decoder, found = json.JSONDecoder(), []
    while text.strip():
        document, end = decoder.raw_decode(text.strip())
        found.append(document)
        text = text.strip()[end:]
    return found


def versions(shell: Shell) -> list[str]:
    return [each["version"] for each in listed(shell)]


def latest(shell: Shell) -> str:
    return next(each["version"] for each in listed(shell) if each["is_latest"])


def listed(shell: Shell) -> list[dict[str, Any]]:
    return list(json.loads(shell.run("ltr versions --json 2> /dev/null")))


def test_the_readme_leads_from_a_clone_to_a_rollback(shell: Shell) -> None:
    first = shell("make run")
    assert "Verdict: publish" in first
    assert "(simulated events; data in var/simulated/data, registry in var/simulated/registry)" in first
    assert "Simulated 31 days" in first
    for said in ("1 of 8: start Airflow", "3 of 8: build the dataset", "7 of 8: publish the weights"):
        assert re.search(rf"^step {said}, \d+\.\d s", first, re.MULTILINE)
    assert re.search(r"^step 4 of 8: train the ranker, \d+\.\d s, \d\d,\d{3} rows$", first, re.MULTILINE)
    assert len(versions(shell)) == 1

    today = newest_night(dt.datetime.now(dt.UTC))
    log = shell.folder.parent / "audit.log"
    write_log(log, WORLD, today - 25 * DAY, 23)
    drafted = shell.run(printed(".venv/bin/ltr init my_events.jsonl").replace("my_events.jsonl", str(log)))
    assert "Verdict: publish" in drafted
    assert "make run" in drafted
    shell.run(printed("echo LTR_EVENTS_PATH=/path/to/audit.log >> .env").replace("/path/to/audit.log", str(log)))
    own = shell.run(printed("make run DATE=2026-11-28").replace("2026-11-28", str(today - DAY)), **LENIENT)
    assert "(real events" in own
    assert "Verdict: publish" in own
    (old,) = versions(shell)

    with shell.meanwhile("make serve", "serving on"):
        ranked, taken, health = answers(shell.run(shell.snippet("bash", "/ltr/rank")))
        assert (ranked["version"], ranked["model"]) == (old, "lightgbm")
        assert {item["item_id"] for item in ranked["items"]} == {"lawyer-456", "lawyer-789"}
        assert taken == {"accepted": 1}
        assert health["version"] == old

    write_log(log, WORLD, today - 2 * DAY, 2, append=True)
    try:
        assert f"http://127.0.0.1:{shell.airflow}" in shell("make up")
        assert "Verdict: publish" in shell("make run", **LENIENT)
        new = latest(shell)
        assert new > old
        wait(lambda: shell.health()["version"] == new)
        rollback = shell.snippet("python", "rollback_weights").replace("20250714_0215", old)
        shell.run(f"python -c {shlex.quote(rollback)}")
        assert latest(shell) == old
        wait(lambda: shell.health()["version"] == old)
    finally:
        shell("make down")
