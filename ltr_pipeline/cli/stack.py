"""Airflow and the service on this machine: start, stop, say where they are."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import typer

from ltr_pipeline.cli.console import console, print_growth
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.settings import load_settings
from ltr_pipeline.simulate import growing

__all__ = ["airflow_home", "register"]

START_SECONDS: Final = 120
STOP_SECONDS: Final = 30
BIN: Final = Path(sys.executable).parent


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
    """Start Airflow and the service in the background and wait until they are healthy."""
    with console.status("simulating"):
        print_growth(growing.catch_up(load_settings()))
    home, url = airflow_home(), os.environ.get("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    airflow, service = _programs(home)
    if not airflow.running():
        if _airflow_is_healthy(url):
            raise SettingsError(f"something else answers at {url}; stop it or set AIRFLOW__API__PORT")
        airflow.start()
    can_serve = find_spec("fastapi_offline") is not None
    if can_serve and not service.running():
        service.start()
    airflow.wait(lambda: _airflow_is_healthy(url))
    console.print(f"Airflow is at {url} (log: {airflow.log})")
    for user, password in _passwords(home).items():
        console.print(f"  user {user}, password {password}", markup=False)
    if can_serve:
        service.wait(lambda: _serves(service))
        console.print(f"The service is at {_address(service)} (docs/api.md; log: {service.log})")
    else:
        console.print("The service is not started: it needs pip install 'ltr-pipeline[serving]'.", markup=False)
    console.print("Toggle the DAG train_ltr_daily to run it every night at 02:15 UTC; `make down` stops all of it.")


def down() -> None:
    """Stop what `up` started."""
    running = [program for program in _programs(airflow_home()) if program.running()]
    for program in reversed(running):
        program.stop()
        console.print(f"{program.title} has stopped.")
    if not running:
        console.print("Nothing is running.")


def serve() -> None:
    """Rank by the published weights over HTTP until it is stopped (docs/api.md)."""
    # In place of this process: the command line has imported what a service does not need.
    os.execv(sys.executable, [sys.executable, "-m", "ltr_pipeline.serving"])  # noqa: S606 - our own interpreter


class _Program:
    """A program in the background, in a process group of its own, so that all of it can be stopped."""

    def __init__(self, title: str, name: str, command: list[str], home: Path) -> None:
        self.title = title
        self.log = home / f"{name}.log"
        self._pid_file = home / f"{name}.pid"
        self._command = command

    def start(self) -> None:
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # standalone starts `airflow` by name
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own environment's programs
                self._command,
                env=os.environ | {"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_file.write_text(str(process.pid))

    def running(self) -> bool:
        """Whether any process of the group is alive."""
        try:
            group = int(self._pid_file.read_text())
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

    def wait(self, healthy: Callable[[], bool]) -> None:
        """Wait until it is healthy; SettingsError when it takes too long or has ended."""
        deadline = time.monotonic() + START_SECONDS
        while not healthy():
            if time.monotonic() > deadline or not self.running():
                raise SettingsError(f"{self.title} did not become healthy within {START_SECONDS} s; read {self.log}")
            time.sleep(0.5)

    def stop(self) -> None:
        """Ask the whole group to end, and make it end when it takes too long."""
        deadline = time.monotonic() + STOP_SECONDS
        asked = False
        while self.running():
            if not asked or time.monotonic() > deadline:
                os.killpg(int(self._pid_file.read_text()), signal.SIGKILL if asked else signal.SIGTERM)
                asked = True
            time.sleep(0.2)
        self._pid_file.unlink(missing_ok=True)


def _programs(home: Path) -> tuple[_Program, _Program]:
    return (
        _Program("Airflow", "standalone", [str(BIN / "airflow"), "standalone"], home),
        _Program("The service", "serving", [sys.executable, "-m", "ltr_pipeline.serving"], home),
    )


def _airflow_is_healthy(url: str) -> bool:
    parts = _answer(f"{url}/api/v2/monitor/health")
    names = ("metadatabase", "scheduler", "dag_processor")
    return parts is not None and all(parts[name]["status"] == "healthy" for name in names)


def _serves(service: _Program) -> bool:
    address = _address(service)
    return address is not None and _answer(f"{address}/ltr/health") is not None


def _address(service: _Program) -> str | None:
    """Where the service says that it listens, which its settings decide."""
    said = re.findall(r"serving on (http://\S+)", service.log.read_text(errors="replace"))
    return said[-1].replace("//0.0.0.0:", "//127.0.0.1:") if said else None


def _answer(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http only
            return dict(json.load(answer))
    except (OSError, ValueError):
        return None


def _passwords(home: Path) -> dict[str, str]:
    path = home / "simple_auth_manager_passwords.json.generated"
    return dict(json.loads(path.read_text())) if path.exists() else {}
