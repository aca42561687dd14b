"""`ltr runs`, `ltr report`, and what `ltr show`, `ltr history` and `ltr doctor` know of a night that kept a version."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ltr_pipeline.report.artefacts import DECISION, OUTCOME, REPORT
from ltr_pipeline.runs.run import Outcome, Run
from ltr_pipeline.settings import load_settings
from support.commands import A, B, ltr, project, published, typed
from support.nights import night

WHY = f"{A} stays in use: 18 eligible test rankings, below the minimum of 100"
PAGE = b"<p>kept</p>"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A night that was judged and published nothing."""
    project(tmp_path, monkeypatch)
    monkeypatch.setenv("COLUMNS", "300")
    published(tmp_path, A)
    run = Run(B, load_settings())
    run.write(DECISION, night().decision)
    run.write(OUTCOME, Outcome(run=B, version=None, moved=False, reason=WHY, latest=A))
    run.write(REPORT, PAGE)
    return run


def test_the_list_says_why_the_last_night_was_kept(kept: Run) -> None:
    done = ltr("runs")
    (line,) = (line for line in done.out.splitlines() if line.startswith(B))
    assert (done.code, "kept" in line, WHY in line, kept.uri(REPORT) in line) == (0, True, True, True)
    told = {"run": B, "verdict": "kept", "reason": WHY, "version": None, "report": kept.uri(REPORT)}
    assert ltr("runs", "--json").json == [told]


def test_its_report_is_found_and_opened_in_the_browser(kept: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ltr("report").out.strip() == ltr("report", B).out.strip() == kept.uri(REPORT)
    seen = Path("seen.txt")
    browser = Path("browser")
    browser.write_text(f'#!{sys.executable}\nimport sys\nopen("{seen}", "w").write(sys.argv[1])\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser.resolve()} %s")
    assert typed("report", "--open").code == 0
    assert seen.read_text() == kept.uri(REPORT)
    refused = ltr("report", A)
    assert (refused.code, refused.out, "`ltr runs` lists" in refused.err) == (2, "", True)


def test_show_prints_its_decision(kept: Run) -> None:
    shown = json.loads(ltr("show", B).out)
    assert (shown["outcome"]["reason"], shown["report"]) == (WHY, kept.uri(REPORT))
    assert shown["decision"]["verdict"] == night().decision.verdict


def test_history_and_doctor_know_it(kept: Run) -> None:
    assert WHY in " ".join(ltr("history").out.split())
    told = [each["text"] for each in ltr("doctor", "--json").json if each["subject"] == "last night"]
    assert f"{B} kept: {WHY}; report: {kept.uri(REPORT)}" in told
