from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltr_pipeline.settings import Settings
from support import servers
from support.apiserver import ApiServer, Manager
from support.board import environment_of, write_board
from support.kept import some_nights
from support.small import DAY, NIGHT, moment


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


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Nights that people have something to decide about."""
    return some_nights(tmp_path_factory.mktemp("nights"))


@pytest.fixture(scope="session")
def beside_nights(nights: Settings) -> Iterator[ApiServer]:
    """Airflow beside these nights, with a run of the DAG for one of them, and one that has no report."""
    places = {"LTR_DATA_URI": nights.data_uri, "LTR_REGISTRY_URI": str(nights.registry_uri)}
    with ApiServer(Path(nights.data_uri).parent / "airflow", **places) as airflow:
        airflow.airflow("dags", "reserialize")
        for at, name in ((moment(NIGHT + DAY), "judged"), ("2025-07-30T02:15:00+00:00", "not-judged")):
            airflow.airflow("dags", "trigger", "train_ltr_daily", "--logical-date", at, "--run-id", name)
        yield airflow
