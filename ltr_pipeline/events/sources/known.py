"""The files that a cursor knows, found again by what they are and what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ltr_pipeline.events.source import Segment
from ltr_pipeline.events.sources.logfile import SEAL_BYTES, STAT, Log, digest

__all__ = ["Known"]


class Known:
    """The segments of a cursor, by what their files are recognised by."""

    def __init__(self, cursor: Sequence[Segment]) -> None:
        self.sources = {known.source for known in cursor}
        self._by_stat = {tuple(known.identity.get(name) for name in STAT): known for known in reversed(cursor)}
        self._by_head: defaultdict[int, defaultdict[str, list[Segment]]] = defaultdict(lambda: defaultdict(list))
        for known in cursor:
            if not known.end:  # nothing could be read of it: any file begins like that
                continue
            self._by_head[min(SEAL_BYTES, known.end)][str(known.identity.get("head"))].append(known)

    def find(self, file: Log) -> Segment | None:
        """Find the segment that a file goes on from; the furthest of several."""
        if unchanged := self._by_stat.get(file.stat()):
            return unchanged
        begin = file.beginning()
        lengths = [length for length in self._by_head if length <= len(begin)]
        alike = [known for length in lengths for known in self._by_head[length].get(digest(begin[:length]), ())]
        return max(filter(file.has, alike), key=lambda known: known.end, default=None)
