"""`/monitoring/…` over real HTTP: what the history tells, metrics that are posted, and runs that are begun."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltr_pipeline.local.lock import held
from ltr_pipeline.local.programs import Program, stop
from ltr_pipeline.monitoring.records import Alert, DriftReport, FeatureDrift, Outcomes, PostedMetrics
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.history import DAY, DRIFTED, MOVED, Quick, name_of, write_history
from support.service import Server
from support.small import land_days

KEY = "a-key-of-the-monitoring"
HEADERS = {"content-type": "application/json", "x-api-key": KEY}
READS = ("metrics", "drift", "predictions", "pipeline-status")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monitoring")
    write_history(Quick(folder / "data"), Registry(Quick(folder / "registry" / "ltr")).ledger)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    given = {"LTR_DATA_URI": str(folder / "data"), "LTR_REGISTRY_URI": str(folder / "registry")}
    with Server(tmp_path_factory.mktemp("service"), given, LTR_API_KEYS=KEY) as server:
        yield server


class TestReading:
    def test_metrics_of_the_nights(self, server: Server) -> None:
        found = server.get("/monitoring/metrics?page=2&size=10")
        assert found["current"]["run"] == name_of(DAY)
        assert (found["page"], found["size"], found["total"]) == (2, 10, 31)
        assert found["history"][0]["date"] == "2025-07-05"
        assert len(found["history"]) == 10
        assert found["posted"][-1]["metrics"] == {"accuracy": 0.95, "precision": 0.82}
        assert server.get("/monitoring/metrics?page=5")["history"] == []

    def test_drift_of_the_newest_day_and_of_another(self, server: Server) -> None:
        newest = server.get("/monitoring/drift?size=1")
        assert newest["report"]["date"] == DAY.isoformat()
        assert newest["report"]["features"][0]["distribution"]["edges"]
        assert [day["date"] for day in newest["history"]] == [DAY.isoformat()]
        assert newest["total"] == 31
        then = DAY.replace(day=DAY.day - DRIFTED[0])
        report = server.get(f"/monitoring/drift?date={then}")["report"]
        assert [one["name"] for one in report["features"] if one["status"] == "alert"] == [MOVED]
        assert server.get("/monitoring/drift?date=2020-01-01")["report"] is None

    def test_status_of_the_pipeline(self, server: Server) -> None:
        found = server.get("/monitoring/pipeline-status")
        assert (found["version"], found["latest"]) == ("legacy", name_of(DAY))
        assert found["last_run"]["run"] == name_of(DAY)
        assert found["last_run"]["verdict"] == "publish"
        assert found["running"] is None
        assert "LTR_AIRFLOW_URL is not set" in found["said"]
        assert "T02:15:00" in found["next_at"]

    def test_lists_name_users_and_need_the_key(self, server: Server) -> None:
        assert "need" in server.get("/monitoring/predictions", expect=401)["error"]
        server.get("/monitoring/predictions", expect=403, headers={"x-api-key": "another-key-altogether"})
        assert server.get("/monitoring/predictions", headers=HEADERS)["lists"] == []
        for path in READS[:2] + READS[3:]:
            server.get(f"/monitoring/{path}")

    @pytest.mark.parametrize("path", ["metrics", "drift", "predictions"])
    @pytest.mark.parametrize(
        "words", ["page=-1", "page=0", "page=one", "size=0", "size=201", "size=", "pages=1", "page=1.0"]
    )
    def test_wrong_pages_are_named(self, server: Server, path: str, words: str) -> None:
        said = server.get(f"/monitoring/{path}?{words}", expect=422, headers=HEADERS)["error"]
        assert words.partition("=")[0] in said

    def test_a_wrong_day_is_named(self, server: Server) -> None:
        assert "date must be a day" in server.get("/monitoring/drift?date=today", expect=422)["error"]

    def test_an_empty_store(self, tmp_path: Path) -> None:
        with Server(tmp_path) as server:
            assert server.get("/monitoring/metrics") == {
                "current": None, "history": [], "posted": [], "page": 1, "size": 50, "total": 0,
            }  # fmt: skip
            assert server.get("/monitoring/drift")["report"] is None
            assert server.get("/monitoring/predictions")["lists"] == []
            status = server.get("/monitoring/pipeline-status")
            assert (status["latest"], status["last_run"]) == (None, None)
            assert server.metric("ltr_monitored_timestamp_seconds") == 0
            away = server.get("/monitoring/predictions", expect=403, headers={"X-Forwarded-For": "192.0.2.7"})
            assert "this machine only while no key is set" in away["error"]


class TestLists:
    def test_what_landed_is_listed_paged_and_filtered(self, tmp_path: Path) -> None:
        land_days(tmp_path / "data", 2)
        with Server(tmp_path / "run", LTR_DATA_URI=str(tmp_path / "data"), WEIGHTS_POLL_SECONDS="0.2") as server:
            server.until(lambda: server.get("/monitoring/predictions")["lists"])
            found = server.get("/monitoring/predictions?size=5")
            assert len(found["lists"]) == 5
            assert found["total"] > 50
            times = [one["at"] for one in found["lists"]]
            assert times == sorted(times, reverse=True)
            second = server.get("/monitoring/predictions?size=5&page=2")["lists"]
            assert second[0]["at"] <= times[-1]
            assert second != found["lists"]
            none = server.get("/monitoring/predictions?version=20200101_0215")
            assert (none["lists"], none["total"]) == ([], 0)
            own = found["lists"][0]["version"] or "unknown"
            same = server.get(f"/monitoring/predictions?version={own}")
            assert same["total"] > 0
            assert {one["version"] or "unknown" for one in same["lists"]} == {own}
            assert found["lists"][0]["query_id"] in server.http.get("/board/predictions").text


WRONG = {
    "NaN": (b'{"accuracy": NaN}', "must be a finite number"),
    "Infinity": (b'{"accuracy": -Infinity}', "must be a finite number"),
    "too large": (b'{"accuracy": 1e999}', "`$[...]`"),
    "10,000 metrics": (json.dumps({f"m{number}": 1.0 for number in range(10_000)}).encode(), "10000 metrics"),
    "51 metrics": (json.dumps({f"m{number}": 1.0 for number in range(51)}).encode(), "51 metrics"),
    "none": (b"{}", "0 metrics"),
    "text": (b'{"accuracy": "0.95"}', "Expected `float`, got `str`"),
    "null": (b'{"accuracy": null}', "Expected `float`, got `null`"),
    "boolean": (b'{"accuracy": true}', "Expected `float`, got `bool`"),
    "nested": (b'{"accuracy": {"value": 0.95}}', "Expected `float`, got `object`"),
    "list": (b"[0.95]", "Expected `object`, got `array`"),
    "number": (b"0.95", "Expected `object`"),
    "empty name": (b'{"": 1}', "length >= 1"),
    "long name": (json.dumps({"x" * 101: 1}).encode(), "length <= 100"),
    "name of two lines": (b'{"a\\nb": 1}', "must be printable text"),
}


class TestPosting:
    def test_metrics_are_recorded_once_and_shown(self, tmp_path: Path) -> None:
        with Server(tmp_path, LTR_API_KEYS=KEY) as server:
            body = {"accuracy": 0.95, "precision": 1}
            first = server.post("/monitoring/metrics", body, expect=201, headers=HEADERS)
            assert (first["recorded"], first["metrics"]) == (True, 2)
            again = server.post("/monitoring/metrics", body, expect=200, headers=HEADERS)
            assert again["recorded"] is False
            assert again["at"] == first["at"]
            assert "the same metrics were recorded at" in again["said"]
            server.post("/monitoring/metrics", {"accuracy": 0.96}, expect=201, headers=HEADERS)
            data = LocalStorage(Path(server.environment["LTR_DATA_URI"]))
            assert [one.metrics for one in History(data).read(PostedMetrics)] == [
                {"accuracy": 0.95, "precision": 1.0},
                {"accuracy": 0.96},
            ]
            server.until(lambda: len(server.get("/monitoring/metrics")["posted"]) == 2)
            assert server.get("/monitoring/metrics")["posted"][0]["metrics"] == {"accuracy": 0.96}

    def test_a_post_needs_the_key(self, server: Server) -> None:
        plain = {"content-type": "application/json"}
        server.post("/monitoring/metrics", {"a": 1}, expect=401, headers=plain)
        server.post(
            "/monitoring/metrics", {"a": 1}, expect=403, headers=plain | {"x-api-key": "another-key-altogether"}
        )
        server.post("/monitoring/metrics", {"a": 1}, expect=403, headers=HEADERS | {"origin": "http://evil.example"})
        server.post("/monitoring/run-pipeline", expect=401, headers={})

    @pytest.mark.parametrize("kind", WRONG)
    def test_wrong_metrics_are_refused_in_a_sentence(self, server: Server, kind: str) -> None:
        body, said = WRONG[kind]
        error = server.post("/monitoring/metrics", body, expect=422, headers=HEADERS)["error"]
        assert said in error
        assert len(error) < 200

    def test_what_is_no_json(self, server: Server) -> None:
        assert "not JSON" in server.post("/monitoring/metrics", b'{"a": 1', expect=400, headers=HEADERS)["error"]
        server.post("/monitoring/metrics", b"a=1", expect=415, headers=HEADERS | {"content-type": "text/plain"})


PRETENDING = """
import pathlib, sys, time
pathlib.Path("words").write_text(" ".join(sys.argv[1:]))
until = time.monotonic() + 60
while not pathlib.Path("end").exists() and time.monotonic() < until:
    time.sleep(0.05)
