"""The note on a run: what it says, and that it fits into Airflow's column."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ltr_pipeline.airflow.plugin import notes

OUTCOME = {
    "run": "20251120_0215",
    "version": None,
    "moved": False,
    "latest": "20251119_0215",
    "reason": "20251119_0215 stays in use: nDCG@5 is 0.600, below the minimum of 0.65",
    "report": "file:///data/runs/20251120_0215/report.html",
}
UNFAIR = (
    "20251119_0215, which is in use, ranks groups of people unequally: the fairness gap is 0.115 after noise "
    "correction (raw 0.118), above the limit of 0.05."
)


def noted(**fields: Any) -> str:
    run = SimpleNamespace(note=None)
    notes._note(run, *notes._ended(OUTCOME | fields))
    return run.note


def test_an_unfair_version_in_use_is_told_between_the_outcome_and_the_report() -> None:
    outcome, alarm, report = noted(alarm=UNFAIR).split("\n\n")
    assert outcome.startswith("Kept the former version: 20251119_0215 stays in use: nDCG@5 is 0.600")
    assert alarm == UNFAIR
    assert report.startswith("Report: file:///data/runs/20251120_0215/report.html")


def test_a_night_that_was_not_due_is_no_rejection() -> None:
    said = noted(due=False, reason="20251119_0215 stays in use: not due: it is young")
    assert said.startswith("No model was trained: 20251119_0215 stays in use: not due: it is young.\n\nReport: ")


@pytest.mark.parametrize("fields", [{}, {"alarm": ""}], ids=["of a task before an upgrade", "fair"])
def test_without_an_alarm_the_note_is_the_outcome_and_the_report(fields: dict[str, str]) -> None:
    assert len(noted(**fields).split("\n\n")) == 2


def test_a_long_reason_leaves_room_for_the_alarm_and_the_report() -> None:
    said = noted(alarm=UNFAIR, reason="worse by more than 0.01; " * 100)
    assert UNFAIR in said
    assert said.endswith("shows it)")
    assert len(said) <= 1000
