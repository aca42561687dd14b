"""Landing: ranges without gap or overlap, partitions that survive kills, manifests that account for everything."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest, read_manifest, read_quarantine
from ltr_pipeline.events.partitions import Partition, folder_of, is_backfill, landed_dates
from ltr_pipeline.events.source import Block, Range
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.schema import FEEDBACK, IMPRESSIONS, table_key
from ltr_pipeline.storage.local import LocalStorage
from support.landingkills import DAY, SINCE, landing
from support.messages import FEATURES, answered, item, line, listed, shown
from support.programs import python_path, run

BUCKETS = 4
NIGHT = night_of(DAY)


class Place:
    """A log and the data storage it lands in."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "logs" / "audit.log"
        self.log.parent.mkdir(parents=True)
        self.log.touch()
        self.data = LocalStorage(folder / "data")

    def append(self, *messages: bytes | dict[str, Any]) -> None:
        with self.log.open("ab") as file:
            file.writelines((text if isinstance(text, bytes) else line(text)) + b"\n" for text in messages)

    def land(self, day: int = 16, *, buckets: int = BUCKETS, since: dt.datetime = SINCE) -> Manifest:
        date = dt.date(2025, 7, day)
        return land(self.data, night_of(date), FileSource(self.log), load_mapping(), buckets=buckets, since=since)

    def table(self, day: int, table: str = IMPRESSIONS) -> pl.DataFrame:
        folder = folder_of(night_of(dt.date(2025, 7, day)))
        keys = [table_key(folder, table, bucket) for bucket in range(BUCKETS)]
        return pl.concat([pl.read_parquet(self.data.root / key) for key in keys])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_manifest_tells_what_landed(place: Place) -> None:
    place.append(shown(), answered(), listed(item("a"), item("b", rank_position=0)), b"{", {"message": "login"})
    place.append(shown(time="2025-06-01T00:00:00Z"), shown(features=FEATURES | {"new": 1}))
    manifest = place.land()
    assert (manifest.read, manifest.impressions, manifest.feedback) == (8, 3, 1)
    assert manifest.quarantine_reasons == {"impossible position": 1, "not JSON": 1}
    assert manifest.ignored_reasons == {"older than the window": 1, "unrelated message": 1}
    assert (manifest.quarantined, manifest.read) == (2, 8)
    assert manifest.unknown_features == ["new"]
    assert manifest.first_time == dt.datetime(2025, 7, 15, 10, 30, tzinfo=dt.UTC)
    assert manifest.last_time == dt.datetime(2025, 7, 15, 11, tzinfo=dt.UTC)
    assert manifest.range.segments[0].end == place.log.stat().st_size
    assert [record.reason for record in read_quarantine(place.data, folder_of(NIGHT))] == [
        "impossible position",
        "not JSON",
    ]
    assert read_manifest(place.data, NIGHT) == manifest


def test_tables_have_the_landed_types(place: Place) -> None:
    place.append(*(shown(case=f"case-{index}", propensity=0.5) for index in range(50)), answered())
    manifest = place.land()
    impressions = place.table(16)
    assert impressions.height == 50
    assert dict(impressions.schema) == {
        **dict.fromkeys(["query_id", "ranking_id", "item_id", "user_id", "event_id"], pl.String),
        "time": pl.Datetime("us", "UTC"),
        "position": pl.Int32,
        "protected_group": pl.String,
        "available": pl.Boolean,
        "policy": pl.String,
        "propensity": pl.Float32,
        "team": pl.String,
        "shadow": pl.Boolean,
        "as_served": pl.Boolean,
        "label": pl.Int8,
        **dict.fromkeys([f"feature_{name}" for name in FEATURES], pl.Float32),
        "source": pl.String,
        "partition": pl.Int32,
        "offset": pl.Int64,
        "item_index": pl.Int32,
    }
    feedback = place.table(16, FEEDBACK)
    assert feedback.columns == [*impressions.columns[:6], "action", "rating", *impressions.columns[-4:]]
    assert feedback.schema["rating"] == pl.Int8
    assert sum(file.rows for file in manifest.files) == 51


