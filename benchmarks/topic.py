"""Reading a topic of a real broker against the ordinary ways of doing it.

    python benchmarks/topic.py [--impressions 300000] [--repeats 5] [--memory 5 10] [--client kafka-python]

Starts a broker (deploy/native/kafka.py), fills topics of 16 partitions with simulated events, uncompressed and
in lz4, and takes turns, each time in a process of its own; starting Python and importing is not counted. Prints
medians, and medians of the ratios:

a. extraction, topic to blocks of lines, by either client, against the ordinary loop, ``poll()`` and ``json.loads``
b. extraction, landing and dataset against the naive path: that loop, ``pandas.json_normalize``, ``groupby``
c. extraction by confluent-kafka against its own ``consume(10000)``, which does nothing with what it gets
d. landing one day out of a topic that holds 30, against a topic that holds only that day
e. with ``--memory``: peak memory of extraction and landing, at so many million events

``--repeats 0`` leaves out all but the memory, ``--client`` one of the two clients from it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Part
from kafka import KafkaConsumer, TopicPartition

sys.path.insert(0, str(Path(__file__).parents[1]))
from deploy.native.kafka import KafkaServer, make_topic
from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.kafka import KafkaSource
from ltr_pipeline.kafka.connection import KafkaConnection
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.storage.local import LocalStorage

DAYS = 28
FIRST = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
NIGHT = FIRST.date() + dt.timedelta(days=DAYS)
PER_RANKING = 10.3  # impressions, on average
PARTITIONS = 16
BUCKETS = 16
CODECS = ("none", "lz4")
CLIENTS = ("kafka-python", "confluent-kafka")


def simulated(folder: Path, impressions: int) -> list[bytes]:
    """Messages of four weeks."""
    log = folder / "audit.log"
    rankings = round(impressions / DAYS / PER_RANKING)
    write_log(log, World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=rankings), FIRST.date(), DAYS)
    return log.read_bytes().splitlines()


def fill(server: KafkaServer, topic: str, messages: Iterable[bytes], codec: str) -> None:
    """Send messages as an ordinary producer does, to all partitions in turns."""
    make_topic(server, topic, PARTITIONS)
    settings = {"compression.type": codec, "linger.ms": 50, "queue.buffering.max.messages": 200_000}
    producer = Producer({"bootstrap.servers": server.bootstrap} | settings)
    for number, message in enumerate(messages):
        if number % 10_000 == 0:
            producer.poll(0)
        while True:
            try:
                producer.produce(topic, message, partition=number // 100 % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def source(bootstrap: str, topic: str, client: str) -> KafkaSource:
    connection = KafkaConnection(bootstrap_servers=bootstrap, topic=topic, client=client)
    return KafkaSource(connection, since=dt.datetime(1970, 1, 3, tzinfo=dt.UTC))


def polled(bootstrap: str, topic: str) -> Iterable[bytes]:
    """The ordinary loop."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    parts = [TopicPartition(topic, part) for part in range(PARTITIONS)]
    consumer.assign(parts)
    left = sum(consumer.end_offsets(parts).values())
    while left:
        for records in consumer.poll(timeout_ms=1000).values():
            left -= len(records)
            yield from (record.value for record in records)
    consumer.close()


def loop(bootstrap: str, topic: str, client: str) -> int:
    count = 0
    for value in polled(bootstrap, topic):
        with suppress(ValueError):
            json.loads(value)
        count += 1
    return count


def naive(bootstrap: str, topic: str, client: str) -> int:
    import pandas as pd

    messages = []
    for value in polled(bootstrap, topic):
        try:
            messages.append(json.loads(value))
        except ValueError:
            continue
    events = pd.json_normalize(messages)
    shown = events[events["message"] == "match_recommendation"]
    return int(shown.groupby(["context.case_id", shown["timestamp"].str[:10]]).size().sum())


