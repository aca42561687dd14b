"""The service with the extra ``serving`` alone: what it needs is there, and what it does without is never imported."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.history import Quick, write_history
from support.packages import needed
from support.programs import CHECKOUT
from support.service import Server
from support.small import land_days

ABSENT = {"apache-airflow", "pandas", "scikit-learn"}
HEAVY = {"scipy.optimize", "scipy.stats"}
MEGABYTES = 1_000_000
UNUSED = {"airflow", "pandas", "sklearn", "polars", "pyarrow", "dask", "matplotlib"}


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds what the extra needs, as the lock has it here, and nothing else."""
    folder = tmp_path_factory.mktemp("lean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    names = needed("ltr-pipeline", ["serving"])
    assert names & ABSENT == set()
    for name in names:
        try:
            link(distribution(name), packages)
        except PackageNotFoundError:  # of another platform
            assert name in {"colorama", "tzdata"}, name
    (packages / "ltr.pth").write_text(str(CHECKOUT))
    link(distribution("ltr-pipeline"), packages)
    return folder / "bin" / "python"


def link(package: Distribution, packages: Path) -> None:
    """Put an installed package into another environment."""
    for top in {Path(file).parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (packages / top).exists():
            (packages / top).symlink_to(Path(str(package.locate_file(top))))


@pytest.mark.parametrize("environment", ["the extra alone", "all extras"])
def test_service_runs_without_what_it_does_not_need(
    environment: str, lean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment == "the extra alone":
        monkeypatch.setattr(sys, "executable", str(lean))
        for name in ABSENT:
            script = f"import importlib.metadata as m; m.version({name!r})"
            assert subprocess.run([lean, "-c", script], capture_output=True, check=False).returncode != 0
    registry = tmp_path / "registry"
    knots = Calibration(positive=2, x=[0.25, 0.75], y=[0.02, 0.42], error=0.01)
    Registry(LocalStorage(registry / "ltr")).publish(replace(document(), calibration=knots), who="test", why="test")
    data = tmp_path / "data"
    write_history(Quick(data), days=2)
    given = {"LTR_REGISTRY_URI": str(registry), "LTR_DATA_URI": str(data)}
    with Server(tmp_path, given, PYTHONPROFILEIMPORTTIME="1") as server:
        body = {"query_id": "q", "candidates": [{"item_id": "a", "features": {"A": 1.0}}], "explain": True}
        assert server.post("/ltr/rank", body)["model"] == "lightgbm"
        assert server.post("/ltr/rank", {**body, "probability": True})["items"][0]["probability"] == 0.42
        server.get("/openapi.json")
        assert "ltr_predictions_total" in server.metrics()
        for place in ("", "nights", "drift", "drift/S", "outcomes", "predictions", "batches", "segments"):
            assert server.http.get(f"/board/{place}").status_code == 200
        for place in ("metrics", "drift", "predictions", "pipeline-status"):
            server.get(f"/monitoring/{place}")
    # By their parts: an import that is refused is in this log, too.
    imported = set(re.findall(r"^import time: .*\| +(\w+)\.", server.log, re.MULTILINE))
    assert {"lightgbm", "fastapi", "uvicorn"} <= imported
    assert imported & UNUSED == set()
    assert set(re.findall(r"^import time: .*\| +(\w+\.\w+)$", server.log, re.MULTILINE)) & HEAVY == set()


def test_a_year_of_history_has_room(tmp_path: Path) -> None:
    registry, data = tmp_path / "registry", tmp_path / "data"
    Registry(LocalStorage(registry / "ltr")).publish(document(), who="test", why="test")
    write_history(Quick(data), days=400)
    land_days(data, 7)
    given = {"LTR_REGISTRY_URI": str(registry), "LTR_DATA_URI": str(data), "WEIGHTS_POLL_SECONDS": "1"}
    with Server(tmp_path / "run", given, LTR_SERVE_WORKERS="2") as server:
        server.until(lambda: server.get("/monitoring/predictions")["lists"])
        for place in ("", "nights?days=365", "drift?days=90", "outcomes?days=90", "predictions", "batches", "segments"):
            assert server.http.get(f"/board/{place}").status_code == 200
        processes = psutil.Process(server.pid).children(recursive=True)
        assert len(processes) >= 2
        assert max(process.memory_info().rss for process in processes) <= 150 * MEGABYTES
