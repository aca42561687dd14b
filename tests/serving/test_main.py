"""Starting and ending the program: a port that is taken, signals, workers whose parent is gone, no model yet."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ltr_pipeline.local.ports import free_port
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.programs import CHECKOUT
from support.service import Server, imported

BODY = {"query_id": "q", "candidates": [{"item_id": "a", "features": {"A": 1.0, "S": 0.5}}]}


def ended(folder: Path, **environment: str) -> str:
    """What a service says that does not start."""
    command = [sys.executable, "-m", "ltr_pipeline.serving"]
    given = {"PATH": os.environ["PATH"], "OMP_WAIT_POLICY": "PASSIVE", **imported(), **environment}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        (said,) = ended(tmp_path, LTR_SERVE_PORT=port, LTR_SERVE_WORKERS=workers).splitlines()
    assert said.startswith(f"error: the service cannot listen on 127.0.0.1:{port}: Address already in use; set")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_variable_that_is_misspelt_is_told_once(tmp_path: Path, workers: str) -> None:
    (tmp_path / ".env").write_text("LTR_SERVE_WORKER=2\n")
    said = ended(tmp_path, LTR_SERVE_HOST="192.0.2.1", LTR_THREAD="4", LTR_SERVE_WORKERS=workers).splitlines()
    assert said[:-1] == [
        "warning: no setting reads LTR_SERVE_WORKER; did you mean LTR_SERVE_WORKERS?",
        "warning: no setting reads LTR_THREAD; did you mean LTR_THREADS?",
    ]


def test_an_address_of_another_machine_is_one_sentence(tmp_path: Path) -> None:
    (said,) = ended(tmp_path, LTR_SERVE_HOST="192.0.2.1").splitlines()
    assert "cannot listen on 192.0.2.1:8000" in said


def test_a_setting_that_only_a_part_reads_is_one_sentence(tmp_path: Path) -> None:
    (said,) = ended(tmp_path, LTR_SERVE_PORT=str(free_port()), LTR_EVENTS_PATH="logs/*.log").splitlines()
    assert "the service cannot append to that" in said


def unweighted(folder: Path) -> str:
    """A mapping as docs/events.md teaches it, without legacy weights."""
    text = (CHECKOUT / "ltr_pipeline/default_mapping.toml").read_text()
    text = re.sub(r"(?ms)^\[legacy_weights\].*?(?=^\[|\Z)", "", text)
    path = folder / "mapping.toml"
    path.write_text(text)
    return str(path)


def test_without_legacy_weights_nothing_ranks_until_a_model_is_there(tmp_path: Path) -> None:
    more = {"LTR_MAPPING": unweighted(tmp_path), "WEIGHTS_POLL_SECONDS": "0.2"}
    with Server(tmp_path, more) as server:
        refused = server.post("/ltr/rank", BODY, expect=503)["error"]
        assert "no model is published" in refused
        assert "legacy_weights" in refused
        assert (server.get("/ltr/health")["version"], server.get("/ltr/ready", expect=503)["ready"]) == ("none", False)
        Registry(LocalStorage(tmp_path / "var/registry/ltr")).publish(document(), who="test", why="test")
        server.until(lambda: server.http.get("/ltr/ready").status_code == 200)
        assert server.post("/ltr/rank", BODY)["fallback"] is None
        assert "Traceback" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("variant", ["LTR_SHADOW_VERSION", "LTR_INTERLEAVE_VERSION"])
def test_a_variant_by_legacy_weights_that_are_not_there_is_refused(tmp_path: Path, variant: str, workers: str) -> None:
    more = {"LTR_MAPPING": unweighted(tmp_path), variant: "legacy", "LTR_SERVE_WORKERS": workers}
    (said,) = ended(tmp_path, **more, LTR_SERVE_PORT=str(free_port())).splitlines()
    assert "the mapping has no legacy_weights" in said


def test_it_says_that_it_serves_once_it_answers(tmp_path: Path) -> None:
    given = {"PATH": os.environ["PATH"], "LTR_SERVE_PORT": str(free_port()), "LTR_REGISTRY_URI": str(tmp_path / "r")}
    given |= imported()
    command = [sys.executable, "-m", "ltr_pipeline.serving"]
    with subprocess.Popen(command, cwd=tmp_path, env=given, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        said = next(line for line in service.stderr if line.startswith("serving on"))
        port = int(said.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        service.terminate()


@pytest.fixture
def heard() -> Iterator[None]:
    """Programs inherit that SIGHUP is ignored, as when the tests are started by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_sighup_ends_one_process_in_order(heard: None, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        server.post("/ltr/rank", {**BODY, "query_id": "the last"})
        process = psutil.Process(server.pid)
        process.send_signal(signal.SIGHUP)
        server.until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert "the last" in (tmp_path / "logs" / "audit.log").read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path, workers: str) -> None:
    with Server(tmp_path, LTR_SERVE_WORKERS=workers) as server:
        assert server.stop(signal.SIGINT) == 0
        assert "Traceback" not in server.log


def test_sighup_replaces_several_workers_and_somebody_answers_all_the_time(tmp_path: Path) -> None:
    with Server(tmp_path, LTR_SERVE_WORKERS="2") as server:
        parent = psutil.Process(server.pid)
        before = {child.pid for child in parent.children()}
        parent.send_signal(signal.SIGHUP)
        for sent in before:  # as a terminal that is closed sends it to all
            os.kill(sent, signal.SIGHUP)

        def replaced() -> bool:
            server.get("/ltr/health")
            return not before & {child.pid for child in parent.children()}

        server.until(replaced, 120)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    with Server(tmp_path, LTR_SERVE_WORKERS="2") as server:
        parent = psutil.Process(server.pid)
        workers = [child for child in parent.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        parent.kill()
        server.until(lambda: not any(worker.is_running() for worker in workers), 60)
