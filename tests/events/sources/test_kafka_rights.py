"""A broker that grants rights one by one: what is lacking is named, with its setting, and is no outage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from structlog.testing import capture_logs

from deploy.native.kafka import PASSWORD, USER, KafkaServer, lacking
from ltr_pipeline import doctor
from ltr_pipeline.errors import SourceError, SourceUnavailableError
from ltr_pipeline.events.partitions import landed_dates
from ltr_pipeline.runs import extract
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import load_settings
from support import servers
from support.messages import shown
from support.topics import CLIENTS, SINCE, Topic

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # of the listener without a login
}
NIGHT = dt.date(2025, 7, 16)
on_both = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker that allows nothing but what is granted."""
    if programs := lacking():
        servers.missing("Apache Kafka", f"install {', '.join(programs)}")
    server = KafkaServer(tmp_path_factory.mktemp("guarded"), settings=AUTHORIZER)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def topic(guarded: KafkaServer) -> Topic:
    topic = Topic(guarded)
    topic.send(shown())
    return topic


def grant(topic: Topic, *rights: str) -> None:
    """Rights such as "READ TOPIC" for the user."""
    names = {"TOPIC": topic.name, "GROUP": topic.connection().group_id}
    for right in rights:
        operation, kind = right.split()
        acl = ACL(
            principal=f"User:{USER}",
            host="*",
            operation=ACLOperation[operation],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(ResourceType[kind], names[kind]),
        )
        with topic.admin() as admin:
            assert not admin.create_acls([acl])["failed"]


def login(topic: Topic) -> dict[str, Any]:
    return {
        "bootstrap_servers": topic.server.address("SASL_PLAINTEXT"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "username": USER,
        "password": PASSWORD,
    }


def settings(topic: Topic, folder: Path, client: str = "auto") -> Any:
    """Of a project that could fall back to files."""
    (folder / "audit.log").touch()
    return load_settings(
        **{f"kafka_{name}": value for name, value in login(topic).items() if name in ("username", "password")},
        kafka_servers=topic.server.address("SASL_PLAINTEXT"),
        kafka_protocol="SASL_PLAINTEXT",
        kafka_mechanism="PLAIN",
        kafka_topic=topic.name,
        kafka_group=topic.connection().group_id,
        kafka_client=client,
        events_path=str(folder / "audit.log"),
        data_uri=str(folder / "data"),
    )


@on_both
@pytest.mark.parametrize("rights", [(), ("DESCRIBE TOPIC",)])
def test_a_user_who_may_not_read_the_topic_is_told_and_no_files_are_read(
    topic: Topic, client: str, rights: tuple[str, ...], tmp_path: Path
) -> None:
    grant(topic, "READ GROUP", *rights)
    lacks = rf"KAFKA_TOPIC {topic.name}: the user '{USER}' lacks the right Read on this topic"
    with pytest.raises(SourceError, match=lacks) as caught:
        extract.land(settings(topic, tmp_path, client), night_of(NIGHT), SINCE, last_try=True, source=None)
    assert not isinstance(caught.value, SourceUnavailableError)
    assert PASSWORD not in str(caught.value)
    assert landed_dates(settings(topic, tmp_path).data) == []


@on_both
def test_a_user_who_may_not_read_the_group_lands_and_is_told(topic: Topic, client: str, tmp_path: Path) -> None:
    grant(topic, "READ TOPIC")
    group = topic.connection().group_id
    lacks = f"KAFKA_GROUP_ID {group}: the user '{USER}' lacks the right Read on this group"
    source = topic.source(client, **login(topic))
    span = source.stable_end(())
    with pytest.raises(SourceError, match=lacks) as caught:
        source.commit(span)
    assert not isinstance(caught.value, SourceUnavailableError)
    with capture_logs() as told:
        landed = extract.land(settings(topic, tmp_path, client), night_of(NIGHT), SINCE, last_try=True, source=None)
    assert (landed.range.source, landed.impressions, landed.fallback) == ("kafka", 1, "")
    assert [entry for entry in told if entry["log_level"] == "warning" and lacks in str(entry)]


@on_both
def test_the_rights_of_the_documentation_are_enough(topic: Topic, client: str, tmp_path: Path) -> None:
    grant(topic, "READ TOPIC", "READ GROUP")
    source = topic.source(client, **login(topic))
    assert len(list(source.read(source.stable_end(())))) == 1
    source.commit(source.stable_end(()))
    found = [finding for finding in doctor.examine(settings(topic, tmp_path)) if finding.subject == "Kafka"]
    assert [finding.status for finding in found] == ["ok", "warning", "ok"]
    assert f"'{USER}' lacks the right DescribeConfigs on this topic" in found[1].text
