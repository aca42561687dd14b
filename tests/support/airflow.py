"""A real Airflow as `make up` starts it, and its API as its people use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.local.ports import free_port
from support import servers
from support.programs import CHECKOUT

PATIENCE_SECONDS = 300


def bundle(name: str, folder: Path) -> dict[str, Any]:
    """A folder of DAG files, as Airflow's configuration names it."""
    return {
        "name": name,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }


def environment_of(home: Path, *bundles: dict[str, Any]) -> dict[str, str]:
    """The environment of an Airflow in `home` that has our DAGs, and those of these bundles."""
    port = free_port()
    every = [bundle("dags-folder", CHECKOUT / "dags"), *bundles]
    return os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(every),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "LTR_SERVE_PORT": str(free_port()),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def ltr(environment: dict[str, str], *arguments: str) -> str:
    """A command as a user types it, in the folder of this Airflow, where logs/ and var/ then are."""
    program = Path(sys.executable).with_name("ltr")
    done = subprocess.run(
        [program, *arguments],
        env=environment,
        cwd=environment["AIRFLOW_HOME"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def up(environment: dict[str, str]) -> Iterator[None]:
    """Airflow and the service, as `ltr up` starts and `ltr down` stops them."""
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
    try:
        assert f"The service is at http://127.0.0.1:{environment['LTR_SERVE_PORT']}" in ltr(environment, "up")
        servers.used("Airflow", f"{version('apache-airflow')} standalone, SQLite, LocalExecutor")
        yield
    finally:
        said = ltr(environment, "down")
        assert "Airflow has stopped." in said
        assert "The service has stopped." in said
        assert "Nothing is running." in ltr(environment, "down")


class Api:
    """Airflow's API as a user has it, by default the first."""

    def __init__(self, environment: dict[str, str], user: str = "") -> None:
        self.url = environment["AIRFLOW__API__BASE_URL"]
        home = Path(environment["AIRFLOW_HOME"])
        passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())
        self.user = user or next(iter(passwords))
        self.password = passwords[self.user]
        self.token = ""
        login = {"username": self.user, "password": self.password}
        self.token = self("POST", "/auth/token", login)["access_token"]

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def wait(what: str, ready: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := ready():
                return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        time.sleep(2)
    pytest.fail(f"no {what} within {PATIENCE_SECONDS} s")


def toggle(api: Api, dag: str) -> None:
    api("PATCH", f"/api/v2/dags/{dag}?update_mask=is_paused", {"is_paused": False})


def finished(api: Api, dag: str) -> dict[str, Any]:
    """The first run of a DAG that has ended."""
    ended = ("success", "failed")
    runs = f"/api/v2/dags/{dag}/dagRuns"
    return wait(
        f"finished run of {dag}", lambda: [run for run in api("GET", runs)["dag_runs"] if run["state"] in ended]
    )[0]
