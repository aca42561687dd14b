"""People who are asked by a running Airflow: who may answer, when, how often, and what an answer does."""

from __future__ import annotations

import sqlite3
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ltr_pipeline.monitoring.records import NightRecord, SegmentsTrained
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.settings import Settings
from support.airflow import Api, environment_of, finished, ltr, toggle, up, wait
from support.browser import chromium
from support.small import DAYS, NIGHT, RUN, UNDECIDED, simulate, small_settings, up_to
from support.webhook import Server, running

pytestmark = pytest.mark.long

DAG, SEGMENTS = "train_ltr_daily", "train_segments"
WHY = "I looked at fifty lists"


@pytest.fixture(scope="module")
def webhook() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, webhook: Server) -> dict[str, str]:
    """An Airflow with three users, whose gate leaves a night that has landed to them."""
    home = tmp_path_factory.mktemp("airflow")
    simulate(home)
    up_to("extract_events", small_settings(home))
    undecided = {f"AIRFLOW_VAR_{name.upper()}": value for name, value in UNDECIDED.items()}
    return (
        environment_of(home)
        | undecided
        | {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,anna:user,vera:viewer",
            "LTR_EVENTS_PATH": str(home / "audit.log"),
            "LTR_DATA_URI": str(home / "data"),
            "LTR_REGISTRY_URI": str(home / "registry"),
            "LTR_DATABASE_URL": f"sqlite:///{home / 'ltr.db'}",
            "LTR_WINDOW_DAYS": str(DAYS),
            "LTR_BUCKETS": "2",
            "LTR_NOTIFY_URLS": f"json://127.0.0.1:{webhook.port}",
        }
    )


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    home = Path(environment["AIRFLOW_HOME"])
    return small_settings(home, database_url=environment["LTR_DATABASE_URL"])


@pytest.fixture(scope="module")
def api(environment: dict[str, str]) -> Iterator[Api]:
    """Airflow, after the night that its schedule begins, which finds nothing to learn."""
    with up(environment):
        admin = Api(environment)
        wait("DAG", lambda: admin("GET", f"/api/v2/dags/{DAG}/details"))
        toggle(admin, DAG)
        assert finished(admin, DAG)["state"] == "success"
        yield admin


