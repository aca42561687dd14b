"""What has landed is not changed without a word: altered, removed and forgotten partitions."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.errors import DatasetError, SourceError
from ltr_pipeline.events import forget as forgetting
from ltr_pipeline.events.chain import Chain, partitions_for
from ltr_pipeline.events.forget import accept, forget
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import read_manifest, read_quarantine
from ltr_pipeline.events.partitions import Partition, called, folder_of
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.signing import make_private_key, public_keys, signing_keys
from ltr_pipeline.storage.local import LocalStorage
from support.landinghistory import Killed, KilledError
from support.messages import answered, shown

FIRST = dt.date(2025, 7, 16)
DAYS = 3
START = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
BY = {"who": "ann", "why": "asked to"}
SIGNING = signing_keys(make_private_key())


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number)


class Zone:
    """A log of a few days, landed."""

    def __init__(self, root: Path, keys: tuple = ()) -> None:
        self.data, self.keys, log = LocalStorage(root / "data"), keys, root / "audit.log"
        self.chain = Chain(self.data, keys)
        root.mkdir(exist_ok=True)
        for number in range(DAYS):
            with log.open("a") as file:
                for case in range(6):
                    user = f"u-{case % 2}"
                    for item in ("a", "b"):
                        file.write(json.dumps(shown(f"c{number}-{case}", item, user_id=user)) + "\n")
                    file.write(json.dumps(answered(f"c{number}-{case}", "a", user_id=user)) + "\n")
                file.write('{"broken by": "u-1"\n')
            land(self.data, night_of(day(number)), FileSource(log), load_mapping(), buckets=2, since=START, keys=keys)

    def folder(self, number: int) -> Path:
        return self.data.root / folder_of(night_of(day(number)))

    def built(self) -> None:
        windows = Windows(cutoff=dt.datetime.combine(day(DAYS - 1), dt.time(), dt.UTC), window_days=10)
        partitions = partitions_for(self.data, day(DAYS - 1), windows.start, self.keys)
        build(self.data, "runs/r/dataset", partitions, load_mapping(), windows)

    def rows(self, table: str) -> pl.DataFrame:
        return pl.read_parquet(self.data.root / "events" / "**" / f"{table}-*.parquet", hive_partitioning=False)


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path / "zone")


def test_what_nobody_touched_is_built_and_has_no_problem(zone: Zone) -> None:
    zone.built()
    assert list(zone.chain.problems()) == []
    assert [link.manifest.previous == "" for link in zone.chain.links()] == [True, False, False]


def only(zone: Zone, number: int) -> Partition:
    """The partition of a day, of which there is one."""
    (partition,) = called(zone.data, str(day(number)))
    return partition


def rewritten(change: Callable[[pl.DataFrame], pl.DataFrame], table: str) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        for file in folder.glob(f"{table}-*.parquet"):
            change(pl.read_parquet(file, hive_partitioning=False)).write_parquet(file)

    return alter


def manifest_with(**fields: object) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return alter


ATTACKS: dict[str, Callable[[Path], None]] = {
    "impressions cut": rewritten(lambda table: table.head(1), "impressions"),
    "all feedback relabelled": rewritten(lambda table: table.with_columns(action=pl.lit("lost")), "feedback"),
    "features overwritten": rewritten(
        lambda table: table.with_columns(feature_A=pl.lit(0.5, pl.Float32)), "impressions"
    ),
    "a column dropped": rewritten(lambda table: table.drop("feature_A"), "impressions"),
    "buckets in the manifest": manifest_with(buckets=1),
    "times in the manifest": manifest_with(first_time=None),
    "counts in the manifest": manifest_with(impressions=1, read=1),
    "the manifest deleted": lambda folder: (folder / "manifest.json").unlink(),
    "the partition deleted": shutil.rmtree,
    "a table deleted": lambda folder: next(folder.glob("feedback-*")).unlink(),
    "a table truncated": lambda folder: next(folder.glob("impressions-*")).write_bytes(b"PAR1"),
}


NOTICED = [
    (attack, number)
    for attack in ATTACKS
    for number in range(DAYS)
    # Nothing has followed the newest manifest yet: only a run that has frozen its hash knows it.
    if number < DAYS - 1 or not ("manifest" in attack or "partition" in attack)
]


@pytest.mark.parametrize(("attack", "number"), NOTICED)
def test_tampering_stops_the_next_build_and_is_named(zone: Zone, attack: str, number: int) -> None:
    ATTACKS[attack](zone.folder(number))
    with pytest.raises((SourceError, DatasetError), match=r"altered|gone|missing|does not exist"):
        zone.built()
    assert list(zone.chain.problems())


def test_what_a_run_has_frozen_is_what_it_builds_from(zone: Zone) -> None:
    windows = Windows(cutoff=dt.datetime.combine(day(DAYS - 1), dt.time(), dt.UTC), window_days=10)
    partitions = partitions_for(zone.data, day(DAYS - 1), windows.start)
    manifest_with(impressions=1)(zone.folder(DAYS - 1))
    with pytest.raises(DatasetError, match="altered since the run began"):
        build(zone.data, "runs/r/dataset", partitions, load_mapping(), windows)


def test_partitions_older_than_the_window_may_go_without_a_word(zone: Zone) -> None:
    shutil.rmtree(zone.folder(0))
    assert len(Chain(zone.data).links(day(1))) == DAYS - 1
    with pytest.raises(SourceError, match=r"the partition before .* is gone; .*`ltr amend 20250717_0215"):
        zone.built()


@pytest.mark.parametrize("attack", ["impressions cut", "counts in the manifest", "the partition deleted"])
@pytest.mark.parametrize("number", [0, 1])
def test_an_operator_can_accept_what_is_there(zone: Zone, attack: str, number: int) -> None:
    ATTACKS[attack](zone.folder(number))
    if attack != "the partition deleted":
        accept(zone.data, only(zone, number), zone.chain, **BY)
    accept(zone.data, only(zone, number + 1), zone.chain, **BY)
    zone.built()
    assert list(zone.chain.problems()) == []
    (amended,) = (zone.data.root / "events/amended").iterdir()
    assert json.loads(amended.read_text())["who"] == "ann"
    amended.unlink()
    assert list(zone.chain.problems())


def test_a_missing_table_or_day_cannot_be_accepted(zone: Zone) -> None:
    ATTACKS["a table deleted"](zone.folder(1))
    with pytest.raises(SourceError, match=r"is missing .*restore it, or remove the partition's folder"):
        accept(zone.data, only(zone, 1), zone.chain, **BY)
    with pytest.raises(SourceError, match="no events have landed for 2025-07-19"):
        accept(zone.data, only(zone, 3), zone.chain, **BY)


def test_a_forgotten_user_is_nowhere_and_the_rest_stays(zone: Zone) -> None:
    before = zone.rows("impressions")
    gone = forget(zone.data, "u-1", zone.chain, **BY)
    assert [(one.impressions, one.feedback, one.quarantined) for one in gone] == [(6, 3, 1)] * DAYS
    assert b"u-1" not in b"".join(file.read_bytes() for file in zone.data.root.rglob("*") if file.is_file())
    kept = before.filter(pl.col("user_id") == "u-0").sort("source", "offset")
    assert zone.rows("impressions").sort("source", "offset").equals(kept)
    for number in range(DAYS):
        manifest = read_manifest(zone.data, night_of(day(number)))
        accounted = manifest.impressions + manifest.feedback + manifest.quarantined + manifest.forgotten
        assert manifest.read == accounted + manifest.ignored
        assert [record.excerpt for record in read_quarantine(zone.data, manifest.partition.folder)] == [
            forgetting.REMOVED
        ]
    assert list(zone.chain.problems()) == []
    zone.built()
    assert forget(zone.data, "u-1", zone.chain, **BY) == []
    assert len(forget(zone.data, "u-0", zone.chain, **BY)) == DAYS
    assert list(zone.chain.problems()) == []
    assert zone.rows("impressions").height == 0


def test_a_forget_that_was_killed_is_completed_by_the_next(zone: Zone, tmp_path: Path) -> None:
    """Every write may be the last one."""

    class Stopping(Killed):
        def delete(self, key: str) -> None:
            self.count(key)
            super().delete(key)

    calm = tmp_path / "calm"
    shutil.copytree(zone.data.root, calm)
    forget(LocalStorage(calm), "u-1", Chain(LocalStorage(calm)), **BY)
    wanted = {file.name: file.read_bytes() for file in calm.rglob("run=*/*")}
    writes = 0
    while True:
        root = tmp_path / f"killed-{writes}"
        shutil.copytree(zone.data.root, root)
        storage = Stopping(root)
        storage.left = writes
        try:
            forget(storage, "u-1", Chain(storage), **BY)
        except KilledError:
            storage.left = 1000
            forget(storage, "u-1", Chain(storage), **BY)
            assert list(Chain(storage).problems()) == []
            assert {file.name: file.read_bytes() for file in root.rglob("run=*/*")} == wanted
        else:
            break
        writes += 1
    assert writes > 5 * DAYS


def test_altered_data_is_not_rewritten_as_if_it_were_ours(zone: Zone) -> None:
    ATTACKS["impressions cut"](zone.folder(1))
    with pytest.raises(SourceError, match="was altered since it landed; restore it from a copy first"):
        forget(zone.data, "u-1", zone.chain, **BY)


def test_with_a_key_manifests_and_amendments_are_signed(tmp_path: Path) -> None:
    zone = Zone(tmp_path / "zone", SIGNING)
    readers = signing_keys("", " ".join(public_keys(SIGNING)))
    assert list(Chain(zone.data, readers).problems()) == []
    forget(zone.data, "u-1", zone.chain, **BY)
    assert list(Chain(zone.data, readers).problems()) == []
    manifest_with(impressions=1)(zone.folder(DAYS - 1))  # the newest, which nothing has followed yet
    with pytest.raises(SourceError, match="signed by none of the keys"):
        Chain(zone.data, readers).links()
    manifest_with(signature=None)(zone.folder(DAYS - 1))
    with pytest.raises(SourceError, match="is not signed, but the one before it is"):
        Chain(zone.data, readers).links()


def test_a_forged_amendment_is_refused(tmp_path: Path) -> None:
    zone = Zone(tmp_path / "zone", SIGNING)
    shutil.rmtree(zone.folder(0))
    accept(zone.data, only(zone, 1), Chain(zone.data), **BY)  # somebody without the key
    with pytest.raises(SourceError, match=r"amended/[0-9a-f]{64}\.json is signed by none"):
        Chain(zone.data, SIGNING).links()


def test_partitions_of_a_former_release_are_read_and_followed(tmp_path: Path, zone: Zone) -> None:
    for number in range(DAYS):
        file = zone.folder(number) / "manifest.json"
        fields = json.loads(file.read_text())
        for name in ("previous", "signature", "forgotten"):
            del fields[name]
        file.write_text(json.dumps(fields))
    assert list(Chain(zone.data, SIGNING).problems()) == []
    zone.built()
    land(
        zone.data,
        night_of(day(DAYS)),
        FileSource(tmp_path / "zone/audit.log"),
        load_mapping(),
        buckets=2,
        since=START,
        keys=SIGNING,
    )
    assert list(Chain(zone.data, SIGNING).problems()) == []
    manifest_with(impressions=1)(zone.folder(DAYS - 1))
    with pytest.raises(SourceError, match=re.escape("run%3D20250718_0215 was altered")):
        Chain(zone.data, SIGNING).links()
