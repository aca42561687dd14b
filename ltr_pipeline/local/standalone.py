"""Airflow in one process tree and the service beside it, as ``ltr up`` starts them, and whether they are well."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ltr_pipeline.errors import ProgramError, SettingsError
from ltr_pipeline.local.ports import listens
from ltr_pipeline.local.programs import BIN, Program

__all__ = [
    "address",
    "airflow",
    "airflow_home",
    "airflow_is_healthy",
    "airflow_port",
    "airflow_url",
    "is_well",
    "passwords",
    "port_of",
    "serves",
    "service",
]

NOTICED_SECONDS: Final = 1.0
"""Longest time between the end of a process and the moment when whoever waits for it takes note."""


def airflow_home() -> Path:
    """Return the folder of this machine's Airflow, from ``AIRFLOW_HOME``; SettingsError when it is unset."""
    home = os.environ.get("AIRFLOW_HOME")
    if not home:
        raise SettingsError("AIRFLOW_HOME is not set; use `make run` and `make up`, which set it")
    return Path(home)


def airflow_url() -> str:
    """Return where Airflow is reached."""
    return os.environ.get("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")


def airflow_port() -> int:
    """Return the port that Airflow's API server listens on."""
    port = os.environ.get("AIRFLOW__API__PORT", "")
    return int(port) if port.isdecimal() else port_of(airflow_url())


def airflow(home: Path) -> Program:
    """Return Airflow as a program."""
    return Program("Airflow", "standalone", (str(BIN / "airflow"), "standalone"), home)


def service(home: Path) -> Program:
    """Return the service as a program."""
    return Program("The service", "serving", (sys.executable, "-m", "ltr_pipeline.serving"), home)


def airflow_is_healthy(programs: Sequence[Program], url: str, port: int) -> bool:
    """Return whether these programs, and no others that have the port, say that all parts of Airflow are well."""
    if not _listen(programs, port):
        return False
    parts = _answer(f"{url}/api/v2/monitor/health")
    return parts is not None and all(part["status"] == "healthy" for part in parts.values())


def is_well(standalone: Program) -> bool:
    """Return whether all parts of `airflow` are well; ProgramError when one has ended, which it does not notice."""
    if ended := standalone.ended_children():
        time.sleep(NOTICED_SECONDS)
        if ended & standalone.ended_children():
            raise ProgramError(f"a part of {standalone.title} has ended; {standalone.end()}")
    return airflow_is_healthy([standalone], airflow_url(), airflow_port())


def serves(program: Program, url: str | None) -> bool:
    """Return whether this service, and no other that has its port, answers; None is an address not known yet."""
    return url is not None and _listen([program], port_of(url)) and _answer(f"{url}/ltr/health") is not None


def address(program: Program) -> str | None:
    """Return where the service says that it listens, which its settings decide."""
    said = re.findall(r"serving on (http://\S+)", program.log.read_text(errors="replace"))
    return said[-1].replace("//0.0.0.0:", "//127.0.0.1:") if said else None


def port_of(url: str) -> int:
    """Return the port of an address."""
    return urlsplit(url).port or (443 if url.startswith("https:") else 80)


def _listen(programs: Sequence[Program], port: int) -> bool:
    return any(listens(program.processes(), port) for program in programs)


def _answer(url: str) -> dict[str, Any] | None:
    """Return the JSON object that is answered there; None when there is no such answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as found:  # noqa: S310 - http only
            return dict(json.load(found))
    except (OSError, ValueError):
        return None


def passwords(home: Path) -> dict[str, str]:
    """Return the password of each user, as Airflow made them up at its first start."""
    path = home / "simple_auth_manager_passwords.json.generated"
    return dict(json.loads(path.read_text())) if path.exists() else {}
