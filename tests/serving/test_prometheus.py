"""What Prometheus reads: every name there, summed over workers, without those that are gone."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from ltr_pipeline.runs.names import moment_of, newest_judged
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.service import Server

A = "20250714_0215"
BODY = {"query_id": "q", "candidates": [{"item_id": "a", "features": {"A": 0.9, "S": 0.1}}]}


def published(folder: Path) -> None:
    Registry(LocalStorage(folder / "var" / "registry" / "ltr")).publish(document(A), who="night", why="passed")


def children(parent: int) -> list[int]:
    """Processes whose parent this is and that serve, by /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rpartition(") ")[2].split()
            command = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(status[1]) == parent and b"resource_tracker" not in command:
            found.append(int(entry.name))
    return found


def test_every_outcome_is_counted_by_version(tmp_path: Path) -> None:
    published(tmp_path)
    with Server(tmp_path) as server:
        for _ in range(3):
            server.post("/ltr/rank", BODY)
        server.post("/ltr/rank", {"query_id": "q"}, expect=422)
        server.post("/ltr/rank", b"{", expect=400)
        server.post("/ltr/rank", b"x" * (5 << 20), expect=413)
        server.http.get("/nowhere")
        assert server.metric(f'ltr_predictions_total{{outcome="model",version="{A}"}}') == 3
        server.until(lambda: server.metric(f'ltr_predictions_total{{outcome="refused",version="{A}"}}') == 3)
        assert server.metric("ltr_prediction_duration_seconds_count") == 3
        server.until(lambda: server.metric("ltr_in_flight_requests") == 0)
        assert server.metric('ltr_reloads_total{outcome="loaded"}') == 1
        assert server.metric('ltr_reloads_total{outcome="refused"}') == 0
        assert 'ltr_reloads_total{outcome="refused"} 0.0' in server.metrics()  # there, so that its rise is seen
        now = dt.datetime.now(dt.UTC).timestamp()
        assert 0 <= now - server.metric("ltr_last_poll_timestamp_seconds") < 300
        assert server.metric("ltr_weights_created_timestamp_seconds") == document(A).created_at.timestamp()
        assert list(text_string_to_metric_families(server.metrics()))  # Prometheus' own grammar


def test_a_wrong_key_is_refused_and_counted(tmp_path: Path) -> None:
    with Server(tmp_path, LTR_API_KEYS="0123456789abcdef") as server:
        server.post("/ltr/rank", BODY, expect=401)
        server.post("/ltr/rank", BODY, headers={"x-api-key": "wrong"}, expect=403)
        server.post("/ltr/rank", BODY, headers={"x-api-key": "0123456789abcdef"})
        server.until(lambda: server.metric('ltr_predictions_total{outcome="refused",version="legacy"}') == 2)


def test_workers_are_summed_and_the_dead_leave_only_their_counts(tmp_path: Path) -> None:
    published(tmp_path)
    name = f'ltr_predictions_total{{outcome="model",version="{A}"}}'
    with Server(tmp_path, LTR_SERVE_WORKERS="2") as server:
        server.until(lambda: server.metric('ltr_reloads_total{outcome="loaded"}') == 2, 60)

        def ask(_: int) -> None:
            answer = httpx.post(f"{server.url}/ltr/rank", json=BODY, trust_env=False, timeout=60)
            assert answer.status_code == 200

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(80)))
        server.until(lambda: server.metric("ltr_in_flight_requests") == 0)  # counted down once an answer is sent
        for _ in range(5):  # whichever worker answers
            assert server.metric(name) == 80
            assert server.metric("ltr_in_flight_requests") == 0
            created = server.metric("ltr_weights_created_timestamp_seconds")
            assert created == document(A).created_at.timestamp()  # not twice that
        victim, *_ = children(server.pid)
        os.kill(victim, signal.SIGKILL)
        server.until(lambda: victim not in children(server.pid) and len(children(server.pid)) == 2, 60)
        server.until(lambda: server.metric('ltr_reloads_total{outcome="loaded"}') == 3, 60)
        assert server.metric(name) == 80
        assert server.metric("ltr_in_flight_requests") == 0
        server.until(lambda: server.metric("ltr_last_poll_timestamp_seconds") > 0)
        (shared,) = _shared_folders(server.pid)
        assert not list(shared.glob(f"gauge_live*_{victim}.db"))
        assert list(shared.glob(f"counter_{victim}.db"))
        server.stop()
        assert not shared.exists()


