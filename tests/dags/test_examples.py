"""The DAG in examples/ that follows what is published: it needs Airflow alone, and a run by hand is no fault."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

FILE = Path("examples/follow_ltr_weights.py")


@pytest.fixture
def follower(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> DAG:
    """The DAG, as it is found in the folder of an Airflow that has it."""
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder.resolve())},
        }
        for name, folder in (("dags-folder", Path("dags")), ("examples", FILE.parent))
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    bag = DagBag(str(FILE.parent))
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    return dag


def test_it_waits_for_the_asset_and_says_so(follower: DAG) -> None:
    assert [asset.name for asset in follower.timetable.asset_condition.objects] == ["ltr_weights"]
    assert (follower.catchup, bool(follower.doc_md), follower.tags) == (False, True, {"ltr", "example"})


def test_it_needs_airflow_alone() -> None:
    imported = [node for node in ast.walk(ast.parse(FILE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imported}
    assert {name.split(".")[0] for name in names} == {"__future__", "airflow", "datetime", "logging", "typing"}


def test_a_run_by_hand_is_green_and_says_that_nothing_was_published(
    follower: DAG, caplog: pytest.LogCaptureFixture
) -> None:
    done = follower.test()
    assert str(done.state) == "success"
    assert [str(instance.state) for instance in done.get_task_instances()] == ["success"]
    assert "nothing was published: this run was triggered by hand" in caplog.text
