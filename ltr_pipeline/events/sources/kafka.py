"""Events from a Kafka topic: one segment for each partition, in message offsets.

A topic is recognised by its id, which is new when it was deleted and made anew. A range ends where no transaction is
open. Offsets are kept by the manifests, not by the consumer group: the group is told afterwards, for tools that show
its lag. What retention took before it was read is counted as lost.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress
from typing import Final, cast

import msgspec
import numpy as np
import structlog

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events import reasons
from ltr_pipeline.events.source import BYTE_ORDER_MARK, MAX_LINE_BYTES, OPENING, Block, Range, Segment
from ltr_pipeline.events.sources.consume import Batch, GoneError, Read, reader
from ltr_pipeline.kafka.brokers import Brokers, connected
from ltr_pipeline.kafka.connection import KafkaConnection

__all__ = ["CLOCKS", "KafkaSource"]

log = structlog.get_logger(__name__)

BLOCK_BYTES: Final = 2 << 20
PER_MESSAGE: Final = 16  # also counts: a block of tombstones must end, too

CLOCKS: Final = dt.timedelta(days=1)
"""By how much the clocks of producers may be slow: the first range begins so much earlier."""

NOTHING: Final = np.empty(0, np.int64)


class KafkaSource:
    """A topic.

    Parameters
    ----------
    connection
        How to reach it.
    since
        The first range begins with the messages stamped then, less `CLOCKS`; UTC.
    """

    name = "kafka"

    def __init__(self, connection: KafkaConnection, *, since: dt.datetime) -> None:
        self.connection = connection
        self.since = since

    def stable_end(self, cursor: Sequence[Segment]) -> Range:
        """Return the range from the cursor to the last stable offset of each partition, in order of partition.

        Partitions that are new, and all of a topic that was recreated, are read from their beginning.

        Raises
        ------
        SourceUnavailableError
            The brokers cannot be reached within the timeout, or a client library is missing.
        SourceError, SettingsError
            There is no such topic, or a setting is wrong.
        """
        topic = self.connection.topic
        with connected(self.connection) as brokers:
            identity: dict[str, str | int] = {}
            identity["topic_id"], partitions = brokers.topic()
            ends = brokers.ends(partitions)
            starts = self._starts(cursor, identity, brokers, ends)
        segments = (
            Segment(source=topic, partition=part, start=starts[part], end=ends[part], identity=identity)
            for part in partitions
        )
        others = (msgspec.structs.replace(known, start=known.end) for known in cursor if known.source != topic)
        return Range(source=self.name, segments=(*others, *segments))

    def _starts(
        self, cursor: Sequence[Segment], identity: dict[str, str | int], brokers: Brokers, ends: dict[int, int]
    ) -> dict[int, int]:
        before = [known for known in cursor if known.source == self.connection.topic]
        if not before:
            first = brokers.at(self.since - CLOCKS, ends)
            return {part: min(first[part], end) if first[part] >= 0 else end for part, end in ends.items()}
        known = {segment.partition: segment.end for segment in before if segment.identity == identity}
        if not known:
            log.warning("the topic was recreated: it is read from its beginning", topic=self.connection.topic)
        for part, end in ends.items():
            if known.get(part, 0) > end:
                log.warning("the log is shorter than before", partition=part, was=known[part], now=end)
        return {part: min(known.get(part, 0), end) for part, end in ends.items()}

    def read(self, span: Range) -> Iterator[Block]:
        """Yield the blocks of the range, a partition after the other, the same ones each time.

        Raises
        ------
        SourceUnavailableError
            The brokers cannot be reached, or stay silent for longer than the timeout.
        SourceError, SettingsError
            The topic cannot be read, or a setting is wrong.
        """
        wanted = [segment for segment in span.segments if segment.start < segment.end]
        if not wanted:
            return
        with connected(self.connection) as brokers, reader(self.connection) as read:
            topic_id, _ = brokers.topic()
            for segment in wanted:
                if segment.identity["topic_id"] == topic_id:
                    yield from _blocks(segment, _batches(segment, read, brokers))
                else:
                    yield _lost(segment, segment.start, segment.end)

    def commit(self, span: Range) -> None:
        """Tell the consumer group how far the range goes.

        Raises
        ------
        SourceError
            The brokers cannot be reached, or refuse.
        """
        ours = (segment for segment in span.segments if segment.source == self.connection.topic)
        with connected(self.connection) as brokers:
            brokers.commit({segment.partition: segment.end for segment in ours})


def _batches(segment: Segment, read: Read, brokers: Brokers) -> Iterator[Batch | Block]:
    """Yield the messages of a segment, and a block where some are gone."""
    part, position = segment.partition, segment.start
    while position < segment.end:
        try:
            for batch in read(part, position, segment.end):
                position = batch.offsets[-1] + 1
                yield batch
        except GoneError:
            begin = min(brokers.begins([part])[part], segment.end)
            if begin <= position:
                raise SourceError(
                    f"{segment.source}: partition {part} ends before the offset {position} that this run set out to "
                    "read; delete range.json in the run's partition to read what there is now"
                ) from None
            yield _lost(segment, position, begin)
            position = begin
        else:
            return


def _lost(segment: Segment, start: int, end: int) -> Block:
    lost = msgspec.structs.replace(segment, start=start, end=end)
    log.warning(
        "messages were gone before they were read", part=f"{lost.source}/{lost.partition}", start=start, end=end
    )
    return Block(lost.source, lost.partition, b"", NOTHING, NOTHING, lost=(lost,))


def _blocks(segment: Segment, batches: Iterator[Batch | Block]) -> Iterator[Block]:
    """Cut messages into blocks: each ends with the message that makes it large enough, however they came."""
    offsets: list[int] = []
    values: list[bytes | None] = []
    size = 0
    for batch in batches:
        if isinstance(batch, Block):
            yield batch
            continue
        more = batch
        ends = list(accumulate(map(_size, more.values), initial=size))
        while ends[-1] >= BLOCK_BYTES:
            cut = bisect_left(ends, BLOCK_BYTES)
            yield _block(segment, offsets + more.offsets[:cut], values + more.values[:cut])
            offsets, values = [], []
            more = Batch(more.offsets[cut:], more.values[cut:])
            ends = [end - ends[cut] for end in ends[cut:]]
        offsets += more.offsets
        values += more.values
        size = ends[-1]
    if values:
        yield _block(segment, offsets, values)


def _size(value: bytes | None) -> int:
    return PER_MESSAGE + (len(value) if value else 0)


def _block(segment: Segment, offsets: list[int], values: list[bytes | None]) -> Block:
    ignored: Counter[str] = Counter()
    rejected = []
    keep = [True] * len(values)
    for place in [place for place, value in enumerate(values) if _is_odd(value)]:
        value = values[place]
        keep[place] = False
        if value is None:
            ignored[reasons.TOMBSTONE] += 1
        elif not value.removeprefix(BYTE_ORDER_MARK).strip():
            ignored[reasons.EMPTY] += 1
        elif len(value) > MAX_LINE_BYTES:
            rejected.append(reasons.long_line(segment, offsets[place], value))
        else:
            keep[place] = True
    lines = cast("list[bytes]", list(compress(values, keep)))
    data = b"\n".join([*lines, b""])
    if data.count(b"\n") > len(lines):  # in JSON the one is as good as the other, and as bad within a text
        data = b"\n".join([*(line.replace(b"\n", b"\r") for line in lines), b""])
    sizes = np.fromiter(map(len, lines), np.int64, len(lines)) + 1
    return Block(
        segment.source,
        segment.partition,
        data,
        np.cumsum(sizes) - sizes,
        np.array(list(compress(offsets, keep)), np.int64),
        rejected=tuple(rejected),
        ignored=ignored,
    )


def _is_odd(value: bytes | None) -> bool:
    return not value or value[0] != OPENING or len(value) > MAX_LINE_BYTES
