"""A topic as a source, on a real broker: the same messages as an ordinary consumer gets, without gap or overlap."""

from __future__ import annotations

import datetime as dt
import logging
import random
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from deploy.native.kafka import PASSWORD, USER, KafkaServer
from ltr_pipeline.errors import LtrError, SettingsError, SourceError, SourceUnavailableError
from ltr_pipeline.events.decoding.decode import Decoder
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest, read_manifest, read_quarantine
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.events.sources import consume
from ltr_pipeline.events.sources import kafka as room
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.events.sources.kafka import KafkaSource
from ltr_pipeline.kafka.connection import KafkaConnection
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from support.landinghistory import WRITES, History
from support.messages import answered, line, shown
from support.topics import CLIENTS, EARLY, Topic, bounds, contents, everything, lines_of

JULY = dt.datetime(2025, 7, 15, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
AWAY = "127.0.0.1:1"

on_both = pytest.mark.parametrize("client", CLIENTS)


def on_one(short: str) -> pytest.MarkDecorator:
    """By this client, and by the other among the long tests: the broker is stopped and started each time."""
    return pytest.mark.parametrize(
        "client", [short, *(pytest.param(client, marks=pytest.mark.long) for client in CLIENTS if client != short)]
    )


def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let little come at once, so that most of a topic is still on the broker while it is read."""
    for name, value in (("FETCH_BYTES", 100_000), ("QUEUED_KIB", 100), ("CONSUMED", 100)):
        monkeypatch.setattr(consume, name, value)


SIXTEENTH = folder_of(night_of(dt.date(2025, 7, 16)))


def landing(data: LocalStorage, day: int, source: Any, **options: Any) -> Manifest:
    since = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
    return land(data, night_of(dt.date(2025, 7, day)), source, load_mapping(), buckets=2, since=since, **options)


# ---- nights and hours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_however_runs_land_every_message_lands_once(kafka: KafkaServer, seed: int, tmp_path: Path) -> None:
    """Nights and hours, retries, runs that are killed and late ones; each message is an item of its own."""
    chance, topic = random.Random(seed), Topic(kafka, 2)

    def write(names: list[str]) -> None:
        for name in names:
            topic.send(shown(lawyer=name), partition=int(name) % 2)

    history = History(tmp_path / "data", topic.source, write, night_of(dt.date(2025, 7, 16)))
    history.begin(former=bool(seed % 2))
    for _ in range(14):
        kind = chance.choice(["hour", "hour", "night", "retry", "late"])
        history.step(kind, chance.randint(1, 5), chance.randint(0, 2 * WRITES))
    history.check()


# ---- content --------------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_gives_what_an_ordinary_consumer_gets(kafka: KafkaServer, client: str, codec: str) -> None:
    topic = Topic(kafka, partitions=4)  # the last one stays empty
    for part in range(3):
        topic.send(*(shown(case=f"case-{part}-{n}") for n in range(500)), partition=part, codec=codec)
    source = topic.source(client)
    found = lines_of(source.read(source.stable_end(())))
    assert found == topic.consumed()
    assert len(found) == 1500


@on_both
def test_blocks_do_not_depend_on_how_messages_come(
    kafka: KafkaServer, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(kafka, partitions=2)
    for part in range(2):
        topic.send(*(b"x" * (n % 90) for n in range(300)), None, b"y" * 1500, partition=part)
    monkeypatch.setattr(room, "BLOCK_BYTES", 1000)
    span = everything(topic.source())
    once = contents(topic.source("kafka-python").read(span))
    assert len(once) > 20
    for name, value in (("POLLED", 7), ("CONSUMED", 7), ("FETCH_BYTES", 500)):
        monkeypatch.setattr(consume, name, value)
    assert contents(topic.source(client).read(span)) == once


@on_both
def test_messages_without_content_are_ignored_and_counted(kafka: KafkaServer, client: str) -> None:
    topic = Topic(kafka)
    topic.send(None, key=b"case-1")
    topic.send(None, b"", b" \n\r\n ", b"\xef\xbb\xbf\n", shown(), key=None)
    source = topic.source(client)
    (block,) = source.read(source.stable_end(()))
    decoded = Decoder(load_mapping()).decode(block)
    assert (decoded.read, decoded.impressions.num_rows) == (6, 1)
    assert decoded.ignored == {"tombstone": 2, "empty message": 3}
    assert decoded.impressions["offset"].to_pylist() == [5]


@on_both
def test_a_newline_in_a_message_does_not_make_two(kafka: KafkaServer, client: str) -> None:
    topic = Topic(kafka)
    pretty = line(shown(case="pretty")).replace(b", ", b",\n  ") + b"\n"
    within_a_text = line(shown(case="a b")).replace(b"a b", b"a\nb")
    topic.send(pretty, within_a_text, shown(case="plain"))
    source = topic.source(client)
    (block,) = source.read(source.stable_end(()))
    for strict in (False, True):
        decoded = Decoder(load_mapping(), strict=strict).decode(block)
        assert decoded.impressions["query_id"].to_pylist() == ["pretty", "plain"]
        assert [(record.offset, record.reason) for record in decoded.quarantined] == [(1, "not JSON")]


@on_both
def test_large_messages_are_read_and_larger_ones_quarantined(kafka: KafkaServer, client: str) -> None:
    topic = Topic(kafka)
    large = line(shown(case="large", text="x" * 1_000_000))
    topic.send(large, b"{" * ((1 << 20) + 1), large, shown(case="small"))
    source = topic.source(client)
    decoded = [Decoder(load_mapping()).decode(block) for block in source.read(source.stable_end(()))]
    assert [name for part in decoded for name in part.impressions["query_id"].to_pylist()] == [
        "large",
        "large",
        "small",
    ]
    (refused,) = [record for part in decoded for record in part.quarantined]
    assert (refused.offset, refused.reason, len(refused.excerpt)) == (1, "line over 1 MiB", 200)


@on_both
def test_binary_messages_are_quarantined(kafka: KafkaServer, client: str, tmp_path: Path) -> None:
    topic = Topic(kafka)
    noise = random.Random(5)
    topic.send(*(b"\x00\x00\x00\x00\x07" + noise.randbytes(1 + n) for n in range(200)), shown())
    manifest = landing(LocalStorage(tmp_path), 16, topic.source(client))
    assert (manifest.read, manifest.impressions, manifest.quarantined) == (201, 1, 200)
    assert len(list(read_quarantine(LocalStorage(tmp_path), manifest.partition.folder))) == 200


@on_both
def test_aborted_transactions_never_appear_and_open_ones_hold_the_end(kafka: KafkaServer, client: str) -> None:
    topic = Topic(kafka)
    source = topic.source(client)
    topic.send(b"before")
    producer = topic.producer(**{"transactional.id": topic.name, "linger.ms": 0})
    producer.init_transactions(30)
    for value, commit in ((b"aborted", False), (b"committed", True), (b"also aborted", False)):
        producer.begin_transaction()
        topic.put(producer, [value] * 3)
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    done = source.stable_end(())
    assert bounds(done) == [(0, 13)]  # three markers hold offsets, too
    assert [value for _, _, value in lines_of(source.read(done))] == [b"before"] + [b"committed"] * 3
    producer.begin_transaction()
    topic.put(producer, [b"open"])
    producer.flush(30)
    topic.send(b"after")
    waiting = source.stable_end(done.segments)
    assert bounds(waiting) == [(13, 13)]
    producer.commit_transaction(30)
    rest = source.stable_end(waiting.segments)
    assert [value for _, _, value in lines_of(source.read(rest))] == [b"open", b"after"]


# ---- ranges ---------------------------------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("seed", range(3))
def test_runs_cover_the_topic_without_gap_or_overlap(kafka: KafkaServer, client: str, seed: int) -> None:
    chance = random.Random(seed)
    topic = Topic(kafka, partitions=2)
    partitions, cursor, found = 2, (), []
    for night in range(8):
        for _ in range(chance.randrange(4)):  # none: nothing arrives, or the night is skipped
            values = (b"%d-%d" % (night, n) for n in range(chance.randrange(30)))
            topic.send(*values, partition=chance.randrange(partitions))
        if chance.random() < 0.25:
            partitions += 1
            topic.grow(partitions)
        if chance.random() < 0.7 or night == 7:
            source = topic.source(client)
            span = source.stable_end(cursor)
            found += lines_of(source.read(span))
            cursor = span.segments
    assert sorted(found) == topic.consumed()


def test_partitions_are_in_order_and_new_ones_are_read_from_their_beginning(kafka: KafkaServer) -> None:
    topic = Topic(kafka, partitions=11)
    topic.send(b"a", b"b", partition=10)
    source = topic.source()
    first = source.stable_end(())
    assert [segment.partition for segment in first.segments] == [*range(11)]
    topic.grow(12)
    topic.send(b"new", partition=11, stamped=EARLY)
    second = source.stable_end(first.segments)
    assert bounds(second)[10:] == [(2, 2), (0, 1)]
    assert [value for _, _, value in lines_of(source.read(second))] == [b"new"]


def test_a_topic_without_events_is_an_empty_day(kafka: KafkaServer, tmp_path: Path) -> None:
    topic = Topic(kafka, partitions=3)
    manifest = landing(LocalStorage(tmp_path), 16, topic.source())
    assert (manifest.read, bounds(manifest.range)) == (0, [(0, 0)] * 3)


@pytest.mark.parametrize("grown", [0, 2, 9])
def test_a_topic_made_anew_is_read_from_its_beginning(kafka: KafkaServer, grown: int) -> None:
    topic = Topic(kafka)
    topic.send(*[b"old"] * 5)
    source = topic.source()
    before = source.stable_end(())
    topic.make_anew()
    topic.send(*[b"new"] * grown)
    after = source.stable_end(before.segments)
    assert bounds(after) == [(0, grown)]
    assert [value for _, _, value in lines_of(source.read(after))] == [b"new"] * grown


def test_another_topic_does_not_lose_the_place_in_the_first(kafka: KafkaServer) -> None:
    one, other = Topic(kafka), Topic(kafka)
    one.send(b"1", b"2")
    other.send(b"3")
    first = one.source().stable_end(())
    second = other.source().stable_end(first.segments)
    assert lines_of(other.source().read(second)) == [(0, 0, b"3")]
    one.send(b"4")
    third = one.source().stable_end(second.segments)
    assert lines_of(one.source().read(third)) == [(0, 2, b"4")]


def test_the_first_run_goes_back_to_the_window_and_a_day_for_slow_clocks(kafka: KafkaServer) -> None:
    topic = Topic(kafka, partitions=2)
    topic.send(b"long ago", stamped=JULY - 30 * DAY)
    topic.send(b"slow clock", stamped=JULY - DAY / 2)
    topic.send(b"in the window", stamped=JULY)
    topic.send(b"all long ago", stamped=JULY - 30 * DAY, partition=1)
    source = topic.source(since=JULY)
    first = source.stable_end(())
    assert bounds(first) == [(1, 3), (1, 1)]


def test_wrong_clocks_hold_up_no_night(kafka: KafkaServer) -> None:
    topic = Topic(kafka)
    source = topic.source(since=JULY)
    topic.send(b"2030", stamped=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    nights = [source.stable_end(())]
    for hours in (0, -7, 9):
        topic.send(b"%d" % hours, stamped=JULY + dt.timedelta(hours=hours))
        nights.append(source.stable_end(nights[-1].segments))
    assert [bounds(night) for night in nights] == [[(0, 1)], [(1, 2)], [(2, 3)], [(3, 4)]]


# ---- retention ------------------------------------------------------------------------------------------------------


@on_both
def test_what_retention_took_is_recorded_and_the_rest_is_read(kafka: KafkaServer, client: str, tmp_path: Path) -> None:
    topic = Topic(kafka, partitions=2)
    data = LocalStorage(tmp_path)
    topic.send(shown(case="first"))
    landing(data, 16, topic.source(client))
    topic.send(*(shown(case=f"case-{n}") for n in range(10)))
    topic.send(shown(case="elsewhere"), partition=1)
    topic.truncate(before=8)
    manifest = landing(data, 17, topic.source(client))
    assert (manifest.read, manifest.impressions, manifest.records_lost) == (4, 4, 7)
    assert [(lost.source, lost.partition, lost.start, lost.end) for lost in manifest.lost] == [(topic.name, 0, 1, 8)]
    assert read_manifest(data, night_of(manifest.date)) == manifest
    assert landing(data, 18, topic.source(client)).lost == []


@on_both
def test_retention_may_take_the_whole_range(kafka: KafkaServer, client: str) -> None:
    topic = Topic(kafka)
    topic.send(*[b"x"] * 5)
    source = topic.source(client)
    span = source.stable_end(())
    topic.send(b"later")
    topic.truncate(before=6)
    (block,) = source.read(span)
    assert (bounds(block.lost), block.data) == ([(0, 5)], b"")


@on_both
def test_retention_while_a_range_is_read_is_recorded(
    kafka: KafkaServer, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(kafka)
    topic.send(*(b"%04d" % n + b"x" * 4000 for n in range(5000)))  # 20 MB
    slowly(monkeypatch)
    source = topic.source(client)
    span = source.stable_end(())
    blocks = source.read(span)
    read = [next(blocks)]
    topic.truncate(before=4990)
    read += blocks
    (lost,) = [lost for block in read for lost in block.lost]
    offsets = [offset for block in read for offset in block.offsets.tolist()]
    assert lost.end == 4990
    assert offsets == [*range(lost.start), *range(4990, 5000)]


@on_both
def test_a_stored_range_of_a_topic_that_is_gone_is_lost(kafka: KafkaServer, client: str) -> None:
    topic = Topic(kafka)
    topic.send(*[b"old"] * 5)
    source = topic.source(client)
    span = source.stable_end(())
    topic.make_anew()
    topic.send(*[b"new"] * 9)
    (block,) = source.read(span)
    assert bounds(block.lost) == [(0, 5)]
    assert bounds(source.stable_end(span.segments)) == [(0, 9)]


# ---- retries and faults ---------------------------------------------------------------------------------------------


@on_both
def test_a_retry_lands_the_same_bytes(kafka: KafkaServer, client: str, tmp_path: Path) -> None:
    topic = Topic(kafka, partitions=2)
    data = LocalStorage(tmp_path)
    for part in range(2):
        topic.send(*(shown(case=f"case-{n}") for n in range(300)), answered(), b"bad", None, partition=part)
    once = landing(data, 16, topic.source(client))
    data.delete(f"{SIXTEENTH}/manifest.json")
    topic.send(shown(case="late"))
    other = CLIENTS[client == CLIENTS[0]]
    assert landing(data, 16, topic.source(other)) == once
    assert landing(data, 17, topic.source(client)).impressions == 1


@on_one("kafka-python")
def test_a_broker_stopped_while_a_range_is_read(
    kafka: KafkaServer, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(kafka)
    topic.send(*(b"%04d" % n + b"x" * 4000 for n in range(5000)))
    slowly(monkeypatch)
    span = topic.source(client).stable_end(())
    blocks = topic.source(client, timeout_seconds=2).read(span)
    read = [next(blocks)]
    kafka.kill()
    try:
        with pytest.raises(SourceUnavailableError, match=r"a retry reads the same range again|no broker"):
            read += blocks
    finally:
        kafka.start()
    again = contents(topic.source(client).read(span))
    assert again[: len(read)] == contents(read)
    assert sum(len(offsets) for _, _, _, offsets, *_ in again) == 5000


@on_one("confluent-kafka")
def test_a_broker_back_in_time_is_not_noticed(kafka: KafkaServer, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic(kafka)
    topic.send(*(b"%04d" % n + b"x" * 4000 for n in range(5000)))
    slowly(monkeypatch)
    source = topic.source(client, timeout_seconds=60)
    blocks = source.read(source.stable_end(()))
    read = lines_of([next(blocks)])
    kafka.stop()
    kafka.start()
    read += lines_of(blocks)
    assert [offset for _, offset, _ in read] == [*range(5000)]


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_a_server_that_accepts_and_never_answers_is_given_up(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        connection = KafkaConnection(bootstrap_servers=address, security_protocol=protocol, timeout_seconds=1)
        with pytest.raises(SourceUnavailableError, match=f"{address} does not answer"):
            KafkaSource(connection, since=JULY).stable_end(())


def test_a_broker_that_stops_answering_is_given_up(kafka: KafkaServer) -> None:
    topic = Topic(kafka)
    topic.send(b"x")
    source = topic.source(timeout_seconds=2)
    span = source.stable_end(())
    kafka.pause()
    try:
        for call in (lambda: source.stable_end(()), lambda: list(source.read(span)), lambda: source.commit(span)):
            with pytest.raises(SourceUnavailableError, match="does not answer"):
                call()
    finally:
        kafka.resume()


def test_a_missing_client_is_as_a_broker_away(monkeypatch: pytest.MonkeyPatch, kafka: KafkaServer) -> None:
    topic = Topic(kafka)
    topic.send(b"x")
    span = topic.source().stable_end(())
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "confluent_kafka", None)
        with pytest.raises(SourceUnavailableError, match="confluent-kafka, which is not installed"):
            list(topic.source("confluent-kafka").read(span))
    monkeypatch.setitem(sys.modules, "kafka", None)
    with pytest.raises(SourceUnavailableError, match="kafka-python is not installed"):
        topic.source().stable_end(())


# ---- the group, and other sources -----------------------------------------------------------------------------------


def test_the_group_is_told_after_the_partition_is_durable(kafka: KafkaServer, tmp_path: Path) -> None:
    topic = Topic(kafka, partitions=2)
    topic.send(*(shown() for _ in range(3)), partition=1)
    manifest = landing(LocalStorage(tmp_path), 16, topic.source())
    group = topic.connection().group_id
    with topic.admin() as admin:
        committed = admin.list_group_offsets(group)[group]
    assert {part.partition: about.offset for part, about in committed.items()} == {0: 0, 1: 3}
    assert bounds(manifest.range) == [(0, 0), (0, 3)]


def test_a_group_that_cannot_be_told_is_no_error(kafka: KafkaServer, tmp_path: Path) -> None:
    topic = Topic(kafka)
    topic.send(shown())
    group = topic.connection().group_id
    member = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    member.subscribe([topic.name])
    for _ in range(100):
        if member.poll(0.3) or member.assignment():
            break
    assert member.assignment()
    with pytest.raises(SourceError, match="was not committed"):
        topic.source().commit(topic.source().stable_end(()))
    assert landing(LocalStorage(tmp_path), 16, topic.source()).impressions == 1
    member.close()


def test_each_source_goes_on_where_it_was_left(kafka: KafkaServer, tmp_path: Path) -> None:
    topic, log = Topic(kafka), tmp_path / "audit.log"
    data = LocalStorage(tmp_path / "data")
    nights = []
    for day, source, note in ((16, "k", ""), (17, "f", "no broker"), (18, "k", ""), (19, "f", "no broker")):
        topic.send(shown(case=f"topic-{day}"))
        with log.open("ab") as file:
            file.write(line(shown(case=f"log-{day}")) + b"\n")
        chosen = topic.source() if source == "k" else FileSource(log)
        nights.append(landing(data, day, chosen, fallback=note))
    assert [(night.range.source, night.impressions, night.fallback) for night in nights] == [
        ("kafka", 1, ""),
        ("files", 2, "no broker"),
        ("kafka", 2, ""),
        ("files", 2, "no broker"),
    ]


def test_a_fallback_replaces_the_stored_range_and_loses_nothing(kafka: KafkaServer, tmp_path: Path) -> None:
    topic, log = Topic(kafka), tmp_path / "audit.log"
    data = LocalStorage(tmp_path / "data")
    topic.send(*(shown(case=f"case-{n}") for n in range(3)))
    log.write_bytes(line(shown(case="from the log")) + b"\n")
    source = topic.source()
    source.read = lambda span: topic.source(bootstrap_servers=AWAY, timeout_seconds=0.5).read(span)  # away by now
    with pytest.raises(SourceUnavailableError) as away:
        landing(data, 16, source)
    assert b'"kafka"' in data.get(f"{SIXTEENTH}/range.json")
    fallen_back = landing(data, 16, FileSource(log), fallback=str(away.value))
    assert (fallen_back.range.source, fallen_back.impressions) == ("files", 1)
    assert AWAY in fallen_back.fallback
    assert landing(data, 17, topic.source()).impressions == 3


def test_a_stored_range_of_files_is_replaced_when_kafka_is_back(kafka: KafkaServer, tmp_path: Path) -> None:
    topic, log = Topic(kafka), tmp_path / "audit.log"
    data = LocalStorage(tmp_path / "data")
    topic.send(shown(case="from the topic"))
    log.write_bytes(line(shown()) + b"\n")
    landing(data, 16, FileSource(log), fallback="no broker")
    data.delete(f"{SIXTEENTH}/manifest.json")  # it was killed before it was complete
    assert landing(data, 16, topic.source()).range.source == "kafka"
    assert landing(data, 17, FileSource(log), fallback="no broker").impressions == 1


# ---- security and settings ------------------------------------------------------------------------------------------


def secured(kafka: KafkaServer, protocol: str, mechanism: str = "") -> dict[str, Any]:
    settings: dict[str, Any] = {"bootstrap_servers": kafka.address(protocol), "security_protocol": protocol}
    if "SASL" in protocol:
        settings |= {"sasl_mechanism": mechanism, "username": USER, "password": PASSWORD}
    if "SSL" in protocol:
        settings |= {"ca_file": kafka.certificates.ca}
    if protocol == "SSL":
        settings |= {"cert_file": kafka.certificates.client, "key_file": kafka.certificates.client_key}
    return settings


@on_both
@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", ""),
        *(
            (protocol, m)
            for protocol in ("SASL_PLAINTEXT", "SASL_SSL")
            for m in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        ),
    ],
)
def test_reads_over_every_protocol(kafka: KafkaServer, client: str, protocol: str, mechanism: str) -> None:
    topic = Topic(kafka)
    topic.send(b"secret or not")
    source = topic.source(client, **secured(kafka, protocol, mechanism))
    span = source.stable_end(())
    assert lines_of(source.read(span)) == [(0, 0, b"secret or not")]
    source.commit(span)


WRONG = {
    "password": ("SASL_PLAINTEXT", "PLAIN", {"password": "hunter2-wrong"}, "KAFKA_SASL_PASSWORD"),
    "scram password": ("SASL_SSL", "SCRAM-SHA-512", {"password": "hunter2-wrong"}, "KAFKA_SASL_PASSWORD"),
    "user": ("SASL_SSL", "SCRAM-SHA-256", {"username": "nobody"}, "KAFKA_SASL_USERNAME"),
    "authority": ("SASL_SSL", "PLAIN", {"ca_file": "stranger.pem"}, "KAFKA_SSL_CAFILE"),
    "system's authorities": ("SASL_SSL", "PLAIN", {"ca_file": None}, "KAFKA_SSL_CAFILE"),
    "no client certificate": ("SSL", "", {"cert_file": None, "key_file": None}, "KAFKA_SSL_CERTFILE"),
    "client certificate": ("SSL", "", {"cert_file": "stranger.pem", "key_file": "stranger.key"}, "KAFKA_SSL_CERTFILE"),
    "key": ("SSL", "", {"key_file": "stranger.key"}, "KAFKA_SSL_KEYFILE"),
    "missing file": ("SSL", "", {"ca_file": "nowhere.pem"}, "KAFKA_SSL_CAFILE"),
    "file that is no certificate": ("SSL", "", {"ca_file": "names"}, "KAFKA_SSL_CAFILE"),
    "topic": ("PLAINTEXT", "", {"topic": "no-such-topic"}, "KAFKA_TOPIC"),
    "no TLS": ("SSL", "", {"security_protocol": "PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
    "no login": ("SASL_PLAINTEXT", "PLAIN", {"security_protocol": "PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
    "TLS for nothing": ("PLAINTEXT", "", {"security_protocol": "SSL"}, "KAFKA_SECURITY_PROTOCOL"),
    "login for nothing": ("PLAINTEXT", "PLAIN", {"security_protocol": "SASL_PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_setting_is_named_and_is_no_outage(
    kafka: KafkaServer, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    protocol, mechanism, change, named = WRONG[what]
    settings = {"timeout_seconds": 2, "topic": Topic(kafka).name} | secured(kafka, protocol, mechanism)
    for name, value in change.items():
        settings[name] = kafka.certificates.folder / value if name.endswith("_file") and value else value
    if settings["security_protocol"] == "PLAINTEXT":
        settings = {name: settings[name] for name in ("bootstrap_servers", "topic", "timeout_seconds")}
    elif what == "login for nothing":
        settings |= {"sasl_mechanism": mechanism, "username": USER, "password": PASSWORD}
    caplog.set_level(logging.DEBUG)
    connection = KafkaConnection(**settings)
    with pytest.raises(LtrError, match=named) as caught:
        KafkaSource(connection, since=JULY).stable_end(())
    assert isinstance(caught.value, SourceError | SettingsError)
    assert not isinstance(caught.value, SourceUnavailableError)
    for secret in (PASSWORD, "hunter2-wrong"):
        assert secret not in f"{caught.value!r} {connection!r} {caplog.text}"


def test_asking_for_a_topic_does_not_make_it(kafka: KafkaServer) -> None:
    topic = Topic(kafka)
    with pytest.raises(SourceError, match="KAFKA_TOPIC"):
        topic.source(topic="not-made").stable_end(())
    with topic.admin() as admin:
        assert "not-made" not in admin.list_topics()


SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "me", "password": "hunter2"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bootstrap_servers": ""}, "KAFKA_BOOTSTRAP_SERVERS: address 1 is not host:port"),
        ({"bootstrap_servers": "a:1,b"}, "KAFKA_BOOTSTRAP_SERVERS: address 2 is not host:port"),
        ({"bootstrap_servers": "me:hunter2@a:1"}, "KAFKA_BOOTSTRAP_SERVERS: address 1 is not host:port"),
        ({"bootstrap_servers": "a:99999"}, "KAFKA_BOOTSTRAP_SERVERS: address 1 is not host:port"),
        ({"topic": "a b"}, "KAFKA_TOPIC is no name of a topic"),
        ({"topic": ".."}, "KAFKA_TOPIC is no name of a topic"),
        ({"group_id": " "}, "KAFKA_GROUP_ID is empty"),
        ({"security_protocol": "TLS"}, "KAFKA_SECURITY_PROTOCOL must be one of PLAINTEXT, SSL"),
        (SASL | {"sasl_mechanism": "GSSAPI"}, "KAFKA_SASL_MECHANISM must be one of PLAIN"),
        (SASL | {"password": ""}, "KAFKA_SASL_PASSWORD is not set, but KAFKA_SECURITY_PROTOCOL is SASL_SSL"),
        ({"password": "hunter2"}, "KAFKA_SASL_PASSWORD is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({"ca_file": Path("ca.pem")}, "KAFKA_SSL_CAFILE is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({"security_protocol": "SSL", "cert_file": Path("c")}, "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE go together"),
        ({"timeout_seconds": 0}, "LTR_KAFKA_TIMEOUT_SECONDS must be a number from 0.1 to 3600"),
        ({"client": "java"}, "LTR_KAFKA_CLIENT must be one of auto, kafka-python, confluent-kafka"),
    ],
)
def test_a_malformed_setting_is_named_and_not_shown(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        KafkaConnection(**settings)
    assert "hunter2" not in str(caught.value)


def test_all_malformed_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"KAFKA_TOPIC.*KAFKA_GROUP_ID"):
        KafkaConnection(topic="", group_id="")


def test_addresses_may_be_of_any_kind() -> None:
    connection = KafkaConnection(bootstrap_servers="[::1]:9092, kafka-1.example.com:9093,127.0.0.1:1")
    assert connection.servers == [("::1", 9092), ("kafka-1.example.com", 9093), ("127.0.0.1", 1)]
