"""`ltr serve` as `make serve` starts it, in a folder that has nothing yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ltr_pipeline.folders import SIMULATED
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.service import Server


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`ltr serve` in place of ``python -m ltr_pipeline.serving``."""
    script = tmp_path / "ltr-serve"
    script.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name("ltr")}" serve\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_serve_ranks_at_once_and_takes_the_first_publication(program: None, tmp_path: Path) -> None:
    with Server(tmp_path / "fresh", WEIGHTS_POLL_SECONDS="0.2", LTR_DATA_URI=None) as server:
        assert server.get("/ltr/health")["simulated"]  # nothing says otherwise
        assert psutil.Process(server.pid).cmdline()[1:] == ["-m", "ltr_pipeline.serving"]
        assert server.get("/ltr/health")["version"] == "legacy"
        assert server.get("/ltr/ready", expect=503) == {"ready": False, "version": "legacy"}
        answer = server.post("/ltr/rank", {"query_id": "q", "candidates": [{"item_id": "a", "features": {"A": 1.0}}]})
        assert (answer["version"], answer["model"], answer["fallback"]) == ("legacy", "legacy", "no_model")
        registry = Registry(LocalStorage(tmp_path / "fresh" / SIMULATED.registry / "ltr"))
        registry.publish(document(), who="test", why="test")
        server.until(lambda: server.get("/ltr/health")["version"] == document().version)
        assert server.get("/ltr/ready")["ready"]


def test_wrong_setting_is_one_line(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("ltr"), "serve"]
    environment = {"PATH": "/usr/bin", "LTR_API_KEYS": "too-short-a-key", "LTR_SERVE_PORT": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: LTR_API_KEYS")
    assert "too-short-a-key" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
