"""Shared by all tests: an Airflow of their own, set up before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import servers

from ltr_pipeline.settings import Channels, Settings

HOME = tempfile.mkdtemp(prefix="ltr-tests-airflow-")
os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(Path("dags").resolve()),
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    OMP_WAIT_POLICY="PASSIVE",
)
for name in [
    name for name in os.environ if name.startswith(("LTR_", "AIRFLOW_VAR_LTR_")) and name != "LTR_REQUIRE_SERVICES"
]:
    del os.environ[name]

for part in (Channels, Settings):
    part.model_config["env_file"] = None  # not what the checkout's user has set


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which real servers were used."""
    if servers.STATES:
        terminalreporter.section("real servers")
        for name, state in sorted(servers.STATES.items()):
            terminalreporter.write_line(f"{name}: {state}")