"""
"""Stands for `ltr run`, which takes a minute and a half here; what a run does, the tests of the nights show."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder of Airflow; a run that is left there is stopped."""
    home = tmp_path / "airflow"
    home.mkdir()
    yield home
    stop([Program("The run", "asked", (), home)])


@pytest.fixture
def pretending(tmp_path: Path) -> dict[str, str]:
    """A Python path on which ``ltr_pipeline.cli.main`` is a program that waits to be ended."""
    (tmp_path / "path").mkdir()
    asked = "sys.argv[:2] == ['-c', 'run']"
    program = f"import sys\nif {asked}:\n    exec({PRETENDING!r})\n    sys.exit()\n"
    (tmp_path / "path" / "sitecustomize.py").write_text(program)
    path = os.pathsep.join([str(tmp_path / "path"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path}


class TestRuns:
    def test_this_machine_runs_one_at_a_time(self, tmp_path: Path, home: Path, pretending: dict[str, str]) -> None:
        with Server(tmp_path / "run", pretending, AIRFLOW_HOME=str(home), LTR_API_KEYS=KEY) as server:
            assert server.get("/monitoring/pipeline-status")["running"] is False
            body = {"retrain": True, "date": "2025-07-15"}
            begun = server.post("/monitoring/run-pipeline", body, expect=202, headers=HEADERS)
            assert begun == {"run": None, "address": "/monitoring/pipeline-status"}
            words = server.folder / "words"
            server.until(lambda: words.exists() and words.read_text())
            assert words.read_text() == "run --retrain --date 2025-07-15"
            assert server.get("/monitoring/pipeline-status")["running"] is True
            busy = server.post("/monitoring/run-pipeline", expect=409, headers={"x-api-key": KEY})
            assert busy["error"] == "a run is under way; ask again when it has ended"
            (server.folder / "end").touch()
            server.until(lambda: server.get("/monitoring/pipeline-status")["running"] is False)
            words.unlink()
            server.post("/monitoring/run-pipeline", expect=202, headers={"x-api-key": KEY})
            server.until(lambda: words.exists() and words.read_text() == "run")

    def test_a_run_outlives_the_service(self, tmp_path: Path, home: Path, pretending: dict[str, str]) -> None:
        with Server(tmp_path / "run", pretending, AIRFLOW_HOME=str(home)) as server:
            server.post("/monitoring/run-pipeline", expect=202, headers={})
            server.stop()
            assert Program("The run", "asked", (), home).running()
            server.start()
            assert server.get("/monitoring/pipeline-status")["running"] is True

    def test_a_run_at_hand_is_a_run(self, tmp_path: Path, home: Path) -> None:
        with Server(tmp_path / "run", AIRFLOW_HOME=str(home)) as server, held(home / "run.lock", "a run"):
            assert server.get("/monitoring/pipeline-status")["running"] is True
            server.post("/monitoring/run-pipeline", expect=409, headers={})

    def test_where_nothing_runs_it_that_is_said(self, server: Server) -> None:
        error = server.post("/monitoring/run-pipeline", expect=503, headers={"x-api-key": KEY})["error"]
        assert error == "nothing here can run the pipeline: set LTR_AIRFLOW_URL, or start by `make serve`"

    def test_an_airflow_that_is_away_is_said(self, tmp_path: Path) -> None:
        more = {"LTR_AIRFLOW_URL": "http://127.0.0.1:9", "LTR_AIRFLOW_USER": "admin", "LTR_AIRFLOW_PASSWORD": "secret"}
        with Server(tmp_path, more) as server:
            error = server.post("/monitoring/run-pipeline", expect=503, headers={})["error"]
            assert "Airflow at LTR_AIRFLOW_URL cannot be reached" in error
            status = server.get("/monitoring/pipeline-status")
            assert (status["running"], status["said"]) == (None, error)
            assert "secret" not in server.log

    def test_an_airflow_without_a_login_is_said(self, tmp_path: Path) -> None:
        with Server(tmp_path, LTR_AIRFLOW_URL="http://127.0.0.1:9") as server:
            error = server.post("/monitoring/run-pipeline", expect=503, headers={})["error"]
            assert "set LTR_AIRFLOW_USER and LTR_AIRFLOW_PASSWORD" in error

    @pytest.mark.parametrize("body", [b'{"retrain": "yes"}', b'{"when": 1}', b'{"date": "today"}', b"[]"])
    def test_wrong_wishes_are_refused(self, server: Server, body: bytes) -> None:
        server.post("/monitoring/run-pipeline", body, expect=422, headers=HEADERS)


def test_alert_rules_see_the_newest_day(tmp_path: Path) -> None:
    history = History(LocalStorage(tmp_path / "data"))
    at = night_of(DAY)
    features = [FeatureDrift(name="A", status="alert"), FeatureDrift(name="S", status="fine")]
    history.write(DriftReport(date=DAY, status="alert", features=features), at)
    fell = Alert(kind="outcome", subject="v", what="it fell")
    history.write(
        Outcomes(date=DAY, version="v", age_hours=72, matured=True, lists=9, status="fell", alerts=[fell]), at
    )
    history.data.put("monitoring/drift/2025-07-14/data/20250714T000000000000Z.json", b"{")
    with Server(tmp_path / "run", LTR_DATA_URI=str(tmp_path / "data"), WEIGHTS_POLL_SECONDS="0.2") as server:
        server.until(lambda: server.metric("ltr_drift"))
        assert server.metric("ltr_drifted_features") == 1
        assert server.metric('ltr_outcome_alerts{kind="outcome"}') == 1
        assert server.metric('ltr_outcome_alerts{kind="early"}') == 0
        assert server.metric("ltr_unreadable_records") == 1
        assert server.metric("ltr_monitored_timestamp_seconds") == at.timestamp()
        history.write(DriftReport(date=DAY, status="fine"))
        server.until(lambda: not server.metric("ltr_drift"))
