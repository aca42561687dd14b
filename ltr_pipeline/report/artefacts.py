"""The artefacts of a nightly run: every file of its folder and what it holds, in the order they are written."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.gate.checks import Decision
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.runs.names import DECISION_FILE
from ltr_pipeline.runs.run import Artefact, Inputs, Outcome
from ltr_pipeline.versions.documents import DOCUMENT

__all__ = [
    "DATASET",
    "DECISION",
    "EVIDENCE",
    "INPUTS",
    "MODEL",
    "OUTCOME",
    "REPORT",
    "TABLES",
    "TRAINED",
    "WEIGHTS",
]

INPUTS: Final = Artefact("inputs.json", Inputs)

TABLES: Final = "dataset"
"""Folder of the labelled tables."""

DATASET: Final = Artefact("dataset.json", DatasetManifest)
MODEL: Final = Artefact("model.txt", bytes)
TRAINED: Final = Artefact("trained.json", Trained)
EVIDENCE: Final = Artefact("evidence.json", Evidence)

WEIGHTS: Final = Artefact(DOCUMENT, bytes)
"""The document that may be published, frozen by the gate."""

DECISION: Final = Artefact(DECISION_FILE, Decision)
OUTCOME: Final = Artefact("outcome.json", Outcome)
REPORT: Final = Artefact("report.html", bytes)
