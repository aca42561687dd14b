"""Two brokers, a partition on each: while one is away, so is its partition, and that is an outage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.native.kafka import KafkaServer, lacking
from ltr_pipeline.errors import SourceUnavailableError
from support import servers
from support.topics import Topic, lines_of


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaServer, KafkaServer]]:
    """Two brokers of one cluster; the first is also its controller."""
    if programs := lacking():
        servers.missing("Apache Kafka", f"install {', '.join(programs)}")
    first = KafkaServer(tmp_path_factory.mktemp("first"))
    second = KafkaServer(tmp_path_factory.mktemp("second"), joins=first)
    with contextlib.ExitStack() as stack:
        for server in (first, second):
            stack.callback(server.stop)
            server.start()
        yield first, second


class Spread(Topic):
    """A topic with its first partition on the first broker, and its second on the second."""

    def __init__(self, server: KafkaServer, name: str) -> None:
        self.server, self.name = server, name
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        wanted = NewTopic(name, 2, replica_assignment=[[1], [2]])
        admin.create_topics([wanted])[name].result(30)


@pytest.mark.parametrize("client", ["confluent-kafka", pytest.param("kafka-python", marks=pytest.mark.long)])
def test_a_partition_whose_broker_is_away_is_an_outage(pair: tuple[KafkaServer, KafkaServer], client: str) -> None:
    first, second = pair
    topic = Spread(first, f"spread-{client}")
    for partition in (0, 1):
        topic.send(b"%d" % partition, partition=partition)
    source = topic.source(client, timeout_seconds=3)
    span = source.stable_end(())
    second.kill()
    try:
        with pytest.raises(SourceUnavailableError):
            source.stable_end(())
        with pytest.raises(SourceUnavailableError):
            list(source.read(span))
    finally:
        second.start()
    patient = topic.source(client, timeout_seconds=30)
    assert lines_of(patient.read(span)) == [(0, 0, b"0"), (1, 0, b"1")]
