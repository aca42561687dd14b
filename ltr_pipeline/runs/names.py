"""Names of runs: a run is named after its moment, as the version that it may publish."""

from __future__ import annotations

import datetime as dt
from typing import Final

from ltr_pipeline.errors import UnknownVersionError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version

__all__ = [
    "DATASET_FILE",
    "DECISION_FILE",
    "EVIDENCE_FILE",
    "EXAMPLES_FILE",
    "INPUTS_FILE",
    "NIGHTS",
    "OUTCOME_FILE",
    "REFRESHES",
    "REPORT_FILE",
    "SEGMENTS_FILE",
    "TRAINED_FILE",
    "moment_of",
    "newest_judged",
    "run_name",
]

NIGHTS: Final = "runs"
"""Folder of the nightly runs in the data storage."""

REFRESHES: Final = "refreshes"
"""Folder of the hourly refreshes."""

INPUTS_FILE: Final = "inputs.json"
DATASET_FILE: Final = "dataset.json"
TRAINED_FILE: Final = "trained.json"
SEGMENTS_FILE: Final = "user_segments.json"
EXAMPLES_FILE: Final = "examples.json"
EVIDENCE_FILE: Final = "evidence.json"
DECISION_FILE: Final = "decision.json"
OUTCOME_FILE: Final = "outcome.json"
REPORT_FILE: Final = "report.html"


def newest_judged(data: Storage) -> str | None:
    """Return the name of the newest nightly run that has a verdict; None without one.

    It is the newest by the run's own moment, not by that of its verdict: an old day that is run again is not tonight's.
    """
    judged = [key.split("/")[1] for key in data.keys(NIGHTS) if key.endswith(f"/{DECISION_FILE}")]
    known = [(moment, run) for run in judged if (moment := moment_of(run)) is not None]
    return max(known)[1] if known else None


def moment_of(run: str) -> float | None:
    """Return the moment that a run is named after, in seconds since 1970; None where its name is none."""
    try:
        return Version.parse(run).time.timestamp()
    except UnknownVersionError:
        return None


def run_name(moment: dt.datetime) -> str:
    """Return the name of the run at `moment`.

    >>> run_name(dt.datetime(2025, 7, 14, 2, 15, tzinfo=dt.UTC))
    '20250714_0215'
    """
    return str(Version.of(moment))