def test_a_query_is_in_one_bucket_in_both_tables(place: Place) -> None:
    place.append(
        *(shown(case=f"case-{index}") for index in range(50)), *(answered(case=f"case-{n}") for n in range(50))
    )
    place.land()
    buckets: dict[str, set[int]] = {}
    for table in (IMPRESSIONS, FEEDBACK):
        for bucket in range(BUCKETS):
            path = place.data.root / table_key(folder_of(NIGHT), table, bucket)
            for query in pl.read_parquet(path)["query_id"]:
                buckets.setdefault(query, set()).add(bucket)
    assert len(buckets) == 50
    assert {len(found) for found in buckets.values()} == {1}
    assert len(set.union(*buckets.values())) == BUCKETS


def test_nights_cover_the_log_without_gap_or_overlap(place: Place) -> None:
    place.append(shown(lawyer="a"))
    place.land(16)
    place.append(shown(lawyer="b"), shown(lawyer="c"))
    place.land(18)  # a night was skipped
    place.log.rename(place.log.with_name("audit.log.1"))
    place.append(shown(lawyer="d"))
    place.land(19)
    assert [place.table(day)["item_id"].to_list() for day in (16, 18, 19)] == [["a"], ["b", "c"], ["d"]]


def test_an_empty_day_is_a_partition(place: Place) -> None:
    place.append(shown())
    place.land(16)
    manifest = place.land(17)
    assert (manifest.read, manifest.quarantined, manifest.first_time) == (0, 0, None)
    assert place.table(17).height == 0
    assert len(place.table(17).columns) == 27
    assert list(partitions_for(place.data, dt.date(2025, 7, 17))) == [
        "events/date=2025-07-16/run=20250716_0215",
        "events/date=2025-07-17/run=20250717_0215",
    ]


def test_a_landed_partition_is_returned_as_it_is(place: Place) -> None:
    place.append(shown())
    manifest = place.land()
    place.append(shown())
    place.log.rename(place.log.with_name("elsewhere"))
    assert place.land(buckets=8) == manifest


def test_a_second_landing_never_touches_what_has_landed(place: Place) -> None:
    place.append(shown(), b"bad")
    manifest = place.land()
    before = files(place)
    place.append(shown())
    assert place.land(buckets=8, since=dt.datetime(2025, 7, 15, 12, tzinfo=dt.UTC)) == manifest
    assert files(place) == before
    place.data.put(f"{folder_of(NIGHT)}/impressions-000.parquet", b"")
    with pytest.raises(SourceError, match="was altered"):
        place.land(buckets=8)
    assert read_manifest(place.data, NIGHT) == manifest


def files(place: Place) -> dict[str, tuple[int, bytes]]:
    """Inode and content of every file: one that is written again has another inode."""
    keys = place.data.keys()
    return {key: ((place.data.root / key).stat().st_ino, place.data.get(key)) for key in keys}


class Overtaken(FileSource):
    """A source whose reader is overtaken by another attempt of the same run."""

    def __init__(self, place: Place, buckets: int) -> None:
        super().__init__(place.log)
        self.place, self.buckets = place, buckets

    def read(self, span: Range) -> Iterator[Block]:
        yield from super().read(span)
        self.winner = self.place.land(buckets=self.buckets)
        self.landed = files(self.place)


@pytest.mark.parametrize("buckets", [BUCKETS, 8])
def test_an_attempt_that_was_overtaken_leaves_the_partition_of_the_faster_one(place: Place, buckets: int) -> None:
    place.append(*(shown(case=f"case-{n}") for n in range(20)), b"bad")
    source = Overtaken(place, buckets)
    assert land(place.data, NIGHT, source, load_mapping(), buckets=BUCKETS, since=SINCE) == source.winner
    assert files(place) == source.landed


def test_what_else_lies_beside_the_partitions_is_none(place: Place) -> None:
    place.append(shown())
    manifest = place.land()
    strays = ["tmp", "date=garbage", "date=2025-13-45", "date=20250717", "date=2025-W29-4", "2025-07-17", "date="]
    for stray in [*strays, "date=2025-07-16/copy", "date=2025-07-17/copy", "old/date=2025-07-17"]:
        place.data.put(f"events/{stray}/manifest.json", b"{}")
    place.data.put("events/manifest.json", b"{}")
    assert landed_dates(place.data) == [DAY]
    assert not is_backfill(place.data, NIGHT)
    assert list(partitions_for(place.data, DAY)) == [folder_of(NIGHT)]
    place.append(shown())
    assert place.land(17).range.segments[0].start == manifest.range.segments[0].end


