"""The artefacts of a run: every file of its folder and what it holds, in the order they are written."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.examples import Examples
from ltr_pipeline.metrics.slices import SegmentsBefore
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.runs.names import (
    DATASET_FILE,
    DECISION_FILE,
    EVIDENCE_FILE,
    EXAMPLES_FILE,
    INPUTS_FILE,
    OUTCOME_FILE,
    REPORT_FILE,
    SEGMENTS_FILE,
    TRAINED_FILE,
)
from ltr_pipeline.runs.run import Artefact, Inputs, Outcome
from ltr_pipeline.versions.documents import DOCUMENT

__all__ = [
    "DATASET",
    "DECISION",
    "EVIDENCE",
    "EXAMPLES",
    "FRESH",
    "INPUTS",
    "MODEL",
    "OUTCOME",
    "REPORT",
    "SEGMENTS",
    "TABLES",
    "TRAINED",
    "WEIGHTS",
]

INPUTS: Final = Artefact(INPUTS_FILE, Inputs)

TABLES: Final = "dataset"
"""Folder of the labelled tables."""

DATASET: Final = Artefact(DATASET_FILE, DatasetManifest)
"""Of an hourly refresh: that of the night on whose test days it is judged, and whose folder has its tables."""

FRESH: Final = Artefact("fresh.json", DatasetManifest)
"""Of an hourly refresh: the rankings that it is made from."""

MODEL: Final = Artefact("model.txt", bytes)
TRAINED: Final = Artefact(TRAINED_FILE, Trained)
SEGMENTS: Final = Artefact(SEGMENTS_FILE, SegmentsBefore)
"""How engaged the users of the test days were before, or that this was not known."""

EXAMPLES: Final = Artefact(EXAMPLES_FILE, Examples)
"""Rankings for people to look at; releases before 0.2 have none."""

EVIDENCE: Final = Artefact(EVIDENCE_FILE, Evidence)

WEIGHTS: Final = Artefact(DOCUMENT, bytes)
"""The document that may be published, frozen by the gate."""

DECISION: Final = Artefact(DECISION_FILE, Decision)
OUTCOME: Final = Artefact(OUTCOME_FILE, Outcome)
REPORT: Final = Artefact(REPORT_FILE, bytes)
