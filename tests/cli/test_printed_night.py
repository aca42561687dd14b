"""What `ltr run` prints of a night when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ltr_pipeline.cli.nightly import _print_run
from ltr_pipeline.gate.decision import Champion
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report.artefacts import DECISION
from ltr_pipeline.runs.run import Run
from support.documents import document
from support.small import DAY, LENIENT, NIGHT, RUN, moment, simulate, small_settings, up_to

CHAMPION = "20250714_0215"


def test_an_unfair_version_in_use_is_printed_below_the_gate_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    settings.registry.publish(document(CHAMPION), who="ann", why="by hand")
    nightly.keep_previous(up_to("quality_gate", settings), settings)
    run = Run(RUN, settings)
    _print_run(run)
    assert "groups of people unequally" not in capsys.readouterr().out
    decision = run.read(DECISION)
    (gap,) = (check for check in decision.checks if check.name == "fairness_gap")
    unfair = replace(gap, status="fail", reason="the fairness gap is 0.115, above the limit of 0.05")
    run.write(DECISION, replace(decision, champion=Champion(version=CHAMPION, fairness=unfair)))
    _print_run(run)
    printed = " ".join(capsys.readouterr().out.split())
    said = f"{CHAMPION}, which is in use, ranks groups of people unequally: the fairness gap is 0.115, above the limit"
    assert printed.index("Verdict: ") < printed.index(said)


def test_why_a_night_trained_or_did_not_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    nightly.keep_previous(up_to("quality_gate", settings), settings)
    _print_run(Run(RUN, settings))
    assert "trained: every night" in capsys.readouterr().out
    settings.registry.publish(document("20250715_0300"), who="ann", why="by hand")
    later, day = Run("20250716_0215", settings), NIGHT + DAY
    simulate(tmp_path, NIGHT, 1)
    nightly.extract_events({"moment": moment(day)}, LENIENT | {"ltr_retrain": "policy"}, settings)
    nightly.keep_previous(up_to("quality_gate", settings, day), settings)
    _print_run(later)
    printed = " ".join(capsys.readouterr().out.split())
    assert "The version in use was judged. - not due: the newest good model was trained 1 day ago" in printed
    assert "Run 20250716_0215: 20250715_0300 stays in use: not due: " in printed
    assert "trained: " not in printed
    assert "Verdict" not in printed.split("The version in use", 1)[1]
