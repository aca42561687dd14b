"""Airflow and the service on this machine: start, stop, say where they are."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ltr_pipeline.cli.console import console, print_line
from ltr_pipeline.cli.variables import create_missing
from ltr_pipeline.local import standalone
from ltr_pipeline.local.ports import check_free
from ltr_pipeline.local.programs import Program, stop, wait

__all__ = ["down", "serve", "up"]

START_SECONDS: Final = 300  # on a busy machine; a program that ends is noticed at once


def up() -> None:
    """Start Airflow and the service in the background and wait until they are healthy."""
    # Only here: what simulates takes seconds to import, and neither to serve nor to stop needs it.
    from ltr_pipeline.cli.results import print_growth
    from ltr_pipeline.cli.settings import load_settings
    from ltr_pipeline.simulate import growing

    with console.status("simulating"):
        print_growth(growing.catch_up(load_settings()))
    home = standalone.airflow_home()
    airflow, service = standalone.airflow(home), standalone.service(home)
    can_serve = find_spec("fastapi_offline") is not None
    if not airflow.running():
        check_free(standalone.airflow_port(), "AIRFLOW__API__PORT")
        airflow.start()
    if can_serve and not service.running():
        service.start()
    _await_airflow(airflow, home)
    create_missing()
    if can_serve:
        _await_service(service)
    else:
        console.print("The service is not started: it needs pip install 'ltr-pipeline[serving]'.", markup=False)
    console.print("Toggle the DAG train_ltr_daily to run it every night at 02:15 UTC; `make down` stops all of it.")


def down() -> None:
    """Stop what `up` started."""
    home = standalone.airflow_home()
    stopped: list[Program] = []
    for program in (standalone.service(home), standalone.airflow(home)):
        if doubt := program.doubt():
            print_line(doubt)
        for ended in stop([program]):
            console.print(f"{ended.title} has stopped.")
            stopped.append(ended)
    if not stopped:
        console.print("Nothing is running.")


def serve() -> None:
    """Rank by the published weights over HTTP until it is stopped (docs/api.md)."""
    # In place of this process: the command line has imported what a service does not need.
    os.execv(sys.executable, [sys.executable, "-m", "ltr_pipeline.serving"])  # noqa: S606 - our own interpreter


def _await_airflow(airflow: Program, home: Path) -> None:
    url, port = standalone.airflow_url(), standalone.airflow_port()
    wait([airflow], lambda: standalone.airflow_is_healthy([airflow], url, port), START_SECONDS)
    print_line(f"Airflow is at {url} (log: {airflow.log})")
    for user, password in standalone.passwords(home).items():
        console.print(f"  user {user}, password {password}", markup=False)


def _await_service(service: Program) -> None:
    wait([service], lambda: standalone.serves(service, standalone.address(service)), START_SECONDS)
    print_line(f"The service is at {standalone.address(service)} (docs/api.md; log: {service.log})")
