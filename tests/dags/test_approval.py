"""What a person decides, in the real DAG and run by Airflow in this process: asked, answered, and what follows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow.sdk import DAG

from ltr_pipeline.airflow import asking
from ltr_pipeline.jobs import approval
from ltr_pipeline.monitoring.records import NightRecord
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.settings import Settings, load_settings
from support.small import DAYS, NIGHT, RUN, UNDECIDED, simulate
from support.webhook import Server, running


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A project whose night the gate cannot decide, and asks about."""
    simulate(tmp_path)
    monkeypatch.setenv("LTR_EVENTS_PATH", str(tmp_path / "audit.log"))
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    monkeypatch.setenv("LTR_WINDOW_DAYS", str(DAYS))
    monkeypatch.setenv("LTR_BUCKETS", "2")
    for name, value in UNDECIDED.items():
        monkeypatch.setenv(f"AIRFLOW_VAR_{name.upper()}", value)
    return load_settings()


def run(dag: DAG) -> dict[str, str]:
    """State of every task after a run."""
    done = dag.test(run_conf={"date": NIGHT.isoformat()})
    states = {instance.task_id: str(instance.state) for instance in done.get_task_instances()}
    return {task: states[task] for task in ("approve_weights", "publish_weights", "keep_previous", "notify")} | {
        "run": str(done.state)
    }


@contextmanager
def answered(option: str, reason: str | None, who: str = "anna") -> Iterator[list[str]]:
    """Answer the next question as the API does for a person; yields what was asked."""
    asked: list[str] = []
    stop = threading.Event()

    def answer() -> None:
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
        from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select
        from sqlalchemy.orm import joinedload

        waiting = select(TaskInstance).where(TaskInstance.state == "awaiting_input")
        while not stop.wait(0.2):
            with create_session() as session:
                found = session.scalars(waiting.options(joinedload(TaskInstance.hitl_detail))).first()
                if found is None:
                    continue
                asked.append(f"{found.hitl_detail.subject}\n\n{found.hitl_detail.body}")
                payload = UpdateHITLDetailPayload(chosen_options=[option], params_input={"reason": reason})
                user = SimpleAuthManagerUser(username=who, role="admin")
                update_hitl_detail(found.dag_id, found.run_id, found.task_id, payload, user, session)
                return

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run at hand ask, as somebody answers here."""
    monkeypatch.setattr(asking, "_is_at_hand", lambda: False)


def test_where_nobody_can_be_asked_the_former_version_stays_and_a_person_approves_by_hand(
    dag: DAG, settings: Settings
) -> None:
    assert run(dag) == {
        "approve_weights": "success",
        "publish_weights": "skipped",
        "keep_previous": "success",
        "notify": "success",
        "run": "success",
    }
    assert settings.registry.promoted() is None
    (night,) = History(settings.data).read(NightRecord)
    assert (night.verdict, night.asked, night.answered_by) == ("keep", True, "")
    assert f"nobody could be asked (`ltr approve {RUN}` publishes it)" in night.reason
    assert approval.approve(RUN, "bob@desk", "looked at the lists", settings)["moved"]
    (move,) = settings.registry.history()
    assert (move.version, move.who, move.why) == (RUN, "bob@desk", "looked at the lists")


def test_what_a_person_publishes_stands_in_ledger_report_message_and_history(
    dag: DAG, settings: Settings, somebody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Server()) as hook, answered("Publish", "the lists look right") as asked:
        monkeypatch.setenv("LTR_NOTIFY_URLS", f"json://127.0.0.1:{hook.port}/")
        states = run(dag)
    assert states == {
        "approve_weights": "success",
        "publish_weights": "success",
        "keep_previous": "skipped",
        "notify": "success",
        "run": "success",
    }
    (move,) = settings.registry.history()
    assert (move.version, move.who, move.why) == (RUN, "anna", "the lists look right")
    (question,) = asked
    assert question.startswith(f"Publish {RUN}?")
    assert "| Check | Observed | 95 % CI | Threshold | Verdict |" in question
    assert f"runs/{RUN}/report.html" in question
    told = "Approved by anna: the lists look right."
    first, last = hook.got
    assert "/tasks/approve_weights/required_actions" in first["message"]
    assert told in last["message"]
    assert told in settings.data.get(f"runs/{RUN}/report.html").decode()
    (night,) = History(settings.data).read(NightRecord)
    assert (night.verdict, night.answered_by, night.answer_reason) == ("publish", "anna", "the lists look right")


@pytest.mark.parametrize(
    ("option", "reason", "said"),
    [
        ("Keep", "the lists are odd", "kept by anna: the lists are odd"),
        ("Publish", " ", "nothing is approved without a reason, and anna gave none"),
    ],
)
def test_what_a_person_keeps_or_gives_no_reason_for_stays_unpublished(
    dag: DAG, settings: Settings, somebody: None, option: str, reason: str, said: str
) -> None:
    with answered(option, reason):
        states = run(dag)
    assert (states["run"], states["publish_weights"], states["keep_previous"]) == ("success", "skipped", "success")
    assert settings.registry.promoted() is None
    (night,) = History(settings.data).read(NightRecord)
    assert f"nothing is published yet: {said}; " in night.reason
    assert (night.verdict, night.answered_by) == ("keep", "anna")
