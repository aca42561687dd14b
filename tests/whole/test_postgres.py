"""Airflow's metadata in a real PostgreSQL, as in docker-compose.yaml: migrated from nothing, the DAG runs green."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.native.postgres import PostgresServer
from support.programs import CHECKOUT

DAG = "train_ltr_daily"


def rows(server: PostgresServer, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        found: list[tuple[object, ...]] = cursor.fetchall()
        return found


@pytest.mark.long  # tests/native/test_stack.py runs it over PostgreSQL, too, by a scheduler
def test_dag_runs_green_over_postgresql(postgres: PostgresServer, tmp_path: Path) -> None:
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url,
        "AIRFLOW_VAR_LTR_FAIRNESS_MAX": "0.2",  # the simulated month ends today: some day 0.05 would not be reached
    }
    programs = Path(sys.executable).parent

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [*command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    run(programs / "airflow", "db", "migrate")
    run(programs / "ltr", "simulate", "--days", "31", "--rankings-per-day", "200")
    run(sys.executable, "-m", "ltr_pipeline.airflow.once", DAG, "{}")
    assert rows(postgres, "SELECT dag_id, state FROM dag_run") == [(DAG, "success")]
    states = dict(rows(postgres, "SELECT task_id, state FROM task_instance"))
    assert (states["publish_weights"], states["keep_previous"]) == ("success", "skipped")
    assert not (tmp_path / "airflow.db").exists()
