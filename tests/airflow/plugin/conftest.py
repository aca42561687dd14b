from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import servers
from support.apiserver import ApiServer, Manager
from support.board import environment_of, write_board


def started(manager: Manager, folder: Path) -> ApiServer:
    """Airflow beside a board of its own."""
    if manager == "fab" and importlib.util.find_spec("airflow.providers.fab") is None:
        servers.missing("FAB", "install apache-airflow-providers-fab, Airflow's auth manager with roles")
    write_board(folder)
    return ApiServer(folder / "airflow", manager, **environment_of(folder))


@pytest.fixture(scope="session")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Airflow with the simple auth manager."""
    with started("simple", tmp_path_factory.mktemp("simple")) as airflow:
        told = json.dumps({"conn_type": "sqlite", "host": str(airflow.database)})
        airflow.airflow("connections", "add", "ltr_database", "--conn-json", told)
        yield airflow


@pytest.fixture(scope="session")
def fab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Airflow with the FAB auth manager."""
    with started("fab", tmp_path_factory.mktemp("fab")) as airflow:
        yield airflow
