"""Both DAGs of segments, run by Airflow in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from ltr_pipeline.jobs import segments
from ltr_pipeline.monitoring.records import SegmentsTrained
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.segments import comparison
from ltr_pipeline.settings import Settings, load_settings
from support.small import DAYS, simulate, up_to


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project whose events have landed, as the environment says it."""
    monkeypatch.setenv("LTR_EVENTS_PATH", str(tmp_path / "audit.log"))
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    monkeypatch.setenv("LTR_DATABASE_URL", f"sqlite:///{tmp_path / 'ltr.db'}")
    monkeypatch.setenv("LTR_WINDOW_DAYS", str(DAYS))
    simulate(tmp_path)
    loaded = load_settings()
    up_to("extract_events", loaded)
    return loaded


def run(name: str, **params: object) -> str:
    """State of a run."""
    dag = DagBag("dags").dags[name]
    for task in dag.tasks:
        task.retries = 0
    return str(dag.test(run_conf=params).state)


def test_training_by_hand_then_classifying_is_green(airflow_database: None, settings: Settings) -> None:
    assert run("classify_segments_daily") == "failed"  # there is no model yet
    assert run("train_segments") == "success"
    assert run("classify_segments_daily") == "success"
    assert run("train_segments", replace=True) == "success"
    shown = segments.show(settings)
    assert [level.version for level in shown.levels] == [2, 2]
    assert all(level.rows for level in shown.levels)


def test_where_nobody_can_be_asked_the_former_models_stay(
    airflow_database: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train_segments") == "success"
    monkeypatch.setattr(comparison, "ARI_MIN", 1.5)
    assert run("train_segments") == "success"
    assert [level.version for level in segments.show(settings).levels] == [1, 1]
    newest = [one for one in History(settings.data).read(SegmentsTrained) if one.version == 2]
    assert all(one.said.endswith("; a person decides this, and nobody could be asked") for one in newest)
