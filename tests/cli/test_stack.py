"""`ltr up`: it starts Airflow and the service, or neither, and says why not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ltr_pipeline.local.ports import free_ports
from support.programs import CHECKOUT

LTR = Path(sys.executable).with_name("ltr")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    airflow, service = free_ports(2)
    return os.environ | {
        "AIRFLOW_HOME": str(tmp_path / ".airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__API__PORT": str(airflow),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{airflow}",
        "LTR_SERVE_PORT": str(service),
    }


def up(environment: dict[str, str]) -> subprocess.Popen[str]:
    home = Path(environment["AIRFLOW_HOME"])
    home.mkdir()
    return subprocess.Popen(
        [LTR, "up"], env=environment, cwd=home.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def nothing_runs(home: Path) -> bool:
    """Whether no process is Airflow or the service of that home, and no record says so."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("AIRFLOW_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.Error:
            continue
    return not [*home.glob("*.pid")]


def test_ports_that_are_taken_are_said_before_anything_starts(environment: dict[str, str]) -> None:
    taken = [socket.create_server(("", int(environment[name]))) for name in ("AIRFLOW__API__PORT", "LTR_SERVE_PORT")]
    try:
        said, _ = up(environment).communicate(timeout=60)
    finally:
        for each in taken:
            each.close()
    assert f"(process {os.getpid()}) listens on 0.0.0.0:{environment['AIRFLOW__API__PORT']}; stop it or set AIR" in said
    assert f"listens on 0.0.0.0:{environment['LTR_SERVE_PORT']}; stop it or set LTR_SERVE_PORT" in said
    assert not [*Path(environment["AIRFLOW_HOME"]).iterdir()]


@pytest.mark.long
def test_airflow_is_stopped_when_the_service_ends_with_the_end_of_its_log(environment: dict[str, str]) -> None:
    started = up(environment | {"LTR_SERVE_HOST": "203.0.113.1"})  # kept for documentation: no machine has it
    said, _ = started.communicate(timeout=300)
    assert started.returncode == 2
    assert "Stopping what had started: Airflow.\n" in said
    assert "error: The service has ended; " in said
    assert "\n  error: the service cannot listen on 203.0.113.1:" in said
    assert nothing_runs(Path(environment["AIRFLOW_HOME"]))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_who_interrupts_the_start_leaves_nothing_running(environment: dict[str, str], number: signal.Signals) -> None:
    home = Path(environment["AIRFLOW_HOME"])
    with up(environment) as started:
        deadline = time.monotonic() + 60
        while not (home / "serving.pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started.send_signal(number)
        said, _ = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "Stopping what had started: Airflow, The service." in said
    assert nothing_runs(home)
