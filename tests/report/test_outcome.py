"""A night that had nothing to learn from says why: in the gate's reasons, the report and the notification."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ltr_pipeline.errors import StorageError
from ltr_pipeline.gate.checks.check import Check
from ltr_pipeline.gate.decision import Champion, Decision
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report import diagnosis, notify, outcome
from ltr_pipeline.report.artefacts import DECISION, EXAMPLES, OUTCOME, REPORT
from ltr_pipeline.report.message import Message
from ltr_pipeline.runs.run import Run
from support.documents import document
from support.small import RUN, simulate, small_settings, up_to

CAUSE = "No feedback landed, so nothing tells which items were good. Is feedback logged?"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A night of a log without feedback, judged and kept."""
    simulate(tmp_path)
    log = tmp_path / "audit.log"
    log.write_text("".join(line for line in log.open() if '"offer_feedback"' not in line))
    settings = small_settings(tmp_path)
    nightly.keep_previous(up_to("quality_gate", settings), settings)
    return Run(RUN, settings)


def test_the_cause_is_told_in_the_same_words_everywhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(notify, "send", lambda urls, message: sent.append(message))
    outcome.tell(run)
    assert CAUSE in sent[0].body
    assert "belong to an impression" in sent[0].body
    assert any(f"two is the least to learn from. {CAUSE}" in reason for reason in run.read(DECISION).reasons)
    assert f"<li>{CAUSE}" in run.read(REPORT).decode()


@pytest.mark.parametrize("content", [None, b'{"of": "another release"}'])
def test_a_run_without_readable_examples_is_reported_all_the_same(run: Run, content: bytes | None) -> None:
    key = run.key(EXAMPLES.name)
    assert run.storage.exists(key)
    run.storage.delete(key)
    if content:
        run.storage.put(key, content)
    page = outcome.write_outcome(run, run.read(OUTCOME)).decode()
    assert "Example rankings" not in page
    assert "Not published" in page


def test_a_diagnosis_that_cannot_be_made_fails_nothing(run: Run) -> None:
    found = [finding.what for finding in diagnosis.of_run(run)]
    assert any("were recognised, but refused" in what for what in found)
    for key in run.storage.keys("events"):
        if key.endswith("quarantine.jsonl"):
            run.storage.put(key, b"{")
    assert diagnosis.of_run(run) == []


CHAMPION, LATER = "20250714_0215", "20250716_0215"
FIGURES = "the fairness gap is 0.115 after noise correction (raw 0.118), above the limit of 0.05"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Return the messages that were sent."""
    found: list[Message] = []
    monkeypatch.setattr(notify, "send", lambda urls, message: found.append(message))
    return found


def found_unfair(run: Run, status: str = "fail") -> Decision:
    """Let the run have found an unfair champion, which is in use."""
    run.settings.registry.publish(document(CHAMPION), who="ann", why="by hand")
    gap = Check(
        name="fairness_gap",
        status=status,
        observed=0.115,
        low=0.06,
        high=0.16,
        threshold=0.05,
        unit="",
        reason=FIGURES,
    )
    decision = replace(run.read(DECISION), champion=Champion(version=CHAMPION, fairness=gap))
    run.write(DECISION, decision)
    return decision


def test_the_nights_message_says_that_the_version_in_use_is_unfair(run: Run, sent: list[Message]) -> None:
    found_unfair(run)
    outcome.tell(run)
    assert sent[0].title == f"LTR run {RUN} not published; the version in use is unfair"
    assert f"{CHAMPION}, which is in use, ranks groups of people unequally: {FIGURES}." in sent[0].body
    assert "`ltr rollback` goes back to the one before" in sent[0].body


def test_a_version_that_was_replaced_since_is_news_and_no_alarm(run: Run, sent: list[Message]) -> None:
    found_unfair(run)
    run.settings.registry.publish(document(LATER), who="ann", why="by hand")
    outcome.tell(run)
    assert sent[0].title == f"LTR run {RUN} not published"
    assert f"{LATER} has taken its place" in sent[0].body


def test_a_failure_says_what_the_newest_judged_night_showed_of_the_version_in_use(
    run: Run, sent: list[Message]
) -> None:
    found_unfair(run)
    outcome.notify_failure("r-1", "train_ranker", "the disk is full", run.settings)
    assert sent[0].title == "LTR run r-1 failed in train_ranker; the version in use is unfair"
    assert FIGURES in sent[0].body
    run.settings.registry.publish(document(LATER), who="ann", why="by hand")
    outcome.notify_failure("r-1", "train_ranker", "the disk is full", run.settings)
    assert sent[1].title == "LTR run r-1 failed in train_ranker"
    assert FIGURES not in sent[1].body


def test_a_failure_says_nothing_of_a_version_that_is_not_shown_to_be_unfair(run: Run, sent: list[Message]) -> None:
    found_unfair(run, status="inconclusive")
    outcome.notify_failure("r-1", "train_ranker", "the disk is full", run.settings)
    assert sent[0].title == "LTR run r-1 failed in train_ranker"


@pytest.mark.parametrize("content", [None, b'{"of": "another release"}'])
def test_a_failure_is_told_where_no_verdict_can_be_read(run: Run, sent: list[Message], content: bytes | None) -> None:
    found_unfair(run)
    key = run.key(DECISION.name)
    run.storage.delete(key)
    if content:
        run.storage.put(key, content)
    outcome.notify_failure("r-1", "train_ranker", "the disk is full", run.settings)
    assert sent[0].body == f"the disk is full\n\n{CHAMPION} is in use."


def test_a_failure_is_told_where_the_runs_cannot_be_listed(
    run: Run, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_unfair(run)

    def broken(data: object) -> str:
        raise StorageError("the disk is gone")

    monkeypatch.setattr(outcome, "newest_judged", broken)
    outcome.notify_failure("r-1", "train_ranker", "the disk is full", run.settings)
    assert sent[0].body == f"the disk is full\n\n{CHAMPION} is in use."
