"""A real Airflow, as `make up` starts it: the DAG is visible and paused, toggled over the REST API, and runs green."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.variables import VARIABLES
from support.airflow import PATIENCE_SECONDS, Api, bundle, environment_of, finished, ltr, toggle, up, wait
from support.programs import CHECKOUT
from support.service import Server as Service
from support.webhook import Server, running

DAG = "train_ltr_daily"
HOURLY = "train_ltr_hourly"
FOLLOWER = "follow_ltr_weights"
WIDE = "wide"
WIDE_FILE = f"""
import os, time
from airflow.sdk import dag, task


@dag(schedule=None)
def {WIDE}():
    @task
    def sleep():
        with open(os.environ["AIRFLOW_HOME"] + "/{WIDE}.txt", "a") as file:
            file.write(f"{{os.getpid()}} ")
        time.sleep(0.4)

    for _ in range(6):
        sleep()


{WIDE}()
"""


@pytest.fixture(scope="module")
def webhook() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, webhook: Server) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    (home / "wide").mkdir()
    (home / "wide" / "wide.py").write_text(WIDE_FILE)
    bundles = [bundle("examples", CHECKOUT / "examples"), bundle("wide", home / "wide")]
    return environment_of(home, *bundles) | {
        "AIRFLOW_VAR_LTR_FAIRNESS_MAX": "0.2",  # the simulated month ends today: some day 0.05 would not be reached
        "LTR_NOTIFY_URLS": f"json://127.0.0.1:{webhook.port}",
        "WEIGHTS_POLL_SECONDS": "1",
    }


@pytest.fixture(scope="module")
def api(environment: dict[str, str]) -> Iterator[Api]:
    with up(environment):
        yield Api(environment)


@pytest.fixture(scope="module")
def simulated(environment: dict[str, str], api: Api) -> None:
    """A month's events to learn from."""
    ltr(environment, "simulate", "--days", "31", "--rankings-per-day", "200")


def health(environment: dict[str, str]) -> Any:
    """Return what the service says of itself."""
    url = f"http://127.0.0.1:{environment['LTR_SERVE_PORT']}/ltr/health"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def test_the_dag_waits_paused_beside_the_service(api: Api, environment: dict[str, str]) -> None:
    dag = wait("DAG", lambda: api("GET", f"/api/v2/dags/{DAG}/details"))
    assert dag["is_paused"] is True
    assert "Train, gate and publish" in dag["doc_md"]
    board = f"http://127.0.0.1:{environment['LTR_SERVE_PORT']}/board/"
    assert f"the report of each night stands under [Nights](<{board}nights>)" in dag["doc_md"]
    assert health(environment)["simulated"]
    shown = {each["key"]: (each["value"], each["description"]) for each in api("GET", "/api/v2/variables")["variables"]}
    given = {"ltr_fairness_max"}  # by the environment
    assert shown == {each.name: (each.default, each.description) for each in VARIABLES if each.name not in given}
    parts = api("GET", "/api/v2/monitor/health")
    assert {parts[part]["status"] for part in ("metadatabase", "scheduler", "dag_processor")} == {"healthy"}


