"""Airflow and the service on this machine: start, stop, say where they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import typer

from ltr_pipeline.cli import simulated
from ltr_pipeline.cli.console import console
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.settings import load_settings

__all__ = ["airflow_home", "register"]

START_SECONDS = 120
STOP_SECONDS = 30


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for command in (up, down, serve):
        app.command(rich_help_panel="This machine")(command)


def airflow_home() -> Path:
    """Folder of this machine's Airflow, from ``AIRFLOW_HOME``; SettingsError when it is unset."""
    home = os.environ.get("AIRFLOW_HOME")
    if not home:
        raise SettingsError("AIRFLOW_HOME is not set; use `make run` and `make up`, which set it")
    return Path(home)


def up() -> None:
    """Start Airflow in the background and wait until it is healthy."""
    simulated.catch_up(load_settings())
    home, url = airflow_home(), os.environ.get("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    if not _running(home):
        if _healthy(url):
            raise SettingsError(f"something else answers at {url}; stop it or set AIRFLOW__API__PORT")
        _start(home)
    deadline = time.monotonic() + START_SECONDS
    while not _healthy(url):
        if time.monotonic() > deadline or not _running(home):
            raise SettingsError(
                f"Airflow did not become healthy within {START_SECONDS} s; read {home / 'standalone.log'}"
            )
        time.sleep(1)
    console.print(f"Airflow is at {url} (log: {home / 'standalone.log'})")
    for user, password in _passwords(home).items():
        console.print(f"  user {user}, password {password}", markup=False)
    console.print("Toggle the DAG train_ltr_daily to run it every night at 02:15 UTC; `make down` stops Airflow.")


def down() -> None:
    """Stop what `up` started."""
    home = airflow_home()
    if not _running(home):
        console.print("Airflow is not running.")
        return
    _stop(home)
    console.print("Airflow has stopped.")


def serve() -> None:
    """Rank by the published weights over HTTP until it is stopped (docs/api.md)."""
    # In place of this process: the command line has imported what a service does not need.
    os.execv(sys.executable, [sys.executable, "-m", "ltr_pipeline.serving"])  # noqa: S606 - our own interpreter


def _stop(home: Path) -> None:
    """Ask the whole process group to end, and make it end when it takes too long."""
    deadline = time.monotonic() + STOP_SECONDS
    asked = False
    while _running(home):
        if not asked or time.monotonic() > deadline:
            os.killpg(int(_pid_file(home).read_text()), signal.SIGKILL if asked else signal.SIGTERM)
            asked = True
        time.sleep(0.2)
    _pid_file(home).unlink(missing_ok=True)


def _start(home: Path) -> None:
    """Start in a process group of its own, so that all of it can be stopped."""
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # standalone starts `airflow` by name
    with (home / "standalone.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own environment's airflow
            [str(programs / "airflow"), "standalone"],
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _pid_file(home).write_text(str(process.pid))


def _pid_file(home: Path) -> Path:
    return home / "standalone.pid"


def _running(home: Path) -> bool:
    """Whether any process of the group that `up` started is alive."""
    try:
        group = int(_pid_file(home).read_text())
        os.waitpid(group, os.WNOHANG)  # reap it when it is our own child
    except (FileNotFoundError, ValueError):
        return False
    except ChildProcessError:
        pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - http only
            parts = json.load(answer)
    except (OSError, ValueError):
        return False
    return all(parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))


def _passwords(home: Path) -> dict[str, str]:
    path = home / "simple_auth_manager_passwords.json.generated"
    return dict(json.loads(path.read_text())) if path.exists() else {}
