"""Lines of a block, and what can be said about them before they are parsed.

Arrow's JSON reader is strict about types but not about text: it takes ``NaN``, several objects in one line, an object
across lines, any nesting, and bytes that are not UTF-8. Whatever could be such a line is found here, cheaply and all
lines at once, and left to the strict reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.events.forms import ENVELOPE
from ltr_pipeline.events.source import BYTE_ORDER_MARK, MAX_LINE_BYTES, OPENING, Block

__all__ = ["MAX_DEPTH", "Lines", "is_deep", "is_utf8", "lines_in", "suspicious"]

MAX_DEPTH: Final = 256
"""Objects and arrays within each other; a deeper message is quarantined."""

NOT_NUMBERS: Final = re.compile(rb"NaN|Inf")
STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
CASE: Final = 0x20  # makes a brace of a bracket
CLOSING: Final = ord("}")


@dataclass(frozen=True, slots=True)
class Lines:
    """Some non-empty lines of a block.

    Attributes
    ----------
    data
        The block's bytes.
    number
        int64, shape (lines,): which line of the block each is, ascending.
    start, end
        int64, shape (lines,): where it begins and ends in `data`, line ending and byte order mark left out.
    """

    data: bytes
    number: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.number)

    def __iter__(self) -> Iterator[bytes]:
        return (self.data[start:end] for start, end in zip(self.start.tolist(), self.end.tolist(), strict=True))

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Lines:
        """Return those of the lines."""
        return Lines(self.data, self.number[which], self.start[which], self.end[which])

    def joined(self) -> bytes | memoryview:
        """Join the lines; without a copy where they stand side by side."""
        if len(self) == self.number[-1] - self.number[0] + 1:
            return memoryview(self.data)[self.start[0] : self.end[-1]]
        return b"\n".join(self)


def lines_in(block: Block) -> Lines:
    """Return all lines of a block but the empty ones."""
    raw = np.frombuffer(block.data, np.uint8)
    start = block.starts
    end = np.append(start, len(raw))[1:] - 1
    end = end - ((end > start) & (raw[end - 1] == ord("\r")))
    if not block.data.isascii() and BYTE_ORDER_MARK in block.data:
        marks = [len(BYTE_ORDER_MARK) * block.data.startswith(BYTE_ORDER_MARK, at) for at in start.tolist()]
        start = start + np.array(marks, np.int64)
    filled = end > start
    return Lines(block.data, np.flatnonzero(filled), start[filled], end[filled])


def suspicious(lines: Lines) -> NDArray[np.bool_]:
    """Find lines that the vectorised reader might take for something else than they are; bool, shape (lines,).

    What is left is sure to be UTF-8, to begin with ``{`` and end with ``}``, not to say ``NaN``, to be no envelope of
    another line, and to be neither longer nor deeper than allowed.
    """
    raw = np.frombuffer(lines.data, np.uint8)
    odd: NDArray[np.bool_] = (raw[lines.start] != OPENING) | (raw[lines.end - 1] != CLOSING)
    odd |= lines.end - lines.start > MAX_LINE_BYTES
    odd[_lines_with(lines, b"NaN")] = True
    odd[_lines_with(lines, b"Inf")] = True
    odd[_wrapped(lines, raw)] = True
    odd[_not_utf8(lines)] = True
    odd[_deep(lines, raw)] = True
    return odd


def _lines_with(lines: Lines, word: bytes) -> NDArray[np.int64]:
    if word[:1] not in lines.data:  # many times faster than looking for the word
        return np.empty(0, np.int64)
    places, at = [], lines.data.find(word)
    while at >= 0:
        places.append(at)
        at = lines.data.find(word, at + 1)
    found = np.searchsorted(lines.start, np.array(places, np.int64), side="right") - 1
    return found[found >= 0]


def _wrapped(lines: Lines, raw: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find lines that begin as an envelope; its last bytes first, which few other lines have."""
    found = np.flatnonzero(lines.end - lines.start >= len(ENVELOPE))
    for place in reversed(range(len(ENVELOPE))):
        found = found[raw[lines.start[found] + place] == ENVELOPE[place]]
    return found


def _not_utf8(lines: Lines) -> list[int]:
    if lines.data.isascii():
        return []
    try:
        lines.data.decode()
    except UnicodeDecodeError:
        return [index for index, line in enumerate(lines) if not is_utf8(line)]
    return []


def is_utf8(line: bytes) -> bool:
    """Tell whether the bytes are UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _deep(lines: Lines, raw: NDArray[np.uint8]) -> list[int]:
    """Find lines nested too deep. A line that deep has an opening and a closing bracket for every level."""
    long = np.flatnonzero(lines.end - lines.start >= 2 * MAX_DEPTH)
    if not len(long):
        return []
    opening = np.flatnonzero((raw | CASE) == OPENING)
    count = np.searchsorted(opening, lines.end[long]) - np.searchsorted(opening, lines.start[long])
    candidates = long[count > MAX_DEPTH]
    found = zip(candidates.tolist(), lines.take(candidates), strict=True)
    return [index for index, line in found if is_deep(line)]


def is_deep(line: bytes) -> bool:
    """Tell whether objects and arrays are nested deeper than allowed.

    Strings are skipped. In what is not JSON, brackets after the first mistake may count, too.

    >>> is_deep(b"[" * 300 + b"]" * 300), is_deep(b'"' + b"[" * 300 + b'"')
    (True, False)
    """
    if line.count(b"{") + line.count(b"[") <= MAX_DEPTH:
        return False
    brackets = np.frombuffer(STRINGS.sub(b"", line).translate(None, NOT_BRACKETS), np.uint8)
    steps = np.where((brackets | CASE) == OPENING, 1, -1)
    return bool(np.any(np.cumsum(steps) > MAX_DEPTH))
