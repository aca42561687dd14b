"""Artefacts of the former release, before metrics took rankings: they are read, and what they hold is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.monitoring.records import NightRecord
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.report.artefacts import DATASET, DECISION, EVIDENCE, INPUTS, OUTCOME, TRAINED
from ltr_pipeline.report.history import refill
from ltr_pipeline.runs.run import Artefact, Run
from support.small import RUN, small_settings

FORMER = Path(__file__).parent / "former_release"
ARTEFACTS = [DATASET, DECISION, EVIDENCE, INPUTS, OUTCOME, TRAINED]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(RUN, small_settings(tmp_path))


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=lambda artefact: artefact.name)
def test_an_artefact_of_a_former_release_is_read_and_keeps_what_it_held(run: Run, artefact: Artefact[Any]) -> None:
    former = (FORMER / artefact.name).read_bytes()
    run.storage.put(run.key(artefact.name), former)
    read = run.read_if_readable(artefact)
    assert read is not None
    run.write(artefact, read)
    written = json.loads(run.storage.get(run.key(artefact.name)))
    assert kept(json.loads(former), written) == json.loads(former)


def test_a_night_of_a_former_release_gets_its_record(run: Run) -> None:
    for artefact in ARTEFACTS:
        run.storage.put(run.key(artefact.name), (FORMER / artefact.name).read_bytes())
    assert refill(run.settings) == [RUN]
    (record,) = History(run.storage).read(NightRecord)
    evidence = run.read(EVIDENCE)
    assert (record.run, record.trained, record.because) == (RUN, True, "every night")
    assert record.ndcg_at_5 is not None
    assert record.ndcg_at_5.value == evidence.metrics.ndcg_at_5.value
    assert record.metrics["mrr"] == evidence.metrics.mrr.value
    assert refill(run.settings) == []


@pytest.mark.parametrize("artefact", [DECISION, EVIDENCE, INPUTS, OUTCOME], ids=lambda artefact: artefact.name)
def test_a_night_that_cannot_be_read_gets_none(run: Run, artefact: Artefact[Any]) -> None:
    for each in ARTEFACTS:
        content = b'{"another": "form"}' if each is artefact else (FORMER / each.name).read_bytes()
        run.storage.put(run.key(each.name), content)
    assert refill(run.settings) == []


def kept(former: object, written: object) -> object:
    """What was written of the fields that the former release knew."""
    if isinstance(former, dict) and isinstance(written, dict):
        return {name: kept(value, written[name]) for name, value in former.items()}
    if isinstance(former, list) and isinstance(written, list):
        return [kept(*each) for each in zip(former, written, strict=True)]
    return written


def test_the_test_rankings_that_a_former_run_asked_for_are_known(run: Run) -> None:
    run.storage.put(run.key("dataset.json"), (FORMER / "dataset.json").read_bytes())
    assert run.read(DATASET).windows.min_queries == 150
