"""A night that had nothing to learn from says why: in the gate's reasons, the report and the notification."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.jobs import nightly
from ltr_pipeline.report import diagnosis, notify, outcome
from ltr_pipeline.report.artefacts import DECISION, EXAMPLES, OUTCOME, REPORT
from ltr_pipeline.report.notify import Message
from ltr_pipeline.runs.run import Run
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
