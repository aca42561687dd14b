"""The page of predictions: the lists that were shown last, as they landed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board.asked import Asked, Page, paged
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.board.words import count, when

__all__ = ["Predictions", "of_version", "predictions"]

ROWS: Final = 25
UNKNOWN: Final = "unknown"
"""In place of a version that the events do not name."""

MOST_VERSIONS: Final = 30


@dataclass(frozen=True)
class Predictions:
    """All that the page of predictions shows; `versions` with how many of the lists each has shown."""

    lead: str
    rows: Page[ShownList]
    versions: Sequence[tuple[str, int]]
    version: str


def predictions(lists: Sequence[ShownList], asked: Asked) -> Predictions:
    """Tell of the lists, newest first, of all versions or of one."""
    versions = Counter(one.version or UNKNOWN for one in lists)
    rows = paged(of_version(lists, asked.version), asked.page, ROWS)
    return Predictions(_lead(lists), rows, versions.most_common(MOST_VERSIONS), asked.version)


def of_version(lists: Sequence[ShownList], version: str) -> Sequence[ShownList]:
    """Return the lists that a version ranked; all where none is named."""
    return [one for one in lists if (one.version or UNKNOWN) == version] if version else lists


def _lead(lists: Sequence[ShownList]) -> str:
    if not lists:
        return ""
    return f"The {count(len(lists), 'list')} that landed last, from {when(lists[-1].at)} to {when(lists[0].at)} UTC."
