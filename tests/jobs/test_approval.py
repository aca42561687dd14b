"""A night that the gate leaves to a person, task by task: what is asked, what an answer does, and what is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from ltr_pipeline.errors import RegistryError, SourceError
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.jobs import approval, chain, nightly
from ltr_pipeline.monitoring.records import NightRecord
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.registry import publish_weights
from ltr_pipeline.report.artefacts import DECISION
from ltr_pipeline.report.nights import nights, verdict_of
from ltr_pipeline.runs.run import Json, Run, judged
from ltr_pipeline.settings import Settings
from support.small import LENIENT, RUN, UNDECIDED, WHO, simulate, small_settings, up_to
from support.webhook import Server, running

UNTIL = dt.datetime(2025, 7, 15, 4, 0, tzinfo=dt.UTC)
QUESTION, LINK = "scheduled__2025-07-15/0", "http://airflow/required_actions"


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    """A night that was judged, and what the gate handed on."""
    folder = tmp_path_factory.mktemp("undecided")
    simulate(folder)
    return folder, up_to("quality_gate", small_settings(folder), variables=UNDECIDED)


@pytest.fixture
def settings(once: tuple[Path, Json], tmp_path: Path) -> Settings:
    shutil.copytree(once[0], tmp_path, dirs_exist_ok=True)
    return small_settings(tmp_path)


@pytest.fixture
def handed(once: tuple[Path, Json], settings: Settings) -> Json:
    return judged(RUN, settings)


def answer(handed: Json, settings: Settings, choice: str = "publish", who: str = "anna", why: str = "fine") -> str:
    return approval.answer(handed, QUESTION, choice=choice, who=who, why=why, settings=settings)


def history(settings: Settings) -> list[tuple[str, str, str]]:
    return [(move.version, move.who, move.why) for move in settings.registry.history()]


def test_the_gate_leaves_it_to_a_person(handed: Json, settings: Settings, once: tuple[Path, Json]) -> None:
    assert once[1]["verdict"] == "ask"
    assert chain.ENDS["ask"] == "approve_weights"
    decision = Run(RUN, settings).read(DECISION)
    assert decision.verdict == "ask"
    assert decision.reasons
    assert all("cannot be ruled out" in reason for reason in decision.reasons)


def test_until_it_is_answered_the_run_waits_and_says_where(handed: Json, settings: Settings, tmp_path: Path) -> None:
    asked = approval.begin(handed, QUESTION, settings)
    assert asked
    assert (asked["subject"], asked["until"]) == (f"Publish {RUN}? The gate cannot decide", None)
    assert "nothing is in use" in asked["body"]
    assert "Waits for an answer" in settings.data.get(f"runs/{RUN}/report.html").decode()
    with running(Server()) as hook:
        told = small_settings(tmp_path, notify_urls=f"json://127.0.0.1:{hook.port}")
        approval.tell(handed, QUESTION, LINK, UNTIL, told)
    (message,) = hook.got
    assert message["title"] == f"LTR run {RUN}: publish it? The gate cannot decide"
    assert f"Please decide until 2025-07-15 04:00 UTC.\n\nAnswer: {LINK}" in message["message"]
    (night,) = nights(settings)
    assert night.verdict == "unfinished"
    assert night.reason == f"a person decides until 2025-07-15 04:00 UTC whether it is published: {LINK}"
    again = approval.begin(handed, QUESTION, settings)
    assert again
    assert again["until"] == UNTIL.isoformat()
    anew = approval.begin(handed, "scheduled__2025-07-15/1", settings)
    assert anew
    assert anew["until"] is None


def test_it_is_not_published_before_somebody_has_approved_it(handed: Json, settings: Settings) -> None:
    wanted = rf"was judged 'ask', so it is not published without an approval.*`ltr approve {RUN}`"
    with pytest.raises(RegistryError, match=wanted):
        nightly.publish_weights(handed, WHO, settings)
    answer(handed, settings, "keep", why="odd")
    with pytest.raises(RegistryError, match="kept by anna: odd"):
        nightly.publish_weights(handed, WHO, settings)
    assert history(settings) == []


def test_what_was_approved_is_published_once_under_that_name(handed: Json, settings: Settings) -> None:
    assert answer(handed, settings) == "publish"
    outcome = nightly.publish_weights(handed, WHO, settings)
    assert outcome["moved"]
    assert outcome["reason"].endswith("; approved by anna: fine")
    assert nightly.publish_weights(handed, "somebody else", settings) == outcome
    assert history(settings) == [(RUN, "anna", "fine")]
    (night,) = History(settings.data).read(NightRecord)
    assert (night.verdict, night.asked, night.answer) == ("publish", True, "approved by anna: fine")
    shown = verdict_of(settings, RUN)
    assert shown
    assert shown["approval"]["who"] == "anna"
    assert approval.begin(handed, "another/0", settings) == {"choice": "publish"}
    kept = nightly.keep_previous(handed, settings)  # of a question that was still open
    assert (kept["version"], kept["moved"]) == (RUN, True)


def test_an_approval_is_of_one_decision(handed: Json, settings: Settings) -> None:
    answer(handed, settings)
    run = Run(RUN, settings)
    altered = replace(run.read(DECISION), reasons=["nothing to worry about"])
    run.write(DECISION, altered)
    with pytest.raises(SourceError, match="changed since its task wrote it"):
        nightly.publish_weights(handed, WHO, settings)
    with pytest.raises(RegistryError, match="without an approval of that very decision"):
        nightly.publish_weights(judged(RUN, settings), WHO, settings)  # as `ltr publish RUN` takes it
    assert history(settings) == []


def test_an_approval_that_was_forged_for_a_failed_check_is_refused(handed: Json, settings: Settings) -> None:
    run = Run(RUN, settings)
    decision = run.read(DECISION)
    failed = [replace(check, status="fail") for check in decision.checks]
    reference = run.write(DECISION, replace(decision, checks=failed), verdict="ask")
    forged = {"about": reference["sha256"], "choice": "publish", "who": "x", "why": "y", "when": UNTIL.isoformat()}
    settings.data.put(f"runs/{RUN}/approval.json", json.dumps(forged).encode())
    with pytest.raises(RegistryError, match="a check failed"):
        nightly.publish_weights(reference, WHO, settings)


def test_a_kept_night_is_approved_by_hand(settings: Settings) -> None:
    kept = nightly.quality_gate(evaluated(settings), UNDECIDED | {"ltr_on_inconclusive": "keep"}, settings)
    assert kept["verdict"] == "keep"
    nightly.keep_previous(kept, settings)
    with pytest.raises(RegistryError, match="not approved without a reason"):
        approval.approve(RUN, "bob@desk", " ", settings)
    outcome = approval.approve(RUN, "bob@desk", "fifty lists", settings)
    assert outcome["moved"]
    assert history(settings) == [(RUN, "bob@desk", "fifty lists")]
    (night,) = History(settings.data).read(NightRecord)
    assert (night.verdict, night.asked, night.answered_by) == ("publish", False, "bob@desk")
    assert "Published 20250715_0215" in settings.data.get(f"runs/{RUN}/report.html").decode()
    assert nightly.keep_previous(kept, settings)["version"] == RUN


def evaluated(settings: Settings) -> Json:
    return Run(RUN, settings).reference("evidence.json")


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        (LENIENT, f"passed the gate, so nobody need approve it; `ltr publish {RUN}`"),
        (UNDECIDED | {"ltr_ndcg_min": "0.99"}, "a check failed, which no setting and nobody overrules"),
        (UNDECIDED | {"ltr_gate_mode": "dry_run"}, "it was a dry run"),
    ],
)
def test_what_nobody_may_approve(settings: Settings, variables: dict[str, str], why: str) -> None:
    nightly.quality_gate(evaluated(settings), variables, settings)
    with pytest.raises(RegistryError, match=why):
        approval.approve(RUN, "bob@desk", "fifty lists", settings)
    with pytest.raises(SourceError, match="has not been judged"):
        approval.approve("20250716_0215", "bob@desk", "fifty lists", settings)
    assert history(settings) == []


def test_without_anybody_to_ask_it_is_kept_and_said(handed: Json, settings: Settings) -> None:
    outcome = chain.finish(handed | {"verdict": "ask"}, WHO, settings)
    assert outcome["version"] is None
    said = f"a person decides this, and nobody could be asked (`ltr approve {RUN}` publishes it)"
    assert outcome["reason"].startswith(f"nothing is published yet: {said}; ")


def test_the_file_of_such_a_document_is_not_published_by_hand(
    handed: Json, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTR_REGISTRY_URI", str(tmp_path / "registry"))
    with pytest.raises(RegistryError, match=rf"was judged 'ask', so its file is not published; `ltr approve {RUN}`"):
        publish_weights(tmp_path / "data" / "runs" / RUN / "ltr_weights.json")
    assert history(settings) == []


def test_a_decision_of_the_release_before_is_read(settings: Settings) -> None:
    run = Run(RUN, settings)
    data = json.loads(settings.data.get(run.key(DECISION.name)))
    del data["policy"]["approval_minutes"]
    found = DECISION.decode(json.dumps(data).encode())
    assert isinstance(found, Decision)
    assert found.policy.approval_minutes == 90


def test_the_approval_names_the_decision_by_its_sha256(handed: Json, settings: Settings) -> None:
    answer(handed, settings)
    stored = json.loads(settings.data.get(f"runs/{RUN}/approval.json"))
    assert stored["about"] == hashlib.sha256(settings.data.get(f"runs/{RUN}/decision.json")).hexdigest()