def consume(bootstrap: str, topic: str, client: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    parts = [Part(topic, part, 0) for part in range(PARTITIONS)]
    total = sum(consumer.get_watermark_offsets(part)[1] for part in parts)
    consumer.assign(parts)
    left = total
    while left:
        left -= len(consumer.consume(min(10_000, left), 1.0))
    consumer.close()
    return total


def extraction(bootstrap: str, topic: str, client: str) -> int:
    events = source(bootstrap, topic, client)
    return sum(len(block.starts) for block in events.read(events.stable_end(())))


def landing(bootstrap: str, topic: str, client: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        storage, events = LocalStorage(Path(folder)), source(bootstrap, topic, client)
        return land(storage, night_of(NIGHT), events, load_mapping(), buckets=BUCKETS, since=FIRST).impressions


def building(bootstrap: str, topic: str, client: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        storage, mapping = LocalStorage(Path(folder)), load_mapping()
        landed = land(storage, night_of(NIGHT), source(bootstrap, topic, client), mapping, buckets=BUCKETS, since=FIRST)
        windows = Windows(cutoff=FIRST + DAYS * dt.timedelta(days=1), window_days=DAYS)
        build(storage, "dataset", partitions_for(storage, NIGHT), mapping, windows)
        return landed.impressions


def last_day(bootstrap: str, topic: str, client: str) -> int:
    """Read the last of as many days as the topic's name says."""
    events, days = source(bootstrap, topic, client), int(topic.split("-")[1])
    known = events.stable_end(()).segments
    cursor = [msgspec.structs.replace(segment, end=segment.end * (days - 1) // days) for segment in known]
    return sum(len(block.starts) for block in events.read(events.stable_end(cursor)))


WAYS: dict[str, Callable[[str, str, str], int]] = {
    function.__name__: function for function in (loop, naive, consume, extraction, landing, building, last_day)
}


def measure(way: str, bootstrap: str, topic: str, client: str) -> dict[str, float]:
    """Return what one way takes in this process."""
    import pandas as pd  # noqa: F401 - pyarrow imports it when it makes its first scalar
    import pyarrow as pa

    pa.scalar(0)
    began, busy = time.perf_counter(), time.process_time()
    count = WAYS[way](bootstrap, topic, client)
    return {
        "count": count,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - busy,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Peak of this program's memory; ``ru_maxrss`` would also count what the process was before it became this one."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measured(way: str, server: KafkaServer, topic: str, client: str) -> dict[str, float]:
    """Return what one way takes in a process of its own."""
    command = [sys.executable, __file__, "--way", way, server.bootstrap, topic, client]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


Case = tuple[str, str, str]
"""Way, topic, client."""


def in_turns(server: KafkaServer, cases: list[Case], repeats: int) -> dict[Case, list[dict[str, float]]]:
    runs: dict[Case, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(repeats):
        for way, topic, client in cases:
            runs[way, topic, client].append(measured(way, server, topic, client))
    for (way, topic, client), found in runs.items():
        seconds, peak = (statistics.median(run[what] for run in found) for what in ("seconds", "peak_mb"))
        rate = found[0]["count"] / seconds / 1000
        print(f"{way:11}{topic:10}{client:16}{seconds:8.2f} s{rate:8.0f} k/s{peak:8,.0f} MB", flush=True)
    return runs


def ratio(runs: dict[Case, list[dict[str, float]]], slow: Case, fast: Case) -> float:
    return statistics.median(a["seconds"] / b["seconds"] for a, b in zip(runs[slow], runs[fast], strict=True))


def compare(server: KafkaServer, messages: list[bytes], repeats: int) -> None:
    for codec in CODECS:
        fill(server, codec, messages, codec)
    size = sum(map(len, messages)) / len(messages)
    print(f"{len(messages):,} messages of {size:.0f} bytes, {PARTITIONS} partitions, medians of {repeats}")
    ways: list[Any] = [("loop", ""), ("naive", ""), ("consume", "")]
    ways += [(way, client) for way in ("extraction", "building") for client in CLIENTS]
    runs = in_turns(server, [(way, codec, client or "-") for codec in CODECS for way, client in ways], repeats)
    for codec in CODECS:
        for client in CLIENTS:
            fast = ratio(runs, ("loop", codec, "-"), ("extraction", codec, client))
            whole = ratio(runs, ("naive", codec, "-"), ("building", codec, client))
            print(f"{codec}, {client}: extraction {fast:.1f} times poll() + json.loads (wanted: 2.5), ", end="")
            print(f"extraction to dataset {whole:.1f} times the naive path (wanted: 5)")
        share = ratio(runs, ("consume", codec, "-"), ("extraction", codec, "confluent-kafka"))
        print(f"{codec}: {100 * share:.0f} % of the rate of confluent-kafka's own consume(10000)")


def compare_days(server: KafkaServer, messages: list[bytes], repeats: int) -> None:
    day = messages[: len(messages) // PARTITIONS // 100 * PARTITIONS * 100]  # as many for each partition
    fill(server, "days-1", day, "lz4")
    fill(server, "days-30", (message for _ in range(30) for message in day), "lz4")
    for client in CLIENTS:
        cases = [("last_day", topic, client) for topic in ("days-1", "days-30")]
        runs = in_turns(server, cases, repeats)
        print(f"{client}: one day of 30 costs {ratio(runs, cases[1], cases[0]):.2f} of one alone (wanted: 1.2 at most)")


def compare_memory(server: KafkaServer, messages: list[bytes], millions: list[float], clients: list[str]) -> None:
    for many in millions:
        topic = f"memory-{many:g}"
        count = round(many * 1e6)
        fill(server, topic, (messages[number % len(messages)] for number in range(count)), "lz4")
        for client in clients:
            run = measured("landing", server, topic, client)
            print(f"{client}, {many:g} million events: {run['peak_mb']:,.0f} MB (wanted: 1536 at most)", end="")
            print(f" in {run['seconds']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=float, nargs="*", default=[], help="millions of events, such as 5 10")
    parser.add_argument("--client", choices=CLIENTS, help="for --memory; default: both")
    parser.add_argument("--way", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(*given.way)))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = KafkaServer(Path(folder) / "kafka")
        messages = simulated(Path(folder), given.impressions)
        try:
            server.start()
            if given.repeats:
                compare(server, messages, given.repeats)
                compare_days(server, messages[: len(messages) // 2], given.repeats)
            compare_memory(server, messages, given.memory, [given.client] if given.client else list(CLIENTS))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
