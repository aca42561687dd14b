"""What landed under another mapping, or is simulated where the log is not, is not mixed with what comes."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import msgspec
import pytest

from ltr_pipeline.errors import MappingError, SourceError
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.events.worlds import check_one_world
from ltr_pipeline.folders import record_of
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage
from support.messages import line, shown

MAPPING = load_mapping()
REVISED = msgspec.structs.replace(MAPPING, features=(*MAPPING.features, "N"))
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
AFTER = SINCE + dt.timedelta(days=28)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(line(shown()) + b"\n")
    return path


@pytest.fixture
def data(tmp_path: Path, log: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "data")
    for day in (14, 15):
        land(storage, night_of(dt.date(2025, 7, day)), FileSource(str(log)), MAPPING, buckets=1, since=SINCE)
        with log.open("ab") as more:
            more.write(line(shown()) + b"\n")
    return storage


def test_one_world_passes(data: LocalStorage) -> None:
    check_one_world(data, SINCE, MAPPING, simulated=False)


def test_an_empty_folder_is_any_world(tmp_path: Path) -> None:
    check_one_world(LocalStorage(tmp_path / "none"), SINCE, REVISED, simulated=True)


def test_another_mapping_is_named_with_what_to_do(data: LocalStorage) -> None:
    with pytest.raises(SourceError, match=r"2 partitions \(2025-07-14 to 2025-07-15\).* landed under another mapping"):
        check_one_world(data, SINCE, REVISED, simulated=False)
    with pytest.raises(SourceError) as error:
        check_one_world(data, SINCE, REVISED, simulated=False)
    assert f'continues = ["dc293064aaa0", "{MAPPING.sha256[:12]}"]' in str(error.value)
    assert "LTR_DATA_URI" in str(error.value)


def test_what_left_the_window_does_not_matter(data: LocalStorage) -> None:
    check_one_world(data, AFTER, REVISED, simulated=True)


DEFAULT = Path("ltr_pipeline/default_mapping.toml").read_text()


def with_continues(text: str, *hashes: str) -> str:
    return re.sub(r"^continues = .*$", f"continues = {json.dumps(hashes)}", text, flags=re.MULTILINE)


def test_a_mapping_that_continues_the_other_passes(data: LocalStorage, tmp_path: Path) -> None:
    revised = tmp_path / "mapping.toml"
    revised.write_text(with_continues(DEFAULT.replace('"C"]', '"C", "N"]'), MAPPING.sha256[:12]))
    mapping = load_mapping(revised)
    assert mapping.sha256 == REVISED.sha256, "what a mapping continues is not part of its meaning"
    check_one_world(data, SINCE, mapping, simulated=False)


@pytest.mark.parametrize("short", ["", "abc", "g" * 12, "A" * 12])
def test_what_is_no_hash_is_refused(tmp_path: Path, short: str) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(with_continues(DEFAULT, short))
    with pytest.raises(MappingError, match="continues"):
        load_mapping(file)


def test_what_landed_under_the_default_of_former_releases_stays_in_use(tmp_path: Path, log: Path) -> None:
    former = load_mapping(former_default(tmp_path))
    assert former.sha256 == "dc293064aaa0ecaed2947eec41dbbde1a14331870e95bdeb3e33d996ac052ae3"
    storage = LocalStorage(tmp_path / "data")
    land(storage, night_of(dt.date(2025, 7, 14)), FileSource(str(log)), former, buckets=1, since=SINCE)
    check_one_world(storage, SINCE, MAPPING, simulated=False)


def former_default(folder: Path) -> Path:
    """The default mapping of releases that knew neither rating nor as_served, nor the former name of a policy."""
    path = folder / "former.toml"
    former = re.sub(r"^(rating|as_served|continues) = .*\n", "", DEFAULT, flags=re.MULTILINE)
    path.write_text(former.replace(', "context.algorithm_version"', ""))
    return path


def test_simulated_and_real_are_not_mixed(data: LocalStorage, log: Path) -> None:
    with pytest.raises(SourceError, match="are real events, but the event log is simulated"):
        check_one_world(data, SINCE, MAPPING, simulated=True)
    record_of(str(log)).touch()
    check_one_world(data, SINCE, MAPPING, simulated=True)
    with pytest.raises(SourceError, match="are simulated events, but the event log is real"):
        check_one_world(data, SINCE, MAPPING, simulated=False)
