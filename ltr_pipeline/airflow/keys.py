"""Names that the DAGs and our part of Airflow's UI share: of DAGs, of XComs, and the beginning of a note."""

from __future__ import annotations

from typing import Final

__all__ = ["AT_HAND", "FAILURE_KEY", "JUDGED", "NIGHTLY_DAG", "OUTCOME_KEY"]

NIGHTLY_DAG: Final = "train_ltr_daily"

JUDGED: Final = (NIGHTLY_DAG, "train_ltr_hourly")
"""DAGs whose runs are judged, so that they have a note and a report."""

OUTCOME_KEY: Final = "outcome"
"""Of the task that published or kept: its outcome and the address of the report."""

FAILURE_KEY: Final = "failure"
"""Of a task that failed for good: why."""

AT_HAND: Final = "Run at hand"
"""Beginning of the note on a run at hand, until it has ended."""
