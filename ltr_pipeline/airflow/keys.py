"""Parts of the note on a run: names of XComs, and the beginning of a run at hand's."""

from __future__ import annotations

from typing import Final

__all__ = ["AT_HAND", "FAILURE_KEY", "OUTCOME_KEY"]

OUTCOME_KEY: Final = "outcome"
"""Of the task that published or kept: its outcome and the address of the report."""

FAILURE_KEY: Final = "failure"
"""Of a task that failed for good: why."""

AT_HAND: Final = "Run at hand"
"""Beginning of the note on a run at hand, until it has ended."""
