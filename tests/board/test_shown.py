"""The newest shown lists, read from what has really landed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltr_pipeline.board.shown import ITEMS, apart, newest_lists, partitions
from ltr_pipeline.errors import StorageError
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options

DAY = dt.timedelta(days=1)
FIRST = dt.datetime(2025, 7, 14, 8, tzinfo=dt.UTC)
SINCE = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def messages(lists: int, first: dt.datetime, version: str, items: int = 3, **more: object) -> Iterator[str]:
    """Lines of a log: one for each item, lists a minute apart."""
    for number in range(lists):
        at = first + number * dt.timedelta(minutes=1)
        for place in range(items):
            context = {
                "case_id": f"case-{number}",
                "lawyer_id": f"lawyer-{place}",
                "user_id": f"u-{number % 5}",
                "ranking_id": f"{version}-{number}",
                "rank_position": place + 1,
                "features": {"A": 1.0},
                "policy": version,
            }
            yield json.dumps(
                {"timestamp": at.isoformat(), "message": "match_recommendation", "context": context | more}
            )


def landed(folder: Path, day: dt.date, lines: Iterator[str]) -> LocalStorage:
    log = folder / "audit.log"
    with log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    data = LocalStorage(folder / "data")
    land(data, night_of(day), FileSource(str(log)), load_mapping(), buckets=3, since=SINCE)
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    folder = tmp_path_factory.mktemp("landed")
    landed(folder, dt.date(2025, 7, 15), messages(40, FIRST, "20250713_0215"))
    return landed(folder, dt.date(2025, 7, 16), messages(30, FIRST + DAY, "20250714_0215", items=12))


def test_the_newest_come_first_with_their_items_in_order(data: LocalStorage) -> None:
    found = newest_lists(data)
    assert len(found) == 70
    assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)
    newest = found[0]
    assert (newest.query_id, newest.version, newest.user_id) == ("case-29", "20250714_0215", "u-4")
    assert newest.items == [f"lawyer-{place}" for place in range(ITEMS)]
    assert newest.length == 12
    assert found[-1].items == ["lawyer-0", "lawyer-1", "lawyer-2"]


def test_landings_of_hours_are_looked_into_newest_first(tmp_path: Path) -> None:
    """A fortnight of days, and of hours no more than two days of them."""
    moments = [FIRST.replace(minute=35) + hours * dt.timedelta(hours=1) for hours in range(30)]
    log, data = tmp_path / "audit.log", LocalStorage(tmp_path / "data")
    for moment in moments:
        with log.open("a") as file:
            file.writelines(f"{line}\n" for line in messages(1, moment, "20250714_0215"))
        land(data, moment, FileSource(str(log)), load_mapping(), buckets=1, since=SINCE)
    assert partitions(data) == [f"{folder_of(moment)}/manifest.json" for moment in reversed(moments)]
    assert len(newest_lists(data)) == 30
    assert [one.at.hour for one in newest_lists(data, 3)] == [moment.hour for moment in reversed(moments[-3:])]
    for ahead in range(20):
        data.put(f"{folder_of(moments[0] + (ahead + 3) * DAY)}/manifest.json", b"{}")
    assert len(partitions(data)) == 14
    for ahead in range(60):
        data.put(f"{folder_of(moments[0] + 30 * DAY + ahead * dt.timedelta(hours=1))}/manifest.json", b"{}")
    assert len(partitions(data)) == 48


def test_no_more_are_read_than_wanted(data: LocalStorage) -> None:
    few = newest_lists(data, 10)
    assert [one.query_id for one in few] == [f"case-{number}" for number in range(29, 19, -1)]


def test_a_child_reads_the_same(data: LocalStorage) -> None:
    assert apart(data.uri(), S3Options()) == newest_lists(data)


def test_tests_and_shadows_were_shown_to_nobody(tmp_path: Path) -> None:
    data = landed(tmp_path, dt.date(2025, 7, 15), messages(3, FIRST, "20250713_0215", shadow=True))
    assert newest_lists(data) == []


def test_lists_without_an_id_are_told_apart_by_user_and_day(tmp_path: Path) -> None:
    old = (
        json.dumps({"event": "match", "timestamp": (FIRST + day * DAY).isoformat(), "case_id": "c", "lawyer_id": item})
        for day in (0, 1)
        for item in ("a", "b")
    )
    mapping_lines = [line[:-1] + ', "features": {"A": 1.0}, "label": 0}' for line in old]
    data = landed(tmp_path, dt.date(2025, 7, 16), iter(mapping_lines))
    assert [(one.length, one.version) for one in newest_lists(data)] == [(2, None), (2, None)]


def test_nothing_has_landed(tmp_path: Path) -> None:
    data = LocalStorage(tmp_path / "data")
    assert partitions(data) == []
    assert newest_lists(data) == []
    assert apart(data.uri(), S3Options()) == []


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    data = landed(tmp_path, dt.date(2025, 7, 15), messages(3, FIRST, "20250713_0215"))
    key = next(key for key in data.keys("events") if "impressions" in key)
    data.put(key, b"PAR1 no more")
    with pytest.raises(StorageError, match=r"impressions-.*parquet cannot be read"):
        newest_lists(data)
    with pytest.raises(StorageError, match=r"impressions-.*parquet cannot be read"):
        apart(data.uri(), S3Options())
    data.put(f"{folder_of(night_of(dt.date(2025, 7, 15)))}/manifest.json", b"{}")
    assert newest_lists(data) == []
