"""Questions to brokers about a topic: its id, its partitions, where they begin and end. Always by kafka-python."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ltr_pipeline.errors import LtrError, SourceError, SourceUnavailableError
from ltr_pipeline.kafka.connection import KafkaConnection
from ltr_pipeline.kafka.diagnosis import diagnosed, forbidden, refused

__all__ = ["INSTALL", "Brokers", "TimedClient", "connected", "translated"]

INSTALL: Final = "pip install kafka-python crc32c lz4 python-snappy zstandard"
RETENTION: Final = "retention.ms"
RETRY_SECONDS: Final = 0.2
DIAGNOSIS_SHARE: Final = 0.25  # of the time that brokers may stay silent


class TimedClient:
    """Makes a client of kafka-python and ends each call that takes too long, as a TLS handshake would wait for ever.

    Parameters
    ----------
    make
        ``KafkaAdminClient`` or ``KafkaConsumer``.
    seconds
        Longest time that a call, or making the client, may take.
    """

    def __init__(self, make: Callable[..., Any], seconds: float, **settings: Any) -> None:  # noqa: ANN401
        self._seconds = seconds
        self._net: Any = None
        library = logging.getLogger("kafka")
        library.setLevel(max(logging.INFO, library.level))  # its debug lines show what it sends, passwords included
        self._make_net = make.DEFAULT_CONFIG["kafka_client"]  # type: ignore[attr-defined]
        self.made = self.call(make, **settings, client_id="ltr-pipeline", kafka_client=self._connect)

    def _connect(self, **settings: Any) -> Any:  # noqa: ANN401
        self._net = self._make_net(**settings)
        return self._net

    def call(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:  # noqa: ANN401
        """Call a function of the client; all its connections are closed when it takes too long."""
        limit = threading.Timer(self._seconds, lambda: self._net.close())  # noqa: PLW0108 - not made yet
        limit.daemon = True
        limit.start()
        try:
            return function(*arguments, **settings)
        finally:
            limit.cancel()


class Brokers:
    """Asks the brokers about one topic; `connected` makes it.

    Parameters
    ----------
    client
        Client with a ``KafkaAdminClient``.
    connection
        Connection that the client was made from.
    """

    def __init__(self, client: TimedClient, connection: KafkaConnection) -> None:
        self._call = client.call
        self._admin = client.made
        self._connection = connection

    def topic(self) -> tuple[str, list[int]]:
        """Return the topic's id, which changes when it is deleted and made again, and its partitions, ascending."""
        from kafka.errors import for_code

        (about,) = self._call(self._admin.describe_topics, [self._connection.topic])
        if about["error_code"]:
            raise for_code(about["error_code"])
        return str(about["topic_id"]), sorted(partition["partition_index"] for partition in about["partitions"])

    def begins(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the first offset that each partition still has."""
        from kafka import OffsetSpec

        return self._offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the last stable offset of each partition: no transaction is open before it."""
        from kafka import OffsetSpec

        return self._offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))

    def at(self, time: dt.datetime, partitions: Iterable[int]) -> dict[int, int]:
        """Return each partition's first offset with a message of that time or later; -1 where there is none."""
        return self._offsets(dict.fromkeys(partitions, max(0, int(time.timestamp() * 1000))))

    def retention(self) -> dt.timedelta | None:
        """Return how long the topic keeps messages; None for ever, or until a size is reached.

        Raises
        ------
        SourceError
            The user lacks the right to see it, which is needed for nothing else.
        """
        from kafka.admin import ConfigResource, ConfigResourceType

        topic = self._connection.topic
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={RETENTION: None})
        found = self._call(self._admin.describe_configs, [resource], config_filter="all")
        if RETENTION not in found["topic"][topic]:
            raise forbidden(self._connection, "DescribeConfigs", "topic")
        milliseconds = int(found["topic"][topic][RETENTION]["value"])
        return None if milliseconds < 0 else dt.timedelta(milliseconds=milliseconds)

    def _offsets(self, wanted: Mapping[int, Any]) -> dict[int, int]:
        from kafka import TopicPartition

        specs = {TopicPartition(self._connection.topic, partition): spec for partition, spec in wanted.items()}
        found = self._call(self._admin.list_partition_offsets, specs, isolation_level="read_committed")
        return {part.partition: about.offset for part, about in found.items()}

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Store the group's offsets, for tools that show its lag."""
        from kafka import TopicPartition
        from kafka.errors import NoError
        from kafka.structs import OffsetAndMetadata

        topic, group = self._connection.topic, self._connection.group_id
        given = {TopicPartition(topic, part): OffsetAndMetadata(offset, "", -1) for part, offset in offsets.items()}
        for part, outcome in self._once_coordinated(self._admin.alter_group_offsets, group, given).items():
            if outcome is not NoError:
                raise SourceError(f"the offset of {topic}/{part.partition} was not committed: {outcome.__name__}")

    def _once_coordinated(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        """Call a function of groups, and again while the cluster is still making the groups' coordinator."""
        from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError

        deadline = time.monotonic() + self._connection.timeout_seconds
        while True:
            try:
                return self._call(function, *arguments)
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_SECONDS)


@contextmanager
def connected(connection: KafkaConnection) -> Iterator[Brokers]:
    """Connect to the brokers.

    Raises
    ------
    SourceUnavailableError
        The brokers cannot be reached within the timeout, or kafka-python is not installed.
    SourceError, SettingsError
        A setting is wrong.
    """
    try:
        from kafka import KafkaAdminClient
    except ImportError as error:
        raise SourceUnavailableError(f"kafka-python is not installed: {INSTALL}") from error
    with translated(connection):
        timeout_ms = round(connection.timeout_seconds * 1000)
        client = TimedClient(
            KafkaAdminClient,
            connection.timeout_seconds * (1 - DIAGNOSIS_SHARE),
            **connection.for_kafka_python(),
            bootstrap_timeout_ms=timeout_ms,
            request_timeout_ms=timeout_ms,
            connections_max_idle_ms=max(540_000, 2 * timeout_ms),
        )
        try:
            yield Brokers(client, connection)
        finally:
            client.made.close()


@contextmanager
def translated(connection: KafkaConnection) -> Iterator[None]:
    """Turn errors of kafka-python into errors of this library."""
    from kafka import errors

    topic = connection.topic
    try:
        yield
    except LtrError:
        raise
    except (errors.SaslAuthenticationFailedError, errors.IllegalSaslStateError):
        raise refused(connection) from None
    except errors.TopicAuthorizationFailedError:
        raise forbidden(connection, "Read", "topic") from None
    except errors.GroupAuthorizationFailedError:
        raise forbidden(connection, "Read", "group") from None
    except (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError):
        raise SourceError(f"KAFKA_TOPIC: the brokers have no topic {topic}; make it, or correct the name") from None
    except errors.UnsupportedCodecError as error:
        raise SourceUnavailableError(f"{topic}: {error}; {INSTALL} brings every codec") from None
    except (errors.RetriableError, errors.UnknownBrokerIdError, OSError) as error:
        said = str(error) or type(error).__name__
        raise diagnosed(connection, said, connection.timeout_seconds * DIAGNOSIS_SHARE) from None
    except errors.KafkaError as error:
        raise SourceError(f"{topic} cannot be read: {type(error).__name__}: {error}") from error
