"""What landed and what was refused, on the command line."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from support.commands import ltr, project

FIRST, SECOND = dt.date(2025, 7, 16), dt.date(2025, 7, 17)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
SHOWN = {
    "timestamp": "2025-07-15T10:30:00Z",
    "message": "match_recommendation",
    "context": {"case_id": "c", "lawyer_id": "l", "rank_position": 1, "features": {"A": 1.0, "new": 2.0}},
}
BROKEN = b'{"torn": "[/red] [bold]'


def write(folder: Path, *lines: bytes | dict[str, Any]) -> None:
    log = folder / "logs" / "audit.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as file:
        file.writelines((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def night(folder: Path, date: dt.date) -> Manifest:
    return at(folder, night_of(date))


def at(folder: Path, moment: dt.datetime) -> Manifest:
    source = FileSource(folder / "logs" / "audit.log")
    return land(LocalStorage(folder / "data"), moment, source, load_mapping(), buckets=1, since=SINCE)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    project(tmp_path, monkeypatch)
    write(tmp_path, SHOWN, BROKEN, {"message": "login"}, SHOWN | {"context": {}})
    return night(tmp_path, FIRST)


def test_a_night_shows_its_manifest_and_its_quarantine(manifest: Manifest, tmp_path: Path) -> None:
    done = ltr("events", "2025-07-16")
    assert (done.code, done.err) == (0, "")
    assert "4 records read: 1 impressions, 0 interactions, 2 quarantined, 1 ignored" in done.out
    assert "The mapping does not list these features: new." in done.out
    assert ["quarantined", "not", "JSON", "1"] in done.words
    assert ["ignored", "unrelated", "message", "1"] in done.words
    log = str(tmp_path / "logs" / "audit.log")
    assert f"from byte 0 to {manifest.range.segments[0].end:,}" in done.out
    assert "The first 2 of 2 quarantined records:" in done.out
    (refused,) = (line for line in done.out.splitlines() if "torn" in line)
    assert refused.startswith(f"{log}:{len(json.dumps(SHOWN)) + 1} ")
    assert "not JSON" in refused
    assert BROKEN.decode() in refused  # as it is, not as markup


def test_the_quarantine_is_printed_up_to_a_limit(manifest: Manifest) -> None:
    one = ltr("events", "2025-07-16", "--limit", "1")
    assert "The first 1 of 2 quarantined records:" in one.out
    none = ltr("events", "2025-07-16", "--limit", "0")
    assert "torn" not in none.out
    assert ltr("events", "2025-07-16", "--limit", "-1").code == 2


def test_the_manifest_for_machines(manifest: Manifest, tmp_path: Path) -> None:
    stored = json.loads(
        (tmp_path / "data" / "events" / "date=2025-07-16" / "run=20250716_0215" / "manifest.json").read_bytes()
    )
    assert ltr("events", "2025-07-16", "--json").json == stored
    assert stored["read"] == stored["impressions"] + stored["feedback"] + stored["quarantined"] + stored["ignored"]


def test_a_day_of_several_landings_is_shown_whole_and_each_by_its_run(manifest: Manifest, tmp_path: Path) -> None:
    write(tmp_path, SHOWN, b"[]")
    at(tmp_path, night_of(FIRST) + dt.timedelta(hours=1))
    day = ltr("events", "2025-07-16")
    assert "6 records read: 2 impressions, 0 interactions, 3 quarantined, 1 ignored" in day.out
    assert ["20250716_0215", "4", "1", "0", "2", "1"] in day.words
    assert ["20250716_0315", "2", "1", "0", "1", "0"] in day.words
    assert "The first 3 of 3 quarantined records:" in day.out
    whole = ltr("events", "2025-07-16", "--json").json
    assert (whole["read"], whole["quarantine_reasons"]["not an object"]) == (6, 1)
    assert {name.rsplit("/", 1)[0][-4:] for name in (file["name"] for file in whole["files"])} == {"0215", "0315"}
    run = ltr("events", "20250716_0315")
    assert "2 records read: 1 impressions, 0 interactions, 1 quarantined, 0 ignored" in run.out
    assert "from byte" in run.out
    assert ltr("events", "20250716_0315", "--json").json["run_at"] == "2025-07-16T03:15:00Z"
    accepted = ltr("amend", "2025-07-16", "--reason", "restored by hand").out
    assert [word for word in accepted.split() if word.startswith("2025")] == ["20250716_0215", "20250716_0315"]
    assert ltr("amend", "20250716_0415", "--reason", "x").code == 2


def test_without_a_date_everything_that_landed_is_listed(manifest: Manifest, tmp_path: Path) -> None:
    write(tmp_path, SHOWN, SHOWN)
    night(tmp_path, SECOND)
    header, first, second = ltr("events").words
    assert header[:3] == ["Landing", "Read", "Impressions"]
    assert first == ["20250716_0215", "4", "1", "0", "2", "1"]
    assert second == ["20250717_0215", "2", "2", "0", "0", "0"]


@pytest.mark.parametrize(
    ("date", "problem"),
    [
        ("2025-07-20", "no events have landed for 2025-07-20; days that have: 2025-07-16 to 2025-07-16 (1)"),
        ("2025-7-16", "is no day"),
        ("yesterday", "write it as 2025-07-15"),
        ("../..", "is no day"),
    ],
)
def test_a_day_that_did_not_land_or_is_none_ends_with_2_and_one_line(
    manifest: Manifest, date: str, problem: str
) -> None:
    done = ltr("events", date)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert problem in line


def test_an_altered_manifest_is_one_line(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "data" / "events" / "date=2025-07-16" / "run=20250716_0215" / "manifest.json").write_text("{")
    for arguments in (["events", "2025-07-16"], ["events"]):
        done = ltr(*arguments)
        assert done.code == 2
        (line,) = done.err.splitlines()
        assert "was altered" in line


def test_what_has_landed_is_verified_forgotten_and_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    monkeypatch.setenv("LTR_DATA_URI", str(tmp_path / "data"))
    write(tmp_path, SHOWN, SHOWN | {"context": SHOWN["context"] | {"user_id": "u-7", "lawyer_id": "m"}})
    night(tmp_path, FIRST)
    night(tmp_path, SECOND)
    assert ltr("verify", "--data").words[-1] == ["landed", "partitions", "ok"]
    forgotten = ltr("forget", "u-7", "--reason", "asked to")
    assert forgotten.words[1] == ["20250716_0215", "1", "0", "0"]
    assert "Removed from 1 partitions" in forgotten.out
    assert ltr("verify", "--data").code == 0
    (tmp_path / "data" / "events" / f"date={FIRST}" / "run=20250716_0215" / "quarantine.jsonl").write_text("altered")
    broken = ltr("verify", "--data")
    assert broken.code == 1
    assert "BROKEN" in broken.out
    assert ltr("amend", "someday", "--reason", "x").code == 2
    assert "accepted as it is" in ltr("amend", str(FIRST), "--reason", "restored by hand").out
    assert ltr("verify", "--data").code == 0
