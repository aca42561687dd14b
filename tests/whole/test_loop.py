"""The loop on a real broker and a real S3 server: rank, topic, night, registry, reload, rank; the broker goes away."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.native.kafka import KafkaServer
from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.events.manifest import read_manifest
from ltr_pipeline.jobs import nightly
from ltr_pipeline.jobs.chain import judge
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.report.artefacts import DATASET, DECISION, INPUTS
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.simulate import draw
from ltr_pipeline.simulate.draw import Visits, visits
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, World
from support.service import Server
from support.topics import Topic

WORLD = World(legacy_weights=load_mapping().legacy_weights, seed=3)
VISITS = 400
LENIENT = {
    "ltr_min_queries": "30",
    "ltr_ndcg_min": "0.1",
    "ltr_fairness_max": "1",
    "ltr_latency_p95_max_ms": "1000",
    "ltr_regression_max": "1",
    "ltr_on_inconclusive": "publish",
}


@pytest.fixture
def own_kafka(tmp_path: Path, kafka: KafkaServer) -> Iterator[KafkaServer]:
    """The shared broker, running again afterwards whatever a test does to it."""
    yield kafka
    if not kafka._process:
        kafka.start()


@pytest.fixture
def topic(own_kafka: KafkaServer) -> Topic:
    return Topic(own_kafka, partitions=3)


@pytest.fixture
def environment(topic: Topic, s3_server: S3Server, tmp_path: Path) -> dict[str, str]:
    return s3_server.environment | {
        "KAFKA_BOOTSTRAP_SERVERS": topic.server.bootstrap,
        "KAFKA_TOPIC": topic.name,
        "LTR_KAFKA_TIMEOUT_SECONDS": "5",
        "S3_BUCKET": BUCKET,
        "S3_PREFIX": f"loop-{tmp_path.name}",
        "LTR_DATA_URI": str(tmp_path / "data"),
        "LTR_ATTRIBUTION_DAYS": "1",
    }


def visited(server: Server, seen: Visits, rng: np.random.Generator) -> int:
    """Let the clients ask and answer; how many messages the service has to log."""
    positions, names, begin = [], [], 0
    for ranking, size in enumerate(seen.group.tolist()):
        rows = range(begin, begin + size)
        answer = server.post("/ltr/rank", request(seen, ranking, rows))
        places = {item["item_id"]: item["rank"] for item in answer["items"]}
        positions += [places[f"l-{seen.item[row]}"] for row in rows]
        names += [answer["request_id"]] * size
        begin += size
    done = draw.answers(WORLD, seen, np.array(positions, np.int32), rng)
    found = [
        {"request_id": names[row], "item_id": f"l-{seen.item[row]}", "action": ACTIONS[action[row]]}
        for action in (done.answer, done.outcome)
        for row in np.flatnonzero(action >= 0).tolist()
    ]
    for start in range(0, len(found), 200):
        server.post("/ltr/feedback", {"events": found[start : start + 200]}, expect=202)
    return len(seen.group) + len(found)


def request(seen: Visits, ranking: int, rows: range) -> dict[str, Any]:
    features = [[None if np.isnan(value) else round(float(value), 3) for value in seen.features[row]] for row in rows]
    return {
        "query_id": f"case-{seen.case[ranking]}",
        "user_id": f"u-{seen.user[ranking]}",
        "candidates": [
            {"item_id": f"l-{seen.item[row]}", "features": dict(zip(FEATURES, values, strict=True))}
            for row, values in zip(rows, features, strict=True)
        ],
    }


def night(settings: Settings, date: dt.date) -> dict[str, Any]:
    moment = dt.datetime.combine(date, dt.time(2, 15), dt.UTC).isoformat()
    judged = judge({"moment": moment}, LENIENT, settings)
    decision = Run(run_name(dt.datetime.fromisoformat(moment)), settings).read(DECISION)
    assert decision.verdict == "publish", decision.reasons
    return nightly.publish_weights(judged, "test", settings)


def shifted(topic: Topic, days: int) -> None:
    """Send what a topic holds once more, as if it had happened on the days before: today's events are too young."""
    values = [json.loads(value) for _, _, value in topic.consumed()]
    lists = sorted({message["context"]["ranking_id"] for message in values})
    back = {name: 2 + number % days for number, name in enumerate(lists)}
    for message in values:
        ranking = message["context"]["ranking_id"]
        at = dt.datetime.fromisoformat(message["timestamp"]) - dt.timedelta(days=back[ranking])
        message["timestamp"] = at.isoformat()
        message["context"] |= {
            "ranking_id": f"{ranking}-earlier",
            "event_id": f"{message['context']['event_id']}-earlier",
        }
    topic.send(*values)


def test_what_the_service_shows_trains_what_it_serves_next(
    topic: Topic, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(11)
    today = dt.datetime.now(dt.UTC).date()
    seen = visits(WORLD, VISITS, rng, day=today)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    with Server(tmp_path / "service", environment, WEIGHTS_POLL_SECONDS="0.2") as server:
        assert server.get("/ltr/health")["version"] == "legacy"
        sent = visited(server, seen, rng)
        topic.server.stop()
        later = visits(WORLD, 20, rng, day=today)
        later_sent = visited(server, later, rng)  # answered as ever
        server.until(lambda: server.metric("ltr_spool_events") >= later_sent)
        topic.server.start()
        server.until(lambda: delivered(server) == sent + later_sent, 60)
        server.until(lambda: server.metric("ltr_spool_events") == 0)  # measured after it is delivered
        shifted(topic, days=8)
        published = night(settings, today + dt.timedelta(days=1))
        assert published["moved"]
        server.until(lambda: server.get("/ltr/health")["version"] == published["version"])
        answer = server.post("/ltr/rank", request(seen, 0, range(seen.group[0])))
        assert (answer["version"], answer["model"], answer["fallback"]) == (published["version"], "lightgbm", None)
    account(settings, today + dt.timedelta(days=1), lists=VISITS + 20, rows=len(seen.item) + len(later.item))


def delivered(server: Server) -> float:
    kinds = ("impressions", "feedback")
    return sum(server.metric(f'ltr_events_total{{kind="{kind}",outcome="delivered"}}') for kind in kinds)


def account(settings: Settings, date: dt.date, *, lists: int, rows: int) -> None:
    """Nothing was refused, everything that was sent has landed, and each event counts once."""
    run = Run(run_name(dt.datetime.combine(date, dt.time(2, 15), dt.UTC)), settings)
    landed, manifest = run.read(INPUTS).landed, run.read(DATASET)
    assert landed is not None
    assert (landed.records_quarantined, landed.fallback) == (0, "")
    assert landed.impressions - manifest.impressions.duplicates == 2 * rows
    assert (manifest.impressions.used, manifest.impressions.dropped) == (rows, {"immature": rows})
    answers = manifest.feedback
    assert answers.dropped == {"impression_dropped": answers.used}
    assert 2 * answers.used == answers.landed - answers.duplicates
    assert manifest.train.rankings + manifest.valid.rankings + manifest.test.rankings == lists
    assert read_manifest(settings.data, night_of(date)).unknown_features == []
