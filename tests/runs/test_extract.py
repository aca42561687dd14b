"""Which source a night reads, on a real broker: the topic, or the event log when the topic is away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.native.kafka import KafkaServer
from ltr_pipeline.errors import SettingsError, SourceError, SourceUnavailableError
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.runs import extract
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate.log import write_log
from support.small import DAY, FIRST, NIGHT, WORLD, small_settings
from support.topics import Topic

AWAY = "127.0.0.1:1"
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)


@pytest.fixture
def topic(kafka: KafkaServer) -> Topic:
    return Topic(kafka, partitions=2)


@pytest.fixture
def settings(tmp_path: Path, topic: Topic) -> Settings:
    (tmp_path / "audit.log").touch()
    return on(topic, tmp_path)


def on(topic: Topic, folder: Path, **fields: object) -> Settings:
    return small_settings(
        folder, kafka_servers=topic.server.bootstrap, kafka_topic=topic.name, kafka_timeout_seconds=5.0, **fields
    )


def simulated(folder: Path, days: int) -> Iterator[bytes]:
    """Messages of some days, which also go to the event log."""
    write_log(folder / "audit.log", WORLD, FIRST, days)
    yield from (folder / "audit.log").read_bytes().splitlines()


def landed(settings: Settings, night: dt.date = NIGHT, *, last_try: bool = True) -> Manifest:
    return extract.land(settings, night_of(night), SINCE, last_try=last_try, source=None)


def test_a_topic_is_read_and_the_log_left_alone(settings: Settings, topic: Topic, tmp_path: Path) -> None:
    messages = list(simulated(tmp_path, 1))
    topic.send(*messages[:100])
    manifest = landed(settings)
    assert (manifest.range.source, manifest.read, manifest.fallback) == ("kafka", 100, "")


def test_a_topic_without_events_is_an_empty_day(settings: Settings, tmp_path: Path) -> None:
    list(simulated(tmp_path, 1))
    manifest = landed(settings)
    assert (manifest.range.source, manifest.read, manifest.fallback) == ("kafka", 0, "")


def test_brokers_that_are_away_are_tried_again_before_files_are_read(topic: Topic, tmp_path: Path) -> None:
    messages = list(simulated(tmp_path, 1))
    away = small_settings(tmp_path, kafka_servers=AWAY, kafka_timeout_seconds=1.0)
    with pytest.raises(SourceUnavailableError, match=AWAY):
        landed(away, last_try=False)
    manifest = landed(away)
    assert (manifest.range.source, manifest.read) == ("files", len(messages))
    assert AWAY in manifest.fallback


def test_what_was_missed_is_read_when_brokers_are_back(settings: Settings, topic: Topic, tmp_path: Path) -> None:
    messages = list(simulated(tmp_path, 2))
    topic.send(*messages[:100])
    landed(settings)
    topic.send(*messages[100:300], partition=1)
    away = small_settings(tmp_path, kafka_servers=AWAY, kafka_topic=topic.name, kafka_timeout_seconds=1.0)
    assert landed(away, NIGHT + DAY).fallback
    topic.send(*messages[300:350])
    back = landed(settings, NIGHT + 2 * DAY)
    assert (back.range.source, back.read, back.fallback) == ("kafka", 250, "")


def test_a_misconfiguration_is_an_error_unless_any_error_may_fall_back(topic: Topic, tmp_path: Path) -> None:
    list(simulated(tmp_path, 1))
    wrong = {"kafka_servers": topic.server.bootstrap, "kafka_topic": "no-such-topic", "kafka_timeout_seconds": 5.0}
    with pytest.raises(SourceError, match="no topic no-such-topic"):
        landed(small_settings(tmp_path, **wrong))
    assert landed(small_settings(tmp_path, **wrong, fallback_on="any"), last_try=False).fallback


def test_falling_back_can_be_switched_off(tmp_path: Path) -> None:
    list(simulated(tmp_path, 1))
    with pytest.raises(SourceUnavailableError):
        landed(small_settings(tmp_path, kafka_servers=AWAY, kafka_timeout_seconds=1.0, fallback_on="never"))


def test_without_either_source_both_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"{AWAY}.*falling back to files failed, too.*audit.log"):
        landed(small_settings(tmp_path, kafka_servers=AWAY, kafka_timeout_seconds=1.0))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kafka_servers": "broker"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"kafka_servers": "a:1", "kafka_topic": "a topic"}, "KAFKA_TOPIC"),
        ({"kafka_servers": "a:1", "kafka_protocol": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"kafka_servers": "a:1", "kafka_protocol": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"s3_endpoint": "minio"}, "S3_ENDPOINT"),
        ({"s3_access_key_id": "only"}, "AWS_SECRET_ACCESS_KEY"),
        ({"s3_bucket": "litgo-models"}, "LTR_REGISTRY_URI"),  # both say where the registry is
        ({"registry_prefix": "../x"}, "S3_PREFIX"),
        ({"data_uri": "s3://Upper/x"}, "LTR_DATA_URI .*'Upper' is no bucket name"),
        ({"data_uri": "s3://bucket/../x"}, "LTR_DATA_URI .*is no prefix"),
        ({"data_uri": "gs://bucket/x"}, "LTR_DATA_URI .*no storage for the scheme 'gs'"),
        ({"registry_uri": "s3://ab"}, "LTR_REGISTRY_URI .*'ab' is no bucket name"),
        ({"registry_uri": "s3:///x"}, "LTR_REGISTRY_URI .*'' is no bucket name"),
        ({"s3_endpoint": "http://my_minio:9000"}, "S3_ENDPOINT"),  # Docker allows the name, botocore does not
        ({"kafka_servers": "a:1,b:0"}, "KAFKA_BOOTSTRAP_SERVERS: address 2"),
        ({"kafka_servers": "http://a:9092"}, "KAFKA_BOOTSTRAP_SERVERS: address 1"),
        ({"kafka_servers": "a:1;b:2"}, "KAFKA_BOOTSTRAP_SERVERS: address 1"),
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_is_read(
    tmp_path: Path, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        small_settings(tmp_path, **fields)


def test_a_bucket_without_a_valid_name_is_blamed_on_the_setting_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_BUCKET", "Not_A_Bucket")
    with pytest.raises(SettingsError, match=r"S3_BUCKET .*'Not_A_Bucket' is no bucket name"):
        load_settings(data_uri=str(tmp_path))
