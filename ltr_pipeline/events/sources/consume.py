"""Messages of a stretch of a partition, by either client: kafka-python's ``poll``, or confluent-kafka's ``consume``.

Both give the same messages in the same order; what is aborted and what is no message is left out. How many come at once
is up to chance. One partition is read at a time, so that the order of a whole range is never up to it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple

from ltr_pipeline.errors import SourceError, SourceUnavailableError
from ltr_pipeline.kafka.brokers import TimedClient, translated
from ltr_pipeline.kafka.connection import KafkaConnection
from ltr_pipeline.kafka.diagnosis import forbidden

__all__ = ["Batch", "GoneError", "Read", "reader"]

POLLED: Final = 1_000
CONSUMED: Final = 5_000
SLICE_SECONDS: Final = 0.1
"""How long one call waits: what follows the last message of a range may be no message."""

WAIT_MS: Final = 20
"""How long a broker may wait for news when there is none; the next partition waits for it, too."""

FETCH_BYTES: Final = 4 << 20
QUEUED_KIB: Final = 32 << 10
RETRY_MS: Final = 10


class Batch(NamedTuple):
    """Some messages in a row: their offsets and values."""

    offsets: list[int]
    values: list[bytes | None]


class GoneError(Exception):
    """The broker no longer has such an offset."""


Read = Callable[[int, int, int], Iterator[Batch]]
"""Partition, start, end -> messages. Raises GoneError where the log begins later by now."""


def reader(connection: KafkaConnection) -> AbstractContextManager[Read]:
    """Return the function that reads messages, by the client that the connection names.

    Raises
    ------
    SourceUnavailableError
        It is not installed; and, while messages are read, the brokers fall silent.
    SourceError
        While messages are read: they cannot be.
    """
    return _confluent(connection) if connection.reads_with == "confluent-kafka" else _kafka_python(connection)


class _Patience:
    """Where a partition is read; gives up when that has not moved for as long as brokers may stay silent."""

    def __init__(self, connection: KafkaConnection, start: int) -> None:
        self._connection = connection
        self._moved = time.monotonic()
        self.position = start

    def move(self, position: int) -> None:
        seconds = self._connection.timeout_seconds
        if position > self.position:
            self.position, self._moved = position, time.monotonic()
        elif time.monotonic() - self._moved > seconds:
            raise SourceUnavailableError(
                f"{self._connection.topic}: the brokers gave nothing for {seconds:g} s (LTR_KAFKA_TIMEOUT_SECONDS); a "
                "retry reads the same range again"
            )


@contextmanager
def _kafka_python(connection: KafkaConnection) -> Iterator[Read]:
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import OffsetOutOfRangeError

    def read(partition: int, start: int, end: int) -> Iterator[Batch]:
        part, patience = TopicPartition(connection.topic, partition), _Patience(connection, start)
        consumer.assign([part])
        consumer.seek(part, start)
        while patience.position < end:
            try:
                records = consumer.poll(SLICE_SECONDS * 1000).get(part, [])
            except OffsetOutOfRangeError:
                raise GoneError from None
            if records and records[-1].offset >= end:
                records = [record for record in records if record.offset < end]
            if records:
                yield Batch([record.offset for record in records], [record.value for record in records])
            patience.move(consumer.position(part, timeout_ms=0))

    timeout_ms = max(round(connection.timeout_seconds * 1000), 2 * WAIT_MS)
    with translated(connection):
        client = TimedClient(
            KafkaConsumer,
            connection.timeout_seconds,
            **connection.for_kafka_python(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=timeout_ms,
            request_timeout_ms=timeout_ms,
            connections_max_idle_ms=max(540_000, 2 * timeout_ms),
            reconnect_backoff_max_ms=1000,
            fetch_max_wait_ms=WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            max_poll_records=POLLED,
        )
        consumer = client.made
        try:
            yield read
        finally:
            consumer.close(autocommit=False, timeout_ms=1000)


@contextmanager
def _confluent(connection: KafkaConnection) -> Iterator[Read]:
    try:
        from confluent_kafka import Consumer, KafkaException, TopicPartition
    except ImportError as error:
        raise SourceUnavailableError(
            "LTR_KAFKA_CLIENT is confluent-kafka, which is not installed: pip install 'ltr-pipeline[kafka-fast]'"
        ) from error

    def read(partition: int, start: int, end: int) -> Iterator[Batch]:
        patience = _Patience(connection, start)
        consumer.assign([TopicPartition(connection.topic, partition, start)])
        while patience.position < end:
            found = consumer.consume(min(CONSUMED, end - patience.position), SLICE_SECONDS)
            messages, after = _sorted_out(connection, found)
            if after > end:
                messages = [message for message in messages if message.offset() < end]
            if messages:
                yield Batch([message.offset() for message in messages], [message.value() for message in messages])
            patience.move(after)

    try:
        consumer = Consumer(
            {
                **connection.for_confluent(),
                "client.id": "ltr-pipeline",
                "group.id": connection.group_id,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "allow.auto.create.topics": False,
                "enable.partition.eof": True,  # the only word of what is no message at the end
                "fetch.wait.max.ms": WAIT_MS,
                "fetch.queue.backoff.ms": RETRY_MS,
                "max.partition.fetch.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": QUEUED_KIB,
                "reconnect.backoff.max.ms": 1000,
            },
            logger=logging.getLogger("confluent_kafka"),
        )
        try:
            yield read
        finally:
            consumer.close()
    except KafkaException as error:
        raise SourceError(f"{connection.topic} cannot be read: {error.args[0].str()}") from None


def _sorted_out(connection: KafkaConnection, found: list[Any]) -> tuple[list[Any], int]:
    """Pick the messages from the records consumed; return them and the offset behind all records, 0 for none."""
    notes = [message for message in found if message.error() is not None]
    after = max([0, *(_reached(connection, note) for note in notes)])
    messages = [message for message in found if message.error() is None] if notes else found
    return messages, max(after, messages[-1].offset() + 1) if messages else after


def _reached(connection: KafkaConnection, note: Any) -> int:  # noqa: ANN401 - a message that holds an error
    """Return the offset that a note tells of; 0 for none, while the client goes on trying."""
    from confluent_kafka import KafkaError

    error = note.error()
    code = error.code()
    if code == KafkaError._PARTITION_EOF:
        return int(note.offset())
    if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise GoneError
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise forbidden(connection, "Read", "topic")
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return 0  # reading takes no group; whoever commits to it is told
    if error.fatal() or not (error.retriable() or code < 0):
        raise SourceError(f"{connection.topic} cannot be read: {error.str()}")
    return 0
