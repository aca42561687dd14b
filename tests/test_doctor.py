"""What `ltr doctor` finds, on a real broker and a real S3 server."""

from __future__ import annotations

import datetime as dt
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.native.kafka import KafkaServer
from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.doctor import examine
from ltr_pipeline.jobs import nightly
from ltr_pipeline.runs import extract
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from support.small import DAY, NIGHT, WHO, artefacts, simulate, small_settings, up_to
from support.topics import Topic

SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)


def found(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    by_subject: dict[str, list[tuple[str, str]]] = {}
    for finding in examine(settings):
        by_subject.setdefault(finding.subject, []).append((finding.status, finding.text))
    return by_subject


def problems(settings: Settings) -> list[str]:
    return [f"{finding.subject}: {finding.text}" for finding in examine(settings) if finding.status == "problem"]


def test_a_sound_project_has_no_problem_and_nothing_is_left_behind(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    before = artefacts(settings)
    said = found(settings)
    assert not problems(settings)
    assert ("ok", "latest is 20250715_0215") in said["registry"]
    assert said["Kafka"][0][1].startswith("not configured")
    assert artefacts(settings) == before
    assert not [key for key in settings.data.keys("") if key.startswith("doctor")]


def test_a_misspelt_variable_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(small_settings(tmp_path))["environment"] == [
        ("ok", "a setting reads every variable LTR_… that is set")
    ]
    monkeypatch.setenv("LTR_WINDOW_DAY", "20")
    assert found(small_settings(tmp_path))["environment"] == [
        ("warning", "no setting reads LTR_WINDOW_DAY; did you mean LTR_WINDOW_DAYS?")
    ]


def test_what_is_missing_is_a_problem(tmp_path: Path) -> None:
    assert any("no event log there" in problem for problem in problems(small_settings(tmp_path)))
    (tmp_path / "file").write_text("a file where a folder belongs")
    blocked = small_settings(tmp_path, registry_uri=str(tmp_path / "file"))
    assert any(problem.startswith("registry:") for problem in problems(blocked))


def test_parameters_that_a_night_would_refuse_are_a_problem(tmp_path: Path) -> None:
    simulate(tmp_path)
    assert found(small_settings(tmp_path, parameters={"max_depth": 4}))["parameters"] == [
        ("ok", "LTR_PARAMETERS sets max_depth")
    ]
    said = problems(small_settings(tmp_path, parameters={"monotone_constraints": [1, 0, 0]}))
    assert said == [
        "parameters: LTR_PARAMETERS: monotone_constraints has 3 values for the 8 features A, S, T, G, Q, U, R, C; "
        "give one for each, in this order"
    ]


def test_a_calendar_is_read_and_its_next_event_told(tmp_path: Path) -> None:
    assert found(small_settings(tmp_path))["calendar"] == [("ok", "no declared events (LTR_CALENDAR is empty)")]
    path, today = tmp_path / "events.toml", dt.datetime.now(dt.UTC).date()
    settings = small_settings(tmp_path, calendar_path=path)
    assert "No such file or directory; check LTR_CALENDAR" in found(settings)["calendar"][0][1]
    path.write_text(f'[[events]]\nname = "Sale"\nfirst = {today + 3 * DAY}\nweight = 0.2\n')
    assert found(small_settings(tmp_path, calendar_path=path))["calendar"] == [
        ("ok", f"1 declared event; the next is Sale from {today + 3 * DAY} (weighs 0.2 in training)")
    ]
    path.write_text('[holidays]\ncountry = "BR"\n')
    ((status, text),) = found(small_settings(tmp_path, calendar_path=path))["calendar"]
    assert (status, text.split(";")[0]) == ("ok", "the holidays of BR")
    path.write_text(f'[[events]]\nname = "Sale"\nfirst = {today - 90 * DAY}\nlast = {today}\ntreatment = "leave_out"\n')
    assert found(small_settings(tmp_path, calendar_path=path))["calendar"] == [
        ("ok", "1 declared event; none is to come"),
        (
            "warning",
            "it leaves no day to train on: 12 of the 12 days of the window are left out, and 8 are held out; weigh "
            "days instead (weight = 0.2), or raise LTR_WINDOW_DAYS",
        ),
    ]


def test_feature_tables_are_looked_at_one_by_one(tmp_path: Path) -> None:
    simulate(tmp_path)
    (tmp_path / "prices.csv").write_text("item_id,at,price\na,2025-07-04,1\n")
    table = '[[feature_tables]]\nname = "{}"\naddress = "{}"\nentity = "item"\ntime = "at"\nfeatures = ["{}"]\n'
    tables = [
        table.format(name, tmp_path / f"{name}.csv", feature) + "tolerance_days = 3\n"
        for name, feature in (("costs", "cost"), ("prices", "price"))
    ]
    default = files("ltr_pipeline").joinpath("default_mapping.toml").read_text()
    (tmp_path / "mapping.toml").write_text(default + "\n" + "".join(tables))
    (first, second) = found(small_settings(tmp_path, mapping_path=tmp_path / "mapping.toml"))["feature tables"]
    assert first[0] == "problem"
    assert "feature table costs: there is no file" in first[1]
    assert second == ("ok", "prices has its columns: price of each item")
    assert "feature tables" not in found(small_settings(tmp_path))


def test_a_broken_version_is_a_problem(tmp_path: Path) -> None:
    simulate(tmp_path)
    settings = small_settings(tmp_path)
    nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
    document = tmp_path / "registry" / "ltr" / "20250715_0215" / "ltr_weights.json"
    document.chmod(0o644)
    document.write_bytes(document.read_bytes()[:1000])
    assert any("20250715_0215" in problem for problem in problems(settings))


def test_a_topic_is_described_with_its_retention_and_lag(kafka: KafkaServer, tmp_path: Path) -> None:
    (tmp_path / "audit.log").touch()
    topic = Topic(kafka, 2, **{"retention.ms": str(24 * 3600 * 1000)})
    settings = small_settings(
        tmp_path, kafka_servers=kafka.bootstrap, kafka_topic=topic.name, kafka_timeout_seconds=5.0
    )
    topic.send(*(b"{}" for _ in range(3)))
    texts = [text for _, text in found(settings)["Kafka"]]
    assert "2 partitions with 3 messages" in texts[0]
    assert texts[1].startswith("the topic keeps messages for 1 days")
    assert "nothing has landed" in texts[2]
    extract.land(settings, night_of(NIGHT), SINCE, last_try=True, source=None)
    topic.send(*(b"{}" for _ in range(5)), partition=1)
    topic.truncate(2, partition=1)
    said = found(settings)["Kafka"]
    assert ("ok", "3 messages have arrived since the last night that read it") in said
    assert any(status == "problem" and text.startswith("2 messages were removed") for status, text in said)
    topic.make_anew()
    assert any(status == "warning" and "recreated" in text for status, text in found(settings)["Kafka"])


def test_brokers_and_buckets_that_are_not_there_are_problems_in_plain_words(
    s3_server: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "audit.log").touch()
    settings = load_settings(
        events_path=str(tmp_path / "audit.log"),
        data_uri=str(tmp_path / "data"),
        kafka_servers="127.0.0.1:1",
        kafka_timeout_seconds=1.0,
        s3_bucket="no-such-bucket",
        s3_endpoint=s3_server.endpoint,
        s3_access_key_id=s3_server.access_key_id,
        s3_secret_access_key=s3_server.secret_access_key,
    )
    said = problems(settings)
    assert any(problem.startswith("Kafka: ") and "127.0.0.1:1" in problem for problem in said)
    assert any(problem.startswith("registry: ") and "no-such-bucket" in problem for problem in said)
    assert s3_server.secret_access_key not in "".join(said)


def test_an_unsigned_registry_on_s3_is_a_warning(s3_server: S3Server, tmp_path: Path) -> None:
    simulate(tmp_path)
    on_s3 = {
        "events_path": str(tmp_path / "audit.log"),
        "data_uri": f"s3://{BUCKET}/{uuid4().hex}",
        "s3_bucket": BUCKET,
        "registry_prefix": uuid4().hex,
        "s3_endpoint": s3_server.endpoint,
        "s3_access_key_id": s3_server.access_key_id,
        "s3_secret_access_key": s3_server.secret_access_key,
        "window_days": 12,
    }
    for key, status in (("k" * 64, "ok"), ("", "warning")):
        settings = load_settings(**on_s3, signing_key=key)
        if key:
            nightly.publish_weights(up_to("quality_gate", settings), WHO, settings)
        assert found(settings)["registry"][1][0] == status
