"""All that one run has to tell."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.evidence import Evidence, Refreshed
from ltr_pipeline.gate.examples import Examples
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.report.diagnosis import Finding
from ltr_pipeline.versions.weights import Weights

__all__ = ["Night"]


@dataclass(frozen=True, kw_only=True)
class Night:
    """All that one run has to tell; None where it did not get that far.

    Attributes
    ----------
    run, date
        The run's id and the UTC day it stands for.
    simulated
        Whether its events were simulated.
    because
        Why a model was trained, or why not.
    landing, dataset, trained, evidence, decision
        What each step left behind; the dataset of an hourly refresh is that of the night by whose test days it was
        judged.
    version
        The version that was published; None when none was.
    promoted
        Whether ``latest`` moved to it.
    latest
        The version in use after the run.
    examples
        Rankings of the test days to look at; None in runs of releases before 0.2.
    findings
        What stands out in the events, the largest first.
    answer
        What a person who was asked answered, in a sentence, or why nobody did.
    waits
        Whether the run waits for that answer.
    note
        One sentence for the reader, such as why `latest` did not move or why nothing could be judged.
    former
        Document of the version in use before the run.
    yesterday, yesterday_dataset
        Evidence and manifest of the run before.
    hashes, lineage, libraries
        Small print: SHA-256 by artefact, parent and mode of training, versions of libraries.
    """

    run: str
    date: dt.date
    simulated: bool = False
    because: str = ""
    landing: Manifest | None = None
    dataset: DatasetManifest | None = None
    trained: Trained | None = None
    evidence: Evidence | None = None
    decision: Decision | None = None
    version: str | None = None
    promoted: bool = False
    latest: str | None = None
    examples: Examples | None = None
    findings: Sequence[Finding] = ()
    answer: str = ""
    waits: bool = False
    note: str = ""
    former: Weights | None = None
    yesterday: Evidence | None = None
    yesterday_dataset: DatasetManifest | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def refreshed(self) -> Refreshed | None:
        """Return what is told of an hourly refresh alone; None of a night."""
        return self.evidence.refreshed if self.evidence else None
