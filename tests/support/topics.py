"""Topics of a real broker, ordinary producers and consumers for them, and what a source reads from them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from deploy.native.kafka import KafkaServer, make_topic
from ltr_pipeline.events.source import Block, Range, Segment
from ltr_pipeline.events.sources.kafka import KafkaSource
from ltr_pipeline.kafka.connection import KafkaConnection
from support.messages import line

CLIENTS = ("kafka-python", "confluent-kafka")
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
EARLY = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
TIMEOUT = 10.0

Message = tuple[int, int, bytes]
"""Partition, offset, value."""

_names = itertools.count()


class Topic:
    """A topic of its own."""

    def __init__(self, server: KafkaServer, partitions: int = 1, **settings: str) -> None:
        self.server = server
        self.name = f"topic-{next(_names)}"
        make_topic(server, self.name, partitions, **settings)

    def connection(self, client: str = "auto", **settings: Any) -> KafkaConnection:
        known = {"bootstrap_servers": self.server.bootstrap, "topic": self.name, "timeout_seconds": TIMEOUT}
        return KafkaConnection(**(known | {"client": client, "group_id": f"group-of-{self.name}"} | settings))

    def source(self, client: str = "auto", since: dt.datetime = SINCE, **settings: Any) -> KafkaSource:
        return KafkaSource(self.connection(client, **settings), since=since)

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.server.bootstrap)

    def producer(self, **settings: Any) -> Producer:
        about = {"bootstrap.servers": self.server.bootstrap, "message.max.bytes": 8 << 20, "log_level": 0}
        return Producer(about | settings)

    def send(
        self,
        *values: bytes | dict[str, Any] | None,
        partition: int = 0,
        stamped: dt.datetime | None = None,
        key: bytes | None = None,
        codec: str = "none",
    ) -> None:
        producer = self.producer(**{"compression.type": codec})
        self.put(producer, values, partition, stamped, key)
        assert producer.flush(30) == 0

    def put(
        self,
        producer: Producer,
        values: Iterable[bytes | dict[str, Any] | None],
        partition: int = 0,
        stamped: dt.datetime | None = None,
        key: bytes | None = None,
    ) -> None:
        failed: list[Any] = []
        stamp = {"timestamp": int(stamped.timestamp() * 1000)} if stamped else {}
        for value in values:
            data = line(value) if isinstance(value, dict) else value
            report = {"on_delivery": lambda error, _: failed.append(error) if error else None}
            producer.produce(self.name, data, key, partition, **stamp, **report)
        producer.poll(0)
        assert not failed

    def grow(self, partitions: int) -> None:
        with self.admin() as admin:
            admin.create_partitions({self.name: partitions})
            admin.wait_for_topics([self.name])

    def make_anew(self, partitions: int = 1) -> None:
        with self.admin() as admin:
            admin.delete_topics([self.name])
            for _ in range(100):
                if self.name not in admin.list_topics():
                    break
        make_topic(self.server, self.name, partitions)

    def truncate(self, before: int, partition: int = 0) -> None:
        """Let retention take what is before an offset."""
        with self.admin() as admin:
            admin.delete_records({TopicPartition(self.name, partition): before})

    def consumed(self) -> list[Message]:
        """Everything, by the ordinary loop."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.server.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
        )
        parts = [TopicPartition(self.name, part) for part in sorted(consumer.partitions_for_topic(self.name))]
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        found = []
        for _ in range(1000):
            if all(consumer.position(part) >= ends[part] for part in parts):
                break
            for records in consumer.poll(100).values():
                found += [(record.partition, record.offset, record.value) for record in records]
        else:
            raise AssertionError(f"{self.name} has no end")
        consumer.close()
        return sorted(found)


def lines_of(blocks: Iterable[Block]) -> list[Message]:
    """Messages of blocks, in order."""
    found = []
    for block in blocks:
        ends = [*block.starts[1:].tolist(), len(block.data)]
        for start, end, offset in zip(block.starts.tolist(), ends, block.offsets.tolist(), strict=True):
            found.append((block.partition, offset, block.data[start : end - 1]))
    return found


def contents(blocks: Iterable[Block]) -> list[Any]:
    """All that is in blocks, to be compared."""
    return [(b.partition, b.data, b.starts.tolist(), b.offsets.tolist(), b.rejected, b.ignored, b.lost) for b in blocks]


def everything(source: KafkaSource) -> Range:
    """The range of all that a topic holds."""
    span = source.stable_end(())
    return Range(source=span.source, segments=tuple(stretch(segment, 0) for segment in span.segments))


def stretch(segment: Segment, start: int) -> Segment:
    return Segment(
        source=segment.source, partition=segment.partition, start=start, end=segment.end, identity=segment.identity
    )


def bounds(span: Range | Sequence[Segment]) -> list[tuple[int, int]]:
    """Start and end of each segment."""
    return [(segment.start, segment.end) for segment in (span.segments if isinstance(span, Range) else span)]
