"""Airflow and the service on this machine: start, stop, say where they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec

import typer

from ltr_pipeline.cli.console import console, print_error, print_line
from ltr_pipeline.cli.variables import create_missing
from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local import standalone
from ltr_pipeline.local.ports import check_free
from ltr_pipeline.local.programs import Program, all_or_none, stop, wait
from ltr_pipeline.local.signals import interruptible

__all__ = ["down", "serve", "up"]


def up() -> None:
    """Start Airflow and the service in the background and wait until they are healthy; start both or none."""
    home = standalone.airflow_home()
    airflow, service = standalone.airflow(home), standalone.service(home)
    healthy: dict[Program, Callable[[], bool]] = {airflow: lambda: standalone.is_well(airflow)}
    if can_serve := find_spec("fastapi_offline") is not None:
        healthy[service] = lambda: standalone.serves(service, standalone.address(service))
    starting = [program for program in healthy if not program.running()]
    _check_ports(airflow in starting, service in starting)
    if can_serve:
        _tell_of_the_board()
    _simulate()
    try:
        with interruptible(), all_or_none(starting, print_line):
            for program in starting:
                program.start()
            wait(healthy, tell=print_line)
    except ProgramError as error:
        for line in f"error: {error}".splitlines():  # the end of a log has several
            print_error(line, "red")
        raise typer.Exit(2) from None
    print_line(f"Airflow is at {standalone.airflow_url()} (log: {airflow.log})")
    for user, password in standalone.passwords(home).items():
        console.print(f"  user {user}, password {password}", markup=False)
    create_missing()
    if can_serve:
        print_line(f"The service is at {standalone.address(service)} (docs/api.md; log: {service.log})")
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


def _check_ports(airflow: bool, service: bool) -> None:
    """Raise ProgramError when a port of what is to start is taken; SettingsError when the service's are wrong."""
    ports = {"AIRFLOW__API__PORT": standalone.airflow_port()} if airflow else {}
    if service:
        # Only here, as below: it takes a while to import, and neither to serve nor to stop needs it.
        from ltr_pipeline.serving.settings import ServingSettings
        from ltr_pipeline.settings import load

        ports["LTR_SERVE_PORT"] = load(ServingSettings).port
    check_free(ports)


def _tell_of_the_board() -> None:
    """Let messages and DAG pages link to the board of the service beside Airflow, unless another one is set."""
    from ltr_pipeline.serving.settings import ServingSettings
    from ltr_pipeline.settings import load

    settings = load(ServingSettings)
    if not settings.board_url:
        os.environ["LTR_BOARD_URL"] = f"{settings.own_url}/board/"


def _simulate() -> None:
    from ltr_pipeline.cli.results import print_growth
    from ltr_pipeline.cli.settings import load_settings
    from ltr_pipeline.simulate import growing

    with console.status("simulating"):
        print_growth(growing.catch_up(load_settings()))