class Asked:
    """A run that asks."""

    def __init__(self, api: Api, dag: str, task: str, **params: Any) -> None:
        self.api, self.dag, self.task = api, dag, task
        begun = api("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": params})
        self.name = begun["dag_run_id"]
        self.run = f"/api/v2/dags/{dag}/dagRuns/{quote(self.name, safe='')}"
        self.question = f"{self.run}/taskInstances/{task}/-1/hitlDetails"
        place = f"{api.url}/dags/{dag}/runs/{quote(self.name, safe='')}/tasks/{task}"
        self.page = f"{place}/required_actions?map_index=-1"

    def state(self, task: str) -> str:
        return str(self.api("GET", f"{self.run}/taskInstances/{task}")["state"])

    def waits(self) -> dict[str, Any]:
        """Return the question, once it waits for an answer, and its process has ended.

        To one who answers within a second, as only programs do, Airflow's scheduler says that the task was killed; it
        is tried again, to the same end.
        """
        wait("question", lambda: self.state(self.task) == "awaiting_input")
        time.sleep(5)
        return dict(self.api("GET", self.question))

    def answer(self, who: Api, option: str, reason: str | None) -> int:
        """Return the status of an answer."""
        try:
            who("PATCH", self.question, {"chosen_options": [option], "params_input": {"reason": reason}})
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    def answer_on_the_page(self, who: Api, option: str, reason: str) -> None:
        """Log in, follow the link of the message, and answer as a person does."""
        with chromium() as browser:
            page = browser.new_page()
            page.goto(f"{who.url}/auth/login/")
            page.fill("input[name=username]", who.user)
            page.fill("input[name=password]", who.password)
            page.click("button[type=submit]")
            page.wait_for_url(lambda url: "login" not in url)
            page.goto(self.page)
            page.get_by_text("Against the champion", exact=True).wait_for()
            page.locator("#element_reason").fill(reason)
            page.get_by_role("button", name=option).click()
            wait("answer", lambda: self.api("GET", self.question)["response_received"])

    def ends(self) -> dict[str, str]:
        """State of every task, once the run has ended."""
        state = wait("end", lambda: (now := self.api("GET", self.run)["state"]) in ("success", "failed") and now)
        assert state == "success"
        tasks = self.api("GET", f"{self.run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def clear(self, task: str) -> None:
        """Clear a task with all after it, as in the UI."""
        body = {"dry_run": False, "dag_run_id": self.name, "task_ids": [task], "include_downstream": True}
        self.api("POST", f"/api/v2/dags/{self.dag}/clearTaskInstances", body | {"only_failed": False})


def minutes(api: Api, count: int) -> None:
    """Set how long people have time to answer."""
    name = "ltr_approval_minutes"
    api("PATCH", f"/api/v2/variables/{name}", {"key": name, "value": str(count)})


def night(settings: Settings) -> NightRecord:
    """What the history has of the night."""
    (found,) = [one for one in History(settings.data).read(NightRecord) if one.run == RUN]
    return found


def published(settings: Settings) -> list[tuple[str, str, str]]:
    return [(move.version, move.who, move.why) for move in settings.registry.history()]


def test_nobody_answers_then_somebody_keeps_and_no_question_is_shown_of_a_former_judgement(
    api: Api, environment: dict[str, str], settings: Settings, webhook: Server
) -> None:
    anna = Api(environment, "anna")
    minutes(api, 1)
    asked = Asked(api, DAG, "approve_weights", date=NIGHT.isoformat())
    question = asked.waits()
    assert "until" in ltr(environment, "runs")
    states = asked.ends()
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("skipped", "success", "success")
    assert night(settings).answer == "nobody answered within 1 minute"
    assert asked.answer(anna, "Publish", WHY) == 409
    assert api("GET", asked.question)["chosen_options"] == ["Keep"]
    assert published(settings) == []

    minutes(api, 60)
    asked.clear("approve_weights")  # a person wants to be asked again
    assert asked.waits()["body"] == question["body"]
    assert asked.answer(anna, "Keep", "the lists look odd") == 200
    assert asked.ends()["keep_previous"] == "success"
    assert night(settings).answer == "kept by anna: the lists look odd"
    assert "kept by anna: the lists look odd" in ltr(environment, "history")

    name = "ltr_min_samples"
    api("PATCH", f"/api/v2/variables/{name}", {"key": name, "value": "50"})
    asked.clear("quality_gate")  # and is judged by another policy
    assert asked.ends()["keep_previous"] == "success"
    assert night(settings).answer.startswith("Airflow still shows the question about a former judgement")
    api("PATCH", f"/api/v2/variables/{name}", {"key": name, "value": "100"})
    assert published(settings) == []
    assert [told["title"] for told in webhook.got if "?" in told["title"]] == [
        f"LTR run {RUN}: publish it? The gate cannot decide"
    ] * 2


def test_one_person_decides_once_and_a_task_that_fails_after_it_does_not_ask_again(
    api: Api, environment: dict[str, str], settings: Settings, webhook: Server
) -> None:
    anna, vera = Api(environment, "anna"), Api(environment, "vera")
    minutes(api, 60)
    webhook.got.clear()
    asked = Asked(api, DAG, "approve_weights", date=NIGHT.isoformat())
    question = asked.waits()
    assert question["subject"] == f"Publish {RUN}? The gate cannot decide"
    assert "| Against the champion | " in question["body"]
    assert "report.html" in question["body"]
    (told,) = webhook.got
    assert asked.page in told["message"]
    assert asked.answer(vera, "Publish", WHY) == 403
    assert asked.answer(anna, "Perhaps", WHY) == 400

    decision = Path(environment["AIRFLOW_HOME"]) / "data" / "runs" / RUN / "decision.json"
    decision.rename(decision.with_suffix(".away"))  # so that the answer cannot be stored
    asked.answer_on_the_page(anna, "Publish", WHY)
    wait("failure", lambda: asked.state("approve_weights") == "up_for_retry")
    decision.with_suffix(".away").rename(decision)
    assert asked.answer(api, "Keep", "no") == 409
    states = asked.ends()
    assert (states["publish_weights"], states["keep_previous"], states["notify"]) == ("success", "skipped", "success")
    assert published(settings) == [(RUN, "anna", WHY)]
    assert settings.registry.promoted() == RUN
    assert (night(settings).verdict, night(settings).answered_by) == ("publish", "anna")
    said = f"approved by anna: {WHY}"
    assert said in ltr(environment, "runs")
    assert f"(publish by anna: {WHY})" in ltr(environment, "history")
    assert said in api("GET", asked.run)["note"]
    asking, ended = [told for told in webhook.got if "failed" not in told["title"]]
    assert (asking["title"], ended["title"]) == (told["title"], f"LTR {RUN} published")
    assert said[1:] in ended["message"]

    asked.clear("approve_weights")
    assert asked.ends()["publish_weights"] == "success"  # it is approved, so nobody is asked
    assert published(settings) == [(RUN, "anna", WHY)]


def test_segments_that_agree_too_little_are_replaced_by_a_person(
    api: Api, environment: dict[str, str], settings: Settings
) -> None:
    anna, vera = Api(environment, "anna"), Api(environment, "vera")
    minutes(api, 60)
    toggle(api, SEGMENTS)
    ltr(environment, "segments", "init")
    sql(settings, f"UPDATE config_segment_parameters SET periods = 1, until = '{NIGHT}'")
    chosen = """features = '["lists", "impressions", "interactions"]', weights = '{"lists": 1, "interactions": 1}'"""
    sql(settings, f"UPDATE config_segment_levels SET {chosen}")
    first = Asked(api, SEGMENTS, "approve_segments")
    assert first.ends() == {
        "train_segments": "success",
        "approve_segments": "success",
        "replace_segments": "skipped",
        "keep_segments": "skipped",
    }
    sql(settings, "UPDATE config_segment_parameters SET granularity = 'day'")
    asked = Asked(api, SEGMENTS, "approve_segments")
    question = asked.waits()
    assert "which cannot be compared" in question["body"]
    assert asked.answer(vera, "Replace", WHY) == 403
    assert asked.answer(anna, "Replace", WHY) == 200
    assert asked.answer(anna, "Keep", "") == 409
    states = asked.ends()
    assert (states["replace_segments"], states["keep_segments"]) == ("success", "skipped")
    models = sql(settings, "SELECT level, version, in_use FROM analytics_segment_models ORDER BY level, version")
    assert models == [("item", 1, 0), ("item", 2, 1), ("user", 1, 0), ("user", 2, 1)]
    newest = [one for one in History(settings.data).read(SegmentsTrained) if one.version == 2]
    assert {(one.in_use, one.asked, one.answered_by, one.answer_reason) for one in newest} == {
        (True, True, "anna", WHY)
    }


def sql(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(str(settings.database.file)) as connection:
        return connection.execute(statement).fetchall()
