"""Names of the XComs that the note on a run is made of."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILURE_KEY", "OUTCOME_KEY"]

OUTCOME_KEY: Final = "outcome"
"""Of the task that published or kept: its outcome and the address of the report."""

FAILURE_KEY: Final = "failure"
"""Of a task that failed for good: why."""
