"""How nights ended, read from what they left: published, kept, unfinished, of other releases, half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.errors import SourceError
from ltr_pipeline.report.artefacts import DECISION, INPUTS, OUTCOME, REPORT
from ltr_pipeline.report.nights import nights, report_of
from ltr_pipeline.runs.run import Outcome, Run
from ltr_pipeline.settings import Settings, load_settings
from support.nights import night as decided

KEPT = "20250714_0215 stays in use: 18 eligible test rankings, below the minimum of 100"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_uri=str(tmp_path / "data"), registry_uri=str(tmp_path / "registry"), s3_bucket=None)


def ended(settings: Settings, name: str, version: str | None, reason: str) -> None:
    run = Run(name, settings)
    run.write(OUTCOME, Outcome(run=name, version=version, moved=bool(version), reason=reason, latest=version))
    run.write(REPORT, f"<p>{name}</p>".encode())


def test_the_newest_night_comes_first_with_its_verdict_reason_and_report(settings: Settings) -> None:
    ended(settings, "20250714_0215", "20250714_0215", "passed the gate")
    ended(settings, "20250715_0215", None, KEPT)
    ended(settings, "20250715_0215_2", "20250715_0215_2", "passed the gate")
    newest, kept, published = nights(settings)
    assert [newest.run, published.run] == ["20250715_0215_2", "20250714_0215"]
    assert (kept.verdict, kept.reason, kept.version) == ("kept", KEPT, None)
    assert kept.report == Run(kept.run, settings).uri(REPORT)
    assert nights(settings, 1) == [newest]


def test_a_night_on_which_no_training_was_due_is_none_that_kept(settings: Settings) -> None:
    run = Run("20250716_0215", settings)
    run.write(OUTCOME, Outcome(run=run.name, version=None, moved=False, reason="not due", latest=None, due=False))
    (night,) = nights(settings)
    assert (night.verdict, night.reason) == ("not due", "not due")


def test_a_night_without_an_outcome_names_the_task_that_has_not_ended(settings: Settings) -> None:
    run = Run("20250716_0215", settings)
    settings.data.put(run.key(INPUTS.name), b"{}")
    (night,) = nights(settings)
    assert (night.verdict, night.report) == ("unfinished", None)
    assert night.reason.startswith("build_dataset has not ended")


def test_what_passed_the_gate_and_was_not_published_names_the_command(settings: Settings) -> None:
    run = Run("20250716_0215", settings)
    for name in ("inputs.json", "dataset.json", "trained.json", "evidence.json"):
        settings.data.put(run.key(name), b"{}")
    run.write(DECISION, decided().decision)
    (night,) = nights(settings)
    assert "`ltr publish 20250716_0215`" in night.reason


@pytest.mark.parametrize("content", [b"", b"{", b'{"another": "form"}'])
def test_an_outcome_in_another_form_is_told_as_such(settings: Settings, content: bytes) -> None:
    settings.data.put("runs/20250716_0215/outcome.json", content)
    (night,) = nights(settings)
    assert (night.verdict, "cannot be read" in night.reason) == ("unfinished", True)


def test_other_folders_are_no_nights(settings: Settings) -> None:
    settings.data.put("runs/notes/outcome.json", b"{}")
    settings.data.put("runs/20250231_0215/outcome.json", b"{}")
    assert nights(settings) == []


def test_the_newest_report_is_found_and_a_missing_one_is_said(settings: Settings) -> None:
    ended(settings, "20250714_0215", None, KEPT)
    settings.data.put("runs/20250715_0215/inputs.json", b"{}")
    address, page = report_of(settings, None)
    assert (address.endswith("runs/20250714_0215/report.html"), page) == (True, b"<p>20250714_0215</p>")
    with pytest.raises(SourceError, match="no report of run 20250715_0215; `ltr runs`"):
        report_of(settings, "20250715_0215")
