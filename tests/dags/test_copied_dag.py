"""A DAG file that was copied from release 0.1 still parses and runs against this package."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.settings import load_settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

COPY = Path(__file__).with_name("train_ltr_daily_0_1.py.txt")
NIGHT, DAYS = dt.date(2026, 11, 1), 12
WORLD = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=60)


@pytest.mark.parametrize(("ndcg_min", "end"), [("0.1", "publish_weights"), ("0.99", "keep_previous")])
def test_a_dag_file_copied_from_the_former_release_runs(
    airflow_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ndcg_min: str, end: str
) -> None:
    monkeypatch.setenv("LTR_EVENTS_PATH", str(tmp_path / "audit.log"))
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    monkeypatch.setenv("LTR_WINDOW_DAYS", str(DAYS))
    monkeypatch.setenv("AIRFLOW_VAR_LTR_NDCG_MIN", ndcg_min)
    monkeypatch.setenv("AIRFLOW_VAR_LTR_FAIRNESS_MAX", "0.3")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_REGRESSION_MAX", "0.2")
    monkeypatch.setenv("AIRFLOW_VAR_LTR_ON_INCONCLUSIVE", "publish")
    write_log(tmp_path / "audit.log", WORLD, NIGHT - dt.timedelta(days=DAYS), DAYS)
    folder = tmp_path / "dags"
    folder.mkdir()
    shutil.copy(COPY, folder / "train_ltr_daily.py")

    bag = DagBag(str(folder))
    assert bag.import_errors == {}
    dag = bag.dags["train_ltr_daily"]
    dag.deadline = None  # https://github.com/apache/airflow/issues/73428
    for task in dag.tasks:
        task.retries = 0
    done = dag.test(run_conf={"date": NIGHT.isoformat()})

    states = {instance.task_id: str(instance.state) for instance in done.get_task_instances()}
    other = {"publish_weights": "keep_previous", "keep_previous": "publish_weights"}[end]
    assert states.pop(other) == "skipped"
    assert set(states.values()) == {"success"}, states
    assert load_settings().registry.promoted() == ("20261101_0215" if end == "publish_weights" else None)
