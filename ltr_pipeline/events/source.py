"""A source as landing needs it: where it ends now, and the bytes of a range.

A source is read in *ranges*. `Source.stable_end` looks once at how far each of its parts reaches; the range from the
cursor to there is stored before the first byte is read, and `Source.read` gives the same blocks for it however often
it is asked. The end of one range is the cursor of the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_LINE_BYTES", "Block", "Place", "Quarantined", "Range", "Segment", "Source", "excerpt", "lines_of"]

MAX_LINE_BYTES: Final = 1 << 20
"""Longest message that is read; a longer one is quarantined without being held."""

EXCERPT_BYTES: Final = 200
NEWLINE: Final = 10
OPENING: Final = ord("{")  # of a message
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of one part of a source, ``[start, end)``; as a cursor, only its end matters.

    Attributes
    ----------
    source, partition
        The part: a file (its partition is 0), or a topic's partition.
    start, end
        Byte offsets (files), or message offsets.
    identity
        How the source recognises the part again; its own business.
    records
        How many records a lost stretch held, by an estimate; None where each offset is one.
    """

    source: str
    partition: int = 0
    start: int
    end: int
    identity: dict[str, str | int] = {}
    records: int | None = None


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The segments that one landing reads, in order. It is also the next cursor, so parts without news are in it, too.

    Attributes
    ----------
    source
        Name of the kind of source, ``"files"`` or ``"kafka"``.
    segments
        One for each part of it.
    lost
        Stretches that were gone when the range was looked for.
    """

    source: str
    segments: tuple[Segment, ...]
    lost: tuple[Segment, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a record stands."""

    source: str
    partition: int
    offset: int
    item_index: int = 0


class Quarantined(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record that was refused: its place, why, and how it began.

    Attributes
    ----------
    reason
        One of the reasons in docs/events.md, for counting.
    detail
        What exactly was wrong.
    excerpt
        The first bytes of its message, undecodable ones replaced.
    """

    reason: str
    detail: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Block:
    r"""Complete messages of one part, one a line.

    Attributes
    ----------
    source, partition
        The part they come from.
    data
        The messages, each ended by ``\n`` (or ``\r\n``).
    starts
        int64, shape (lines,): where each line begins in `data`.
    offsets
        int64, shape (lines,): each line's offset in its part.
    rejected
        What the source itself had to refuse, such as a line too long to be held.
    ignored
        Messages without content, by reason; they are not among the lines.
    lost
        What was gone before it could be read.
    """

    source: str
    partition: int
    data: bytes
    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rejected: tuple[Quarantined, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    lost: tuple[Segment, ...] = ()


class Source(Protocol):
    """Where events come from."""

    name: str

    def stable_end(self, cursor: Sequence[Segment]) -> Range:
        """Return the range from the cursor to where each part ends now; an empty cursor means everything there is.

        Raises
        ------
        SourceError
            The source cannot be reached.
        """

    def read(self, span: Range) -> Iterator[Block]:
        """Yield the blocks of the range, in order, the same ones each time.

        Raises
        ------
        SourceError
            The source cannot be read, or no longer has the range.
        """

    def commit(self, span: Range) -> None:
        """Take note that the range has landed; nothing depends on it.

        Raises
        ------
        SourceError
            The source cannot take note of it.
        """


def excerpt(message: bytes | memoryview) -> str:
    r"""Return the beginning of a message, for people.

    >>> excerpt(b'{"case_id": "\xff')
    '{"case_id": "\ufffd'
    """
    return bytes(message[:EXCERPT_BYTES]).decode("utf-8", "replace")


def lines_of(data: bytes) -> NDArray[np.int64]:
    r"""Find where each line of `data`, which ends with a line feed, begins: int64, shape (lines,).

    >>> lines_of(b"a\n\nbc\n").tolist()
    [0, 2, 3]
    """
    feeds = np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE)
    return np.concatenate(([0], feeds[:-1] + 1)).astype(np.int64) if len(feeds) else np.empty(0, np.int64)
