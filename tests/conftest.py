"""Shared by all tests: an Airflow of their own, set up before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from services.kafka_server import VERSION, KafkaServer, lacking

from ltr_pipeline.settings import Settings

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

Settings.model_config["env_file"] = None  # not what the checkout's user has set


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A real broker; whoever stops it starts it again."""
    if programs := lacking():
        servers.missing("Apache Kafka", f"install {', '.join(programs)}")
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        servers.used("Apache Kafka", f"{VERSION}, one broker in KRaft mode")
        yield server
    finally:
        server.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which real servers were used."""
    if servers.STATES:
        terminalreporter.section("real servers")
        for name, state in sorted(servers.STATES.items()):
            terminalreporter.write_line(f"{name}: {state}")