def test_an_altered_partition_is_refused(place: Place) -> None:
    place.append(shown(), b"bad")
    manifest = place.land()
    for name in ("quarantine.jsonl", "impressions-000.parquet"):
        key = f"{folder_of(NIGHT)}/{name}"
        kept = place.data.get(key)
        place.data.put(key, kept + b" ")
        with pytest.raises(SourceError, match=f"{name} was altered since it landed"):
            place.land()
        place.data.delete(key)
        with pytest.raises(SourceError, match=f"{name} is missing since it landed"):
            place.land()
        place.data.put(key, kept)
    place.data.delete(f"{folder_of(NIGHT)}/manifest.json")  # as the message says
    place.append(shown())
    assert place.land() == manifest


def test_a_retry_reads_the_range_that_was_stored(place: Place) -> None:
    place.append(shown(lawyer="a"), b"bad")
    before = place.land(buckets=8)
    folder = folder_of(NIGHT)
    place.data.delete(f"{folder}/manifest.json")
    place.append(shown(lawyer="late"))
    after = place.land(since=dt.datetime(2025, 7, 16, tzinfo=dt.UTC))
    assert after.range == before.range
    assert after.since == before.since
    assert place.table(16)["item_id"].to_list() == ["a"]
    assert {key.split("/")[-1] for key in place.data.keys(folder)} == {
        *(file.name for file in after.files),
        "range.json",
        "manifest.json",
    }


def test_a_backfill_reads_no_source(place: Place) -> None:
    place.append(shown(time="2025-07-10T10:00:00Z"))
    place.land(16)
    assert not is_backfill(place.data, night_of(dt.date(2025, 7, 16)))
    assert is_backfill(place.data, night_of(dt.date(2025, 7, 12)))
    with pytest.raises(SourceError, match="20250716_0215 has landed"):
        place.land(12)
    assert landed_dates(place.data) == [DAY]


def test_a_run_builds_from_every_partition_with_events_of_its_window(place: Place) -> None:
    place.append(shown(time="2025-07-10T10:00:00Z"))
    place.land(16)
    place.append(shown(time="2025-07-16T10:00:00Z"))
    place.land(17)
    place.append(shown(time="2025-07-17T10:00:00Z"), shown(time="2025-07-09T10:00:00Z"))
    place.land(18)

    def days(day: int, start: dt.datetime | None = None) -> list[str]:
        return [
            Partition.of_folder(folder).date.strftime("%d")
            for folder in partitions_for(place.data, dt.date(2025, 7, day), start)
        ]

    assert days(18) == ["16", "17", "18"]
    assert days(17) == ["16", "17", "18"]  # the last brought a late event
    assert days(11) == ["16", "18"]
    assert days(18, dt.datetime(2025, 7, 11, tzinfo=dt.UTC)) == ["17", "18"]
    with pytest.raises(SourceError, match=r"no landed range covers 2025-07-19.*2025-07-16 to 2025-07-18"):
        days(19)
    with pytest.raises(SourceError, match=r"no landed range covers 2025-07-01.*goes back to 2025-07-01"):
        days(1)


def test_nothing_landed_is_an_error_that_says_so(place: Place) -> None:
    with pytest.raises(SourceError, match="no landed range covers 2025-07-16; days that have landed: none"):
        partitions_for(place.data, DAY)
    with pytest.raises(SourceError, match="no events have landed for 20250716_0215"):
        read_manifest(place.data, NIGHT)


def test_a_missing_log_leaves_nothing_behind(place: Place) -> None:
    place.log.unlink()
    with pytest.raises(SourceError, match="LTR_EVENTS_PATH"):
        place.land()
    place.append(shown())
    assert place.land().impressions == 1


LINES = st.sampled_from(
    [
        shown(),
        answered(),
        listed(item("a"), {}, item("b")),
        listed(),
        b"{",
        b"",
        {"message": "x"},
        shown(time="2025-06-01T00:00:00Z"),
    ]
)