def in_bash(script: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script that ends at its first error."""
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_status_of_the_dag_by_curl_is_as_the_docs_print_it(api: Api) -> None:
    wait("DAG", lambda: api("GET", f"/api/v2/dags/{DAG}/details"))
    docs = (CHECKOUT / "docs" / "airflow.md").read_text()
    (printed,) = re.findall(r"^```sh\n(AIRFLOW_URL=.*?)^```", docs, re.MULTILINE | re.DOTALL)
    login = {"AIRFLOW_USER": api.user, "AIRFLOW_PASSWORD": api.password}
    script = printed.replace("http://127.0.0.1:8080", api.url)
    done = in_bash(script, login)
    assert done.returncode == 0, done.stderr
    said, place = [], 0
    decoder = json.JSONDecoder()
    while place < len(done.stdout):
        found, place = decoder.raw_decode(done.stdout, place)
        said.append(found)
        place += len(done.stdout[place:]) - len(done.stdout[place:].lstrip())
    dag, runs = said
    assert (dag["dag_id"], dag["is_paused"]) == (DAG, api("GET", f"/api/v2/dags/{DAG}")["is_paused"])
    assert {run["dag_id"] for run in runs["dag_runs"]} <= {DAG}
    assert runs["total_entries"] == api("GET", f"/api/v2/dags/{DAG}/dagRuns")["total_entries"]
    wrong = script.replace("$AIRFLOW_PASSWORD", "wrong")
    refused = in_bash(wrong, login)
    assert refused.returncode != 0
    assert "401" in refused.stderr


def at_hand(api: Api, dag: str) -> tuple[set[tuple[str, str]], set[int]]:
    """State and pool of the tasks of a DAG's newest run at hand, and the processes that ran them."""
    runs = api("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=-run_after&run_type=manual")["dag_runs"]
    assert runs[0]["triggering_user_name"].endswith(", by ltr run")
    tasks = api("GET", f"/api/v2/dags/{dag}/dagRuns/{runs[0]['dag_run_id']}/taskInstances")["task_instances"]
    return {(task["state"], task["pool"]) for task in tasks}, {task["pid"] for task in tasks if task["pid"]}


def test_the_scheduler_takes_no_task_of_a_run_at_hand(api: Api, environment: dict[str, str]) -> None:
    wait("DAG", lambda: api("GET", f"/api/v2/dags/{WIDE}/details"))
    toggle(api, WIDE)
    home = Path(environment["AIRFLOW_HOME"])
    folder = {"AIRFLOW__CORE__DAGS_FOLDER": str(home / "wide")}
    command = [sys.executable, "-m", "ltr_pipeline.airflow.once", WIDE, "{}"]
    with subprocess.Popen(command, env=environment | folder) as process:
        assert process.wait(PATIENCE_SECONDS) == 0
    assert at_hand(api, WIDE) == ({("success", "run_at_hand")}, {process.pid})
    assert (home / f"{WIDE}.txt").read_text().split() == [str(process.pid)] * 6


@pytest.mark.long
def test_toggled_dag_runs_green_emits_its_asset_and_its_follower_gets_the_version(
    api: Api, simulated: None, environment: dict[str, str], webhook: Server
) -> None:
    wait("follower", lambda: api("GET", f"/api/v2/dags/{FOLLOWER}/details"))
    toggle(api, FOLLOWER)
    toggle(api, DAG)
    run = finished(api, DAG)
    assert (run["state"], run["run_type"]) == ("success", "scheduled")
    tasks = api("GET", f"/api/v2/dags/{DAG}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
    states = {task["task_id"]: task["state"] for task in tasks}
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("success", "skipped", "success")
    (event,) = api("GET", "/api/v2/assets/events")["asset_events"]
    (latest,) = json.loads(ltr(environment, "versions", "--json"))
    assert event["extra"]["version"] == latest["version"] == f"{run['logical_date'][:10].replace('-', '')}_0215"
    assert latest["is_latest"]
    wait("reload", lambda: health(environment)["version"] == latest["version"])
    assert event["extra"]["metrics"]["ndcg_at_5"] == latest["ndcg_at_5"]
    assert "ok" in ltr(environment, "verify")
    (told,) = webhook.got
    assert told["title"] == f"LTR {latest['version']} published"
    follower = finished(api, FOLLOWER)
    assert (follower["state"], follower["run_type"]) == ("success", "asset_triggered")
    task = f"/api/v2/dags/{FOLLOWER}/dagRuns/{follower['dag_run_id']}/taskInstances/log_published"
    assert api("GET", f"{task}/xcomEntries/return_value")["value"] == [latest["version"]]
    logged = json.dumps(api("GET", f"{task}/logs/1"))
    assert f"version {latest['version']} is in use now: " in logged
    assert f"ndcg_at_5 {latest['ndcg_at_5']:.4g}" in logged
    note = api("GET", f"/api/v2/dags/{DAG}/dagRuns/{run['dag_run_id']}")["note"]
    assert note.startswith(f"Published {latest['version']}: ")
    assert f"`ltr report {latest['version']} --open` shows it" in note


@pytest.mark.long
def test_the_hourly_dag_is_toggled_on_lands_refreshes_and_is_gated(
    api: Api, simulated: None, environment: dict[str, str]
) -> None:
    details = wait("DAG", lambda: api("GET", f"/api/v2/dags/{HOURLY}/details"))
    assert details["is_paused"] is True
    assert "It is off until you toggle it on" in details["doc_md"]
    toggle(api, DAG)
    night = finished(api, DAG)
    assert night["state"] == "success"
    parent = f"{night['logical_date'][:10].replace('-', '')}_0215"
    toggle(api, HOURLY)
    finished(api, HOURLY)  # that of the newest hour, which the night may have overtaken
    runs = f"/api/v2/dags/{HOURLY}/dagRuns"
    name = api("POST", runs, {"logical_date": None})["dag_run_id"]
    ended = ("success", "failed")
    run = wait("hour", lambda: (found := api("GET", f"{runs}/{name}"))["state"] in ended and found)
    assert run["state"] == "success", run
    note = wait("note", lambda: api("GET", f"{runs}/{name}")["note"])
    assert "/refreshes/" in note  # it was judged, whatever came of it
    landed = Path(environment["AIRFLOW_HOME"], "var", "simulated", "data", "events")
    assert len(list(landed.glob("date=*/run=*/manifest.json"))) >= 2
    versions = {each["version"]: each for each in json.loads(ltr(environment, "versions", "--json"))}
    (latest,) = [each for each in versions.values() if each["is_latest"]]
    if note.startswith("Published "):
        assert latest["parent"] == parent
        wait("reload", lambda: health(environment)["version"] == latest["version"])
    else:
        assert parent in (latest["version"], latest["parent"])
    assert "ok" in ltr(environment, "verify")


def test_the_service_has_airflow_begin_a_run(api: Api, simulated: None, tmp_path: Path) -> None:
    wait("DAG", lambda: api("GET", f"/api/v2/dags/{DAG}/details"))
    runs, path = f"/api/v2/dags/{DAG}/dagRuns", "/monitoring/run-pipeline"
    toggle(api, DAG)
    finished(api, DAG)  # the one that its schedule begins
    login = {"LTR_AIRFLOW_USER": api.user, "LTR_AIRFLOW_PASSWORD": api.password}
    with Service(tmp_path / "wrong", login | {"LTR_AIRFLOW_PASSWORD": "wrong"}, LTR_AIRFLOW_URL=api.url) as service:
        assert "does not know the login" in service.post(path, expect=503, headers={})["error"]
    with Service(tmp_path / "service", login, LTR_AIRFLOW_URL=api.url) as service:
        status = service.get("/monitoring/pipeline-status")
        assert (status["running"], status["said"]) == (False, "")
        begun = service.post(path, {"date": "2020-01-01"}, expect=202)  # of which nothing has landed: it fails at once
        run = api("GET", f"{runs}/{urllib.parse.quote(begun['run'])}")
        assert run["conf"] == {"date": "2020-01-01"}
        assert begun["address"] == f"{api.url}/dags/{DAG}/runs/{urllib.parse.quote(begun['run'], safe='')}"
        assert "under way" in service.post(path, expect=409, headers={})["error"]
        assert service.get("/monitoring/pipeline-status")["running"] is True
        request = urllib.request.Request(
            f"{api.url}{runs}/{urllib.parse.quote(begun['run'])}",
            headers={"Authorization": f"Bearer {api.token}"},
            method="DELETE",
        )
        urllib.request.urlopen(request, timeout=60).close()
        assert service.get("/monitoring/pipeline-status")["running"] is False
        api("PATCH", f"/api/v2/dags/{DAG}?update_mask=is_paused", {"is_paused": True})
        assert "switched off" in service.post(path, expect=503, headers={})["error"]
        toggle(api, DAG)
    with Service(tmp_path / "token", LTR_AIRFLOW_URL=api.url, LTR_AIRFLOW_TOKEN=api.token) as service:
        assert service.get("/monitoring/pipeline-status")["running"] is not None


@pytest.mark.long
def test_a_red_run_says_what_to_do_and_can_be_cleared(api: Api, simulated: None) -> None:
    """As a person does it who has the UI alone: read the note, mend the cause, clear the task with all after it."""
    wait("DAG", lambda: api("GET", f"/api/v2/dags/{DAG}/details"))
    runs = f"/api/v2/dags/{DAG}/dagRuns"
    toggle(api, DAG)
    api("PATCH", "/api/v2/variables/ltr_ndcg_min", {"key": "ltr_ndcg_min", "value": "1.7"})
    name = api("POST", runs, {"logical_date": None})["dag_run_id"]
    red = wait("failed run", lambda: (run := api("GET", f"{runs}/{name}"))["state"] == "failed" and run)
    note = wait("note", lambda: api("GET", f"{runs}/{name}")["note"])
    assert note.startswith("Failed in extract_events: "), red
    assert "ltr_ndcg_min is '1.7'" in note
    assert "`latest` stays as it was. When the cause is gone, clear this task with all after it" in note
    api("PATCH", "/api/v2/variables/ltr_ndcg_min", {"key": "ltr_ndcg_min", "value": "0.65"})
    again = {"dry_run": False, "dag_run_id": name, "task_ids": ["extract_events"], "include_downstream": True}
    api("POST", f"/api/v2/dags/{DAG}/clearTaskInstances", again)
    wait("green run", lambda: api("GET", f"{runs}/{name}")["state"] == "success")
    wait("other note", lambda: not api("GET", f"{runs}/{name}")["note"].startswith("Failed"))


@pytest.mark.long
def test_a_night_runs_at_hand_beside_the_scheduler_of_a_toggled_dag(api: Api, environment: dict[str, str]) -> None:
    toggle(api, DAG)
    finished(api, DAG)
    ltr(environment, "run")
    states, processes = at_hand(api, DAG)
    assert states == {("success", "run_at_hand"), ("skipped", "run_at_hand")}
    assert len(processes) == 1