def _shared_folders(pid: int) -> set[Path]:
    """Return where the workers of a process keep their counts."""
    found = set()
    for child in children(pid):
        environment = Path(f"/proc/{child}/environ").read_bytes().decode()
        found.update(Path(folder) for folder in re.findall(r"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", environment))
    return found


def test_a_worker_that_is_new_reads_the_newest_judged_run(tmp_path: Path) -> None:
    data = LocalStorage(tmp_path / "var" / "data")
    assert newest_judged(data) is None
    data.put("runs/20250714_0215/decision.json", b"{}")
    data.put("runs/20250716_0215/inputs.json", b"{}")  # not judged yet
    data.put("runs/mine/decision.json", b"{}")
    data.put("runs/20250715_0215_2/decision.json", b"{}")
    moment = dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC).timestamp()
    assert newest_judged(data) == "20250715_0215_2"
    assert moment_of("20250715_0215_2") == moment
    with Server(tmp_path, WEIGHTS_POLL_SECONDS="0.1") as server:
        server.until(lambda: server.metric("ltr_last_judged_timestamp_seconds") == moment)
        data.put("runs/20250716_0215/decision.json", b"{}")
        server.until(lambda: server.metric("ltr_last_judged_timestamp_seconds") == moment + 86400)


def verdict(version: str | None, status: str, gap: float | None, own: float = 0.02) -> bytes:
    """The decision of a night, as far as the service reads it, and more that it does not."""
    champion = {"version": version, "fairness": {"name": "fairness_gap", "status": status, "observed": gap, "unit": ""}}
    checks = [
        {"name": "ndcg_at_5", "status": "pass", "observed": 0.7, "reason": ""},
        {"name": "fairness_gap", "status": "pass", "observed": own, "reason": ""},
    ]
    return json.dumps({"verdict": "keep", "checks": checks} | ({"champion": champion} if version else {})).encode()


def test_the_fairness_of_the_weights_in_use_is_that_of_the_newest_judged_run(tmp_path: Path) -> None:
    data = LocalStorage(tmp_path / "var" / "data")
    published(tmp_path)
    data.put(f"runs/{A}/decision.json", verdict(None, "", None, own=0.02))  # the night that published it
    with Server(tmp_path, WEIGHTS_POLL_SECONDS="0.1") as server:

        def exported() -> tuple[float, float]:
            return server.metric("ltr_weights_fairness_gap"), server.metric("ltr_weights_unfair")

        server.until(lambda: exported() == (0.02, 0))
        data.put("runs/20250715_0215/decision.json", verdict(A, "fail", 0.115))
        server.until(lambda: exported() == (0.115, 1))
        data.put("runs/20250716_0215/decision.json", verdict(A, "not_evaluable", None))
        server.until(lambda: exported() == (0, 0))
        assert server.metric("ltr_training_not_due") == 0
        resting = json.dumps(json.loads(verdict(A, "pass", 0.03)) | {"due": False}).encode()
        data.put("runs/20250716_0216/decision.json", resting)
        server.until(lambda: server.metric("ltr_training_not_due") == 1)
        data.put("runs/20250717_0215/decision.json", verdict(A, "fail", 0.115))
        server.until(lambda: exported() == (0.115, 1))
        assert server.metric("ltr_training_not_due") == 0
        data.put("runs/20250718_0215/decision.json", verdict("20250701_0215", "fail", 0.2))  # another was in use
        server.until(lambda: exported() == (0, 0))
        data.put("runs/20250719_0215/decision.json", verdict(A, "fail", 0.115))
        server.until(lambda: exported() == (0.115, 1))
        data.put("runs/20250720_0215/decision.json", b"{")  # it cannot be read: what is known stays
        judged = dt.datetime(2025, 7, 20, 2, 15, tzinfo=dt.UTC).timestamp()
        server.until(lambda: server.metric("ltr_last_judged_timestamp_seconds") == judged)
        assert exported() == (0.115, 1)