@given(nights=st.lists(st.lists(LINES, max_size=6), min_size=1, max_size=3))
def test_every_record_is_accounted_for(nights: list[list[Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("accounting"))
    for day, lines in enumerate(nights, start=16):
        place.append(*lines)
        manifest = place.land(day, buckets=2)
        expanded = sum(3 if isinstance(text, dict) and text.get("items") else text != b"" for text in lines)
        assert manifest.read == expanded
        assert manifest.read == manifest.impressions + manifest.feedback + manifest.quarantined + manifest.ignored
        assert (
            sum(manifest.quarantine_reasons.values())
            == manifest.quarantined
            == len(list(read_quarantine(place.data, manifest.partition.folder)))
        )
        assert sum(manifest.ignored_reasons.values()) == manifest.ignored
        assert sum(file.rows for file in manifest.files) == manifest.read - manifest.ignored


def test_a_killed_landing_is_repeated_to_the_same_bytes(tmp_path: Path) -> None:
    small, large, target = tmp_path / "small.log", tmp_path / "large.log", tmp_path / "killed"
    messages = [shown(case=f"case-{index % 7}", lawyer=f"l-{index}") for index in range(40)]
    small.write_bytes(b"".join(line(message) + b"\n" for message in [*messages, answered()]) + b"bad\n")
    large.write_bytes(small.read_bytes() * 300)
    target.mkdir()
    run("landingkills", target, small, large)
    for kind, log in (("step", small), ("random", large)):
        undisturbed = tmp_path / kind
        landing(undisturbed, log)
        expected = contents(undisturbed)
        killed = list(target.glob(f"{kind}-*"))
        assert len(killed) > 10
        left = 0
        for root in killed:
            left += len(contents(root)) not in (0, len(expected))
            landing(root, log)
            assert contents(root) == expected
        assert left  # some kills did leave half a partition


def contents(root: Path) -> dict[str, bytes]:
    data = LocalStorage(root)
    return {key: data.get(key) for key in data.keys("events")}


@pytest.mark.long
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    lists = (
        listed(*(item(f"l-{n}", features={"A": 0.5}) for n in range(50)), case_id=f"case-{case}") for case in range(200)
    )
    lines = b"".join(line(message) + b"\n" for message in lists)  # 10,000 impressions
    code = "import resource, sys; from pathlib import Path; from support.landingkills import landing;"
    code += "landing(Path(sys.argv[1]), Path(sys.argv[2]));"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    peaks = []
    for times in (40, 200):
        log = tmp_path / f"{times}.log"
        with log.open("wb") as file:
            for _ in range(times):
                file.write(lines)
        command = [sys.executable, "-c", code, str(tmp_path / f"data-{times}"), str(log)]
        environment = os.environ | {"PYTHONPATH": python_path()}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 125  # MB; 1,600,000 more rows are 250 MB in Arrow


def test_events_of_the_future_land_are_counted_and_keep_no_window_open(place: Place) -> None:
    place.append(
        shown(time="2025-07-15T10:00:00Z"), shown(time="2099-01-01T00:00:00Z"), answered(time="2098-01-01T00:00:00Z")
    )
    manifest = place.land(16)
    assert (manifest.impressions, manifest.feedback, manifest.future) == (2, 1, 2)
    day = dt.datetime(2025, 7, 15, 10, tzinfo=dt.UTC)
    assert (manifest.first_time, manifest.last_time) == (day, day)
    place.append(shown(time="2025-08-20T10:00:00Z"))
    place.land(17)
    after = dt.datetime(2025, 7, 16, tzinfo=dt.UTC)
    assert list(partitions_for(place.data, dt.date(2025, 7, 17), after)) == ["events/date=2025-07-17/run=20250717_0215"]


def test_however_many_unknown_features_there_are_the_manifest_names_the_first(place: Place) -> None:
    names = [f"new-{number:04}" for number in range(3000)]
    for start in range(0, 3000, 500):
        place.append(shown(features=FEATURES | dict.fromkeys(reversed(names[start : start + 500]), 1.0)))
    assert place.land().unknown_features == names[:100]


def test_a_key_of_an_item_that_hides_the_messages_is_counted(place: Place) -> None:
    place.append(listed(item("a", case_id="x"), item("b", case_id="case-1"), item("c")), listed(item("d")))
    assert place.land().shadowed == {"query_id": 1}
