"""The plugin as Airflow loads it: by its entry point, light, and below the path of its address."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from ltr_pipeline.airflow.plugin import entry

SCRIPT = """
import json, sys
import airflow.plugins_manager, airflow.configuration
before = set(sys.modules)
from ltr_pipeline.airflow.plugin import LtrPlugin
print(json.dumps(sorted(name for name in set(sys.modules) - before)))
"""
HEAVY = ("fastapi", "jinja2", "numpy", "polars", "pyarrow", "lightgbm", "ltr_pipeline.board", "ltr_pipeline.settings")


def test_the_wheel_names_it() -> None:
    (found,) = [each for each in entry_points(group="airflow.plugins") if each.name == "ltr_pipeline"]
    assert found.load().__name__ == "LtrPlugin"


def test_nothing_heavy_is_imported_when_it_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "ltr_pipeline.airflow.plugin.entry" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


@pytest.mark.parametrize(
    ("base", "root"),
    [("", "/ltr"), ("http://127.0.0.1:8080", "/ltr"), ("https://company.example/tools/airflow/", "/tools/airflow/ltr")],
)
def test_the_ui_is_told_addresses_below_its_own(monkeypatch: pytest.MonkeyPatch, base: str, root: str) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    nav, run = entry.views()
    assert (nav["href"], nav["destination"]) == (f"{root}/", "nav")
    assert (run["href"], run["destination"]) == (f"{root}/run?dag={{DAG_ID}}&run={{RUN_ID}}", "dag_run")
    assert len({view["url_route"] for view in (nav, run)}) == 2
