"""Messages of a log, from all over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ltr_pipeline.events.decoding.message import Fields, Ignored, Refused, message_of
from ltr_pipeline.events.source import BYTE_ORDER_MARK, Block, Source

__all__ = ["Sample", "sampled"]

BYTES: Final = 8 << 20  # of a sample: some ten thousand messages, a second or two to look at
STRETCHES: Final = 2
"""A file longer than its share is read in so many places, each of one piece, so that feedback is near what was shown.

The same share of each file is taken: files that cover the same days are then read of the same hours.
"""


@dataclass(slots=True)
class Sample:
    """Messages, and what the other lines were.

    Attributes
    ----------
    messages
        Those that are one JSON object; of what Docker has wrapped, the message inside.
    lines
        How many lines were looked at.
    whole
        Whether these are all lines of the log.
    refused
        Lines that are no message, by what is wrong with them.
    unrelated
        Lines of other output in Docker's log.
    """

    messages: list[Fields] = field(default_factory=list)
    lines: int = 0
    whole: bool = True
    refused: Counter[str] = field(default_factory=Counter)
    unrelated: int = 0


def sampled(source: Source, size: int = BYTES) -> Sample:
    """Read about `size` bytes of messages.

    Raises
    ------
    SourceError
        The log is not there or cannot be read.
    """
    span = source.stable_end(())
    length = {segment.source: segment.end - segment.start for segment in span.segments}
    share = size / max(sum(length.values()), 1)
    sample = Sample(whole=share >= 1)
    for block in source.read(span):
        for refused in block.rejected:
            sample.refused[refused.detail] += 1
        for line in _chosen(block, length[block.source], share):
            _add(line, sample)
    return sample


def _chosen(block: Block, length: int, share: float) -> Iterator[bytes]:
    """Yield the lines of a block that begin in one of the stretches."""
    period = max(length / STRETCHES, 1)
    chosen = (block.offsets % period) < share * period
    ends = [*block.starts[1:].tolist(), len(block.data)]
    for index in np.flatnonzero(chosen).tolist():
        yield block.data[block.starts[index] : ends[index]]


def _add(line: bytes, sample: Sample) -> None:
    line = line.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")
    if not line or line.isspace():
        return
    sample.lines += 1
    try:
        sample.messages.append(message_of(line))
    except Refused as error:
        sample.refused[error.detail] += 1
    except Ignored:
        sample.unrelated += 1
