"""Artefacts of the former release, before metrics took rankings: they are read, and written again the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small import RUN, small_settings

from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.gate.checks import Decision
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.runs.run import Inputs, Outcome, Run

FORMER = Path(__file__).parent / "former_release"
KINDS = {
    "dataset.json": DatasetManifest,
    "decision.json": Decision,
    "evidence.json": Evidence,
    "inputs.json": Inputs,
    "outcome.json": Outcome,
    "trained.json": Trained,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(RUN, small_settings(tmp_path))


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_an_artefact_of_a_former_release_is_read_and_written_the_same(run: Run, name: str, kind: type) -> None:
    former = (FORMER / name).read_bytes()
    run.storage.put(run.key(name), former)
    read = run.read_if_readable(name, kind)
    assert read is not None
    run.write(name, read)
    assert json.loads(run.storage.get(run.key(name))) == json.loads(former)


def test_the_test_rankings_that_a_former_run_asked_for_are_known(run: Run) -> None:
    run.storage.put(run.key("dataset.json"), (FORMER / "dataset.json").read_bytes())
    assert run.read("dataset.json", DatasetManifest).windows.min_queries == 150
