"""The history: records are kept whole, the newest of a subject counts, and nothing that lies there breaks a reader."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.monitoring.records import (
    KINDS,
    BatchRun,
    DriftReport,
    NightRecord,
    Outcomes,
    PostedMetrics,
    Record,
    RefreshRecord,
    SegmentsTrained,
)
from ltr_pipeline.monitoring.store import FOLDER, History, remember, subject_of

DAY = dt.date(2025, 7, 1)
NOON = dt.datetime(2025, 7, 1, 12, tzinfo=dt.UTC)


def night(date: dt.date = DAY, **fields: object) -> NightRecord:
    return NightRecord(run=f"{date:%Y%m%d}_0215", date=date, verdict="publish", **fields)  # type: ignore[arg-type]


def outcomes(version: str, age: float = 72.0, lists: int = 1) -> Outcomes:
    return Outcomes(date=DAY, version=version, age_hours=age, matured=age > 24, lists=lists)


ONE_OF_EACH: list[Record] = [
    night(),
    DriftReport(date=DAY, status="fine"),
    outcomes("20250601_0215"),
    BatchRun(
        date=DAY, job="leads", run_id=1, version="v", mode="all", state="done", rows=1, rejected=0, batches=1, seconds=1
    ),
    SegmentsTrained(date=DAY, level="user", version=1, in_use=True, entities=9),
    PostedMetrics(date=DAY, at=NOON, metrics={"accuracy": 0.95}),
    RefreshRecord(run="20250701_1235", date=DAY, verdict="keep", parent="20250701_0215", mode="refit", positives=900),
]


def test_every_kind_is_read_as_it_was_written(storage):
    history = History(storage)
    for record in ONE_OF_EACH:
        history.write(record)
    for record in ONE_OF_EACH:
        assert History(storage).read(type(record)) == [record]
    assert {type(record) for record in ONE_OF_EACH} == set(KINDS.values())


def test_the_newest_of_a_day_and_subject_counts(storage):
    history = History(storage)
    for minute, lists in enumerate([1, 2, 3]):
        history.write(outcomes("a", lists=lists), NOON + dt.timedelta(minutes=minute))
    history.write(outcomes("b"), NOON)
    history.write(outcomes("a", age=24.0, lists=9), NOON)
    found = history.read(Outcomes)
    assert [(one.version, one.age_hours, one.lists) for one in found] == [
        ("a", 24.0, 9),
        ("a", 72.0, 3),
        ("b", 72.0, 1),
    ]


def test_days_are_in_order_and_can_be_chosen(storage):
    history = History(storage)
    days = [DAY + dt.timedelta(days=ahead) for ahead in (9, 0, 30)]
    for day in days:
        history.write(night(day))
    assert [one.date for one in history.read(NightRecord)] == sorted(days)
    assert history.dates(NightRecord) == sorted(days)
    assert [one.date for one in history.read(NightRecord, since=DAY + dt.timedelta(days=1))] == sorted(days)[1:]
    assert [one.date for one in history.read(NightRecord, until=DAY)] == [DAY]
    assert [one.date for one in history.read(NightRecord, limit=2)] == sorted(days)[1:]
    assert history.read(NightRecord, limit=0) == []
    assert history.read(DriftReport) == []


def test_what_is_no_record_is_passed_over_and_named(storage):
    history = History(storage)
    history.write(night())
    half = msgspec.json.encode(night())[:40]
    folder = f"{FOLDER}/nights/2025-07-02"
    strange = {
        f"{folder}/half/20250702T000000000000Z.json": half,
        f"{folder}/text/20250702T000000000000Z.json": b"\xff\xfe",
        f"{folder}/newer/20250702T000000000000Z.json": b'{"kind": "night-2", "run": 3}',
        f"{folder}/list/20250702T000000000000Z.json": b"[]",
    }
    elsewhere = [
        f"{FOLDER}/nights/README",
        f"{FOLDER}/nights/2025-13-45/x/y.json",
        f"{FOLDER}/other/2025-07-02/x/y.json",
    ]
    for key, data in strange.items():
        storage.put(key, data)
    for key in elsewhere:
        storage.put(key, b"?")
    assert [one.date for one in history.read(NightRecord)] == [DAY]
    assert history.unreadable == set(strange)


def test_what_a_newer_release_added_is_left_out(storage):
    record = msgspec.to_builtins(night()) | {"mood": "good"}
    storage.put(f"{FOLDER}/nights/2025-07-01/r/20250701T000000000000Z.json", msgspec.json.encode(record))
    assert History(storage).read(NightRecord) == [night()]


def test_many_write_at_once_and_nothing_is_lost(storage):
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: History(storage).write(outcomes(f"v{number}")), range(40)))
    assert {one.version for one in History(storage).read(Outcomes)} == {f"v{number}" for number in range(40)}


def test_old_days_and_replaced_records_are_pruned(storage):
    history = History(storage)
    for ahead in range(3):
        for minute in range(2):
            history.write(night(DAY + dt.timedelta(days=ahead)), NOON + dt.timedelta(minutes=minute))
    assert history.prune(before=DAY + dt.timedelta(days=1)) == 4  # two of the first day, one replaced on each other
    assert [one.date.day for one in history.read(NightRecord)] == [2, 3]
    assert history.prune(before=DAY) == 0


def test_what_cannot_be_written_fails_nobody(tmp_path):
    from ltr_pipeline.storage.local import LocalStorage

    (tmp_path / "file").write_text("")
    assert not remember(LocalStorage(tmp_path / "file"), night())
    assert remember(LocalStorage(tmp_path / "folder"), night())


@given(st.text(max_size=40), st.floats(min_value=1, max_value=999, allow_nan=False))
def test_any_version_makes_a_part_of_a_key(version, age):
    part = subject_of(outcomes(version, age))
    assert part not in ("", ".", "..")
    assert "/" not in part


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_a_record_says_what_kind_it_is(record):
    assert msgspec.json.decode(msgspec.json.encode(record))["kind"] == type(record).__struct_config__.tag
