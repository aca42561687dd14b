"""What the test servers promise to those who start them."""

from __future__ import annotations

import socket
from pathlib import Path

from kafka import KafkaAdminClient
from loopback import free_ports
from services.kafka_server import KafkaServer, lacking, make_topic

from support import servers


def test_ports_are_free_and_no_client_can_take_them() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in ports:
        assert port < lowest
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


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
