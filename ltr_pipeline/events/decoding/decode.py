"""A block of messages, decoded: the fast reader where it is sure, the strict one for the rest."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ltr_pipeline.events import reasons
from ltr_pipeline.events.decoding.arrow import Misfit, Parser
from ltr_pipeline.events.decoding.checks import check
from ltr_pipeline.events.decoding.fits import Fitting
from ltr_pipeline.events.decoding.lines import Lines, lines_in, suspicious
from ltr_pipeline.events.decoding.raw import Raw, Refusal, merged
from ltr_pipeline.events.decoding.shape import shape_of
from ltr_pipeline.events.decoding.strict import read_strict, unknown_features, unknown_kinds
from ltr_pipeline.events.decoding.vectorised import read_fast
from ltr_pipeline.events.source import Block, Quarantined, excerpt
from ltr_pipeline.mapping import Mapping

__all__ = ["Decoded", "Decoder"]

FEW: Final = 3  # tries, each of which singles out one line
SAMPLED: Final = 64  # lines of a block that are looked at for unknown features


@dataclass(frozen=True, slots=True)
class Decoded:
    """The records of a block. ``read = impressions + feedback + quarantined + ignored``.

    Attributes
    ----------
    impressions, feedback
        Landed tables, in order of line and place in the list.
    quarantined
        Refused records, in the same order.
    ignored
        Records that do not concern us, by reason.
    read
        Expanded records.
    unknown_features, unknown_kinds
        Features that are not on the allow-list and kinds of message that are ignored, seen in a sample of the lines.
    shadowed
        How many items have another value than their message in a column that a list shares, by column.
    """

    impressions: pa.Table
    feedback: pa.Table
    quarantined: list[Quarantined]
    ignored: Counter[str]
    read: int
    unknown_features: frozenset[str]
    unknown_kinds: frozenset[str]
    shadowed: Counter[str]


class Decoder:
    """Decodes blocks by a mapping.

    Parameters
    ----------
    mapping
        What a message means.
    since
        Records before are ignored as older than the window; None keeps all.
    strict
        Read every line with the strict reader; for tests.
    """

    def __init__(self, mapping: Mapping, since: dt.datetime | None = None, *, strict: bool = False) -> None:
        self.shape = shape_of(mapping)
        self.since = since
        self.strict = strict
        self._parser = Parser(self.shape.wire)
        self._fitting = Fitting(self.shape.wire)

    def decode(self, block: Block) -> Decoded:
        """Decode a block; the result is the same whichever reader its lines go through."""
        lines = lines_in(block)
        sample = _sample(lines)
        raw = merged([*self._parts(lines)], self.shape.raw)
        checked = check(raw, self.shape, block, self.since)
        ignored = raw.ignored + Counter({reasons.TOO_OLD: checked.old}) + Counter(block.ignored)
        refused = sorted([*raw.refused, *checked.refused])
        return Decoded(
            impressions=checked.impressions,
            feedback=checked.feedback,
            quarantined=[*block.rejected, *_quarantined(refused, block)],
            ignored=ignored,
            read=raw.read + len(block.rejected) + sum(block.ignored.values()),
            unknown_features=unknown_features(sample, self.shape),
            unknown_kinds=unknown_kinds(sample, self.shape),
            shadowed=raw.shadowed,
        )

    def _parts(self, lines: Lines) -> Iterator[Raw]:
        if self.strict:
            yield read_strict(lines, self.shape)
            return
        odd = suspicious(lines)
        if odd.any():
            yield read_strict(lines.take(odd), self.shape)
            lines = lines.take(~odd)
        if len(lines):
            yield from self._clean_parts(lines)

    def _clean_parts(self, lines: Lines) -> Iterator[Raw]:
        """Read lines fast, but for those that do not fit; when these are many, find all of them first."""
        for _ in range(FEW):
            if not len(lines):
                return
            try:
                raw = read_fast(lines, self.shape, self._parser.parse)
            except Misfit as misfit:
                odd = np.arange(len(lines)) == misfit.row
                if not odd.any():
                    break
                yield read_strict(lines.take(odd), self.shape)
                lines = lines.take(~odd)
            else:
                yield raw
                return
        fits = self._fitting(lines)
        yield read_strict(lines.take(~fits), self.shape)
        if fits.any():
            yield self._fitting_part(lines.take(fits))

    def _fitting_part(self, lines: Lines) -> Raw:
        """Read lines that fit as far as concerns us: fast, if Arrow agrees."""
        with suppress(Misfit):
            return read_fast(lines, self.shape, self._parser.parse)
        with suppress(Misfit):
            raw = read_fast(lines, self.shape, self._parser.parse_all)
            self._parser.note_conflict()
            return raw
        return read_strict(lines, self.shape)


def _sample(lines: Lines) -> Lines:
    return lines.take(slice(None, None, 1 + len(lines) // SAMPLED))


def _quarantined(refused: list[Refusal], block: Block) -> Iterator[Quarantined]:
    ends = [*block.starts[1:].tolist(), len(block.data)] if refused else []
    for line, item_index, reason, detail in refused:
        yield Quarantined(
            source=block.source,
            partition=block.partition,
            offset=int(block.offsets[line]),
            item_index=item_index,
            reason=reason,
            detail=detail,
            excerpt=excerpt(block.data[block.starts[line] : ends[line] - 1]),
        )
