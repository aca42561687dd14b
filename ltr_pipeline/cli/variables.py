"""Show the nights' Variables in Airflow, and create those that are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import msgspec
from rich.markup import escape

from ltr_pipeline.cli.console import console, print_error, print_json, print_table
from ltr_pipeline.errors import LtrError, SettingsError
from ltr_pipeline.tuning import plain_value
from ltr_pipeline.variables import VARIABLES, Found, import_file, remark, unread

__all__ = ["create_missing", "look", "variables"]


def variables(as_json: bool) -> None:
    """Create the Variables that are missing and print all of them, or print a file for Airflow's import."""
    if as_json:
        print_json(import_file())
        return
    _check_airflow()
    with console.status("asking Airflow"):
        found = _create()
    header = ("Variable", "In use", "Default", "Allowed", "From", "")
    rows = [
        (each.name, _shown(has.value), each.default, each.allowed, escape(has.source), remark(each, has))
        for each, has in zip(VARIABLES, found.variables, strict=True)
    ]
    print_table(header, rows)
    console.print(f"\n{_created(found)} Airflow's database: {found.database}", markup=False)
    for misspelt in unread(found):
        print_error(f"warning: {misspelt}", "yellow")


def create_missing() -> None:
    """Create the Variables that are missing in an Airflow that runs, and say how many; failing is only told."""
    try:
        found = _create()
        console.print(f"  {_created(found)} Change them under Admin → Variables; `make variables` shows them.")
        for misspelt in unread(found):
            print_error(f"  warning: {misspelt}", "yellow")
    except LtrError as error:
        console.print(f"  {error}", markup=False)


def look() -> Found | None:
    """Return the Variables that are in use, creating none; None where there is no Airflow."""
    try:
        _check_airflow()
    except SettingsError:
        return None
    return _asked("read", "--look")


def _create() -> Found:
    return _asked("created")


def _asked(done_to: str, *options: str) -> Found:
    """Have a process of its own ask Airflow, as importing it sets up logging, and takes seconds."""
    command = [sys.executable, "-m", "ltr_pipeline.airflow.variables", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise LtrError(f"the nights' Variables could not be {done_to}: {''.join(last)}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Found)


def _created(found: Found) -> str:
    count = Counter(each.created for each in found.variables)
    if not count[True]:
        return f"All {count[False]} Variables have values; nothing was created."
    others = ", the others had values" if count[False] else ""
    return f"{count[True]} of {count.total()} Variables were created{others}."


def _shown(text: str) -> str:
    value = plain_value(text)
    return escape(value if value.isprintable() and value else repr(value))


def _check_airflow() -> None:
    """Raise SettingsError where no Airflow is, as Airflow would otherwise make a new, empty one."""
    if find_spec("airflow") is None:
        raise SettingsError("Airflow is not installed here; import what `ltr variables --json` prints where it is")
    named = os.environ.get("AIRFLOW_HOME") or os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    if not named and not Path("~/airflow/airflow.cfg").expanduser().exists():
        raise SettingsError("AIRFLOW_HOME is not set; set it to your Airflow's, or use `make variables` in a checkout")
