"""Kafka as deploy/native starts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from deploy.native.kafka import KafkaServer, lacking, make_topic
from ltr_pipeline.local.ports import free_ports
from support import servers


@pytest.mark.long
def test_kept_data_of_kafka_is_served_on_another_port(tmp_path: Path) -> None:
    if programs := lacking():
        servers.missing("Apache Kafka", f"install {', '.join(programs)}")
    first, second = free_ports(2)
    for port in (first, second):
        server = KafkaServer(tmp_path, port)
        try:
            server.start()
            with KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}") as admin:
                assert admin.list_topics() == ([] if port == first else ["kept"])
            make_topic(server, "kept")
        finally:
            server.stop()
