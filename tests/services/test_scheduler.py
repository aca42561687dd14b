"""A real Airflow, as `make up` starts it: the DAG is visible and paused, toggled over the REST API, and runs green."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import servers

DAG = "train_ltr_daily"
PATIENCE_SECONDS = 300
CHECKOUT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    port = free_port()
    return os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW_VAR_LTR_FAIRNESS_MAX": "0.2",  # the simulated month ends today: some day 0.05 would not be reached
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


class Api:
    def __init__(self, environment: dict[str, str]) -> None:
        self.url = environment["AIRFLOW__API__BASE_URL"]
        home = Path(environment["AIRFLOW_HOME"])
        passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())
        user, password = next(iter(passwords.items()))
        self.token = ""
        self.token = self("POST", "/auth/token", {"username": user, "password": password})["access_token"]

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def api(environment: dict[str, str]) -> Iterator[Api]:
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
    ltr(environment, "simulate", "--days", "31", "--rankings-per-day", "200")
    try:
        ltr(environment, "up")
        servers.used("Airflow", f"{version('apache-airflow')} standalone, SQLite, LocalExecutor")
        yield Api(environment)
    finally:
        ltr(environment, "down")


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


def test_toggled_dag_runs_green_and_emits_its_asset(api: Api, environment: dict[str, str]) -> None:
    dag = wait("DAG", lambda: api("GET", f"/api/v2/dags/{DAG}/details"))
    assert dag["is_paused"] is True
    assert "Train, gate and publish" in dag["doc_md"]
    api("PATCH", f"/api/v2/dags/{DAG}?update_mask=is_paused", {"is_paused": False})
    run = wait(
        "finished run",
        lambda: [
            run
            for run in api("GET", f"/api/v2/dags/{DAG}/dagRuns")["dag_runs"]
            if run["state"] in ("success", "failed")
        ],
    )[0]
    assert (run["state"], run["run_type"]) == ("success", "scheduled")
    tasks = api("GET", f"/api/v2/dags/{DAG}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
    states = {task["task_id"]: task["state"] for task in tasks}
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("success", "skipped", "success")
    (event,) = api("GET", "/api/v2/assets/events")["asset_events"]
    (latest,) = json.loads(ltr(environment, "versions", "--json"))
    assert event["extra"]["version"] == latest["version"] == f"{run['logical_date'][:10].replace('-', '')}_0215"
    assert latest["is_latest"]
    assert event["extra"]["metrics"]["ndcg_at_5"] == latest["ndcg_at_5"]
    assert "ok" in ltr(environment, "verify")
