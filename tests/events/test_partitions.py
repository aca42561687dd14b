"""Partitions by moment: several a day beside those of releases that landed once a night, in one chain."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltr_pipeline.errors import BusyError, NotFoundError, SourceError
from ltr_pipeline.events.chain import Chain, arrived, partitions_for
from ltr_pipeline.events.forget import accept, forget
from ltr_pipeline.events.landing import LEASE, cursor, land
from ltr_pipeline.events.manifest import Manifest, manifest_of, read_manifest, read_quarantine, together
from ltr_pipeline.events.partitions import (
    Partition,
    called,
    folder_of,
    is_backfill,
    landed,
    landed_at,
    landed_dates,
    newest,
    newest_first,
    reaching,
)
from ltr_pipeline.events.source import Block, Range
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.signing import signing_keys
from ltr_pipeline.storage.lease import Terms, held
from ltr_pipeline.storage.local import LocalStorage
from support.former import FORMER, former_site
from support.landing import Site
from support.landinghistory import History
from support.landingstops import stopped_before_its_manifest
from support.messages import answered, shown

DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
TODAY = dt.date(2025, 7, 16)
NIGHT = night_of(TODAY)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
BY = {"who": "ann", "why": "asked to"}


def hour(number: int, date: dt.date = TODAY) -> dt.datetime:
    """The moment of an hourly run, 35 minutes past."""
    return dt.datetime.combine(date, dt.time(number, 35), dt.UTC)


def at(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def items(site: Site, folders: Iterator[str] | list[str]) -> list[list[str]]:
    """The items that were shown, of each partition."""
    return [
        sorted(
            name
            for path in (site.data.root / folder).glob("impressions-*")
            for name in pl.read_parquet(path, hive_partitioning=False)["item_id"].to_list()
        )
        for folder in folders
    ]


# ---- names and listing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    [
        "events/date=2025-13-45",
        "events/date=2025-07-16/run=20250717_0215",
        "events/date=2025-07-16/run=20250716_2515",
        "events/date=2025-07-16/run=20250716_0215_2",
        "events/date=2025-07-16/copy",
        "events/2025-07-16",
    ],
)
def test_what_is_no_folder_of_a_partition(folder: str, site: Site) -> None:
    with pytest.raises(ValueError, match=r"is no folder of a partition|not of that day|month must|is no minute"):
        Partition.of_folder(folder)
    site.data.put(f"{folder}/manifest.json", b"{}")
    assert landed(site.data) == []
    assert landed_dates(site.data) == []


def test_a_name_leads_back_to_its_partition() -> None:
    for partition in (Partition.at(hour(9)), Partition.of_night(TODAY)):
        assert Partition.of_folder(partition.folder) == partition
    assert Partition.at(NIGHT).moment == Partition.of_night(TODAY).moment
    moment = dt.datetime(2025, 7, 16, 1, 15, 30, tzinfo=dt.timezone(2 * HOUR))
    assert Partition.at(moment).name == "20250715_2315"


def test_days_are_listed_when_they_are_come_to(site: Site) -> None:
    """Who needs the newest looks into no other day."""

    class Listed(LocalStorage):
        def __init__(self, root: Path) -> None:
            super().__init__(root)
            self.asked: list[str] = []

        def keys(self, prefix: str = "") -> list[str]:
            self.asked.append(prefix)
            return super().keys(prefix)

    for ahead in range(4):
        site.night(NIGHT + ahead * DAY, [shown()])
        site.night(hour(9, (NIGHT + ahead * DAY).date()), [shown()])
    data = Listed(site.data.root)
    last = newest(data)
    assert last is not None
    assert (last.moment, data.asked) == (hour(9, dt.date(2025, 7, 19)), ["events/date=2025-07-19"])
    assert landed_dates(data, 2) == [dt.date(2025, 7, 18), dt.date(2025, 7, 19)]
    assert [one.moment for one in newest_first(data)] == sorted((one.moment for one in landed(data)), reverse=True)
    assert [one.moment.hour for one in reaching(data, dt.date(2025, 7, 20))] == [9, 2, 9]


def test_partitions_are_called_by_day_or_run(site: Site) -> None:
    first, second = site.night(NIGHT, [shown()]), site.night(hour(9), [shown()])
    assert called(site.data, "2025-07-16") == [first.partition, second.partition]
    assert called(site.data, "20250716_0935") == [second.partition]
    for name in ("2025-07-17", "20250716_0835"):
        with pytest.raises(SourceError, match=rf"landed for {name}; days that have: 2025-07-16 to 2025-07-16 \(1\)"):
            called(site.data, name)
    for name in ("someday", "2025-07-16_0215", ""):
        with pytest.raises(SourceError, match="is no day and no run"):
            called(site.data, name)


def test_a_partition_that_is_gone_is_not_there(site: Site) -> None:
    with pytest.raises(NotFoundError):
        manifest_of(site.data, folder_of(NIGHT))
    assert newest(site.data) is None
    assert landed_at(site.data, NIGHT) is None


# ---- several landings a day -----------------------------------------------------------------------------------------


def test_a_night_and_the_hours_stand_side_by_side(site: Site) -> None:
    site.night(NIGHT, [shown(lawyer="a")])
    for number in range(3, 24):
        site.night(hour(number), [shown(lawyer=f"b{number:02}")])
    site.night(night_of(dt.date(2025, 7, 17)), [shown(lawyer="c")])
    found = [one.folder for one in landed(site.data)]
    assert len(found) == 23
    assert items(site, found) == [["a"], *([f"b{number:02}"] for number in range(3, 24)), ["c"]]
    assert list(Chain(site.data).problems()) == []
    links = Chain(site.data).links()
    assert [link.manifest.previous for link in links] == ["", *(link.sha256 for link in links[:-1])]


def test_a_retry_gives_the_same_partition_whatever_came_since(site: Site) -> None:
    before = site.night(hour(3), [shown(lawyer="a"), "{"])
    site.night(hour(4), [shown(lawyer="b")])
    assert site.land(hour(3)) == before
    assert site.land(hour(3) + dt.timedelta(seconds=40)) == before
    assert site.land(hour(3).astimezone(dt.timezone(5 * HOUR))) == before


def test_a_run_before_the_newest_landing_lands_nothing(site: Site) -> None:
    site.night(hour(3), [shown()])
    assert not is_backfill(site.data, hour(3))
    assert not is_backfill(site.data, hour(4))
    assert is_backfill(site.data, NIGHT)
    with pytest.raises(SourceError, match="20250716_0335 has landed already: a run of 20250716_0215 builds from what"):
        site.land(NIGHT)
    assert len(landed(site.data)) == 1


LAPSES: Final = Terms(lasts=0.2, longest=0.0)
"""Of a lease that is not renewed, as if its holder took longer than it may have it."""

OPTIONS: Final[dict[str, Any]] = {"buckets": 2, "since": SINCE, "terms": LAPSES}


class Overtaken(FileSource):
    """A source whose reader takes so long that another run overtakes it."""

    def __init__(self, site: Site, moment: dt.datetime) -> None:
        super().__init__(site.log)
        self.site, self.moment = site, moment

    def read(self, span: Range) -> Iterator[Block]:
        yield from super().read(span)
        land(self.site.data, self.moment, FileSource(self.site.log), self.site.mapping, **OPTIONS)


@pytest.mark.parametrize("other", [hour(2), hour(9)])
def test_of_two_runs_that_read_the_same_one_lands_it(site: Site, other: dt.datetime) -> None:
    site.night(NIGHT, [shown(lawyer="a")])
    site.write([shown(lawyer="b")])
    with pytest.raises(BusyError, match=r"has landed while the run of 20250716_0435 read the same events"):
        land(site.data, hour(4), Overtaken(site, other), site.mapping, **OPTIONS)
    assert [one.moment for one in landed(site.data)] == [NIGHT, other]
    site.write([shown(lawyer="c")])
    if other > hour(4):
        with pytest.raises(SourceError, match="20250716_0935 has landed already"):
            site.land(hour(4))
        site.land(hour(10))
    else:
        site.land(hour(4))  # it had planned to read again what has landed
    assert items(site, [one.folder for one in landed(site.data)]) == [["a"], ["b"], ["c"]]
    assert list(Chain(site.data).problems()) == []


def test_who_lands_while_another_does_waits_or_says_who(site: Site) -> None:
    site.write([shown(lawyer="a")])
    with (
        held(site.data, LEASE, "the run 20250716_0335", Terms(lasts=30.0)),
        pytest.raises(BusyError, match=r"^the run 20250716_0335 \(process .* has the lease on .*leases/landing"),
    ):
        land(site.data, hour(4), FileSource(site.log), site.mapping, buckets=2, since=SINCE, terms=Terms(patience=0.0))
    assert landed(site.data) == []
    with ThreadPoolExecutor(4) as runs:
        list(runs.map(lambda number: _land_sometime(site, hour(number)), (4, 5, 6, 7)))
    site.write([shown(lawyer="b")])
    site.land(hour(8))
    assert items(site, [one.folder for one in landed(site.data)])[-1] == ["b"]
    assert sum(manifest_of(site.data, one.folder).read for one in landed(site.data)) == 2
    assert list(Chain(site.data).problems()) == []


def _land_sometime(site: Site, moment: dt.datetime) -> None:
    """Land, unless a later run was faster."""
    with suppress(SourceError):
        site.land(moment)


def test_a_run_that_is_stopped_right_before_its_manifest_lands_nothing_twice(site: Site) -> None:
    site.night(NIGHT, [shown(lawyer="a")])
    site.write([shown(lawyer="b")])
    with stopped_before_its_manifest(site.data.root, site.log, hour(3)) as child:
        assert folder_of(hour(3)) not in [one.folder for one in landed(site.data)]
        land(site.data, hour(4), FileSource(site.log), site.mapping, buckets=2, since=SINCE, terms=Terms(lasts=0.2))
        child.send_signal(signal.SIGCONT)
        _, told = child.communicate(timeout=60)
    assert "BusyError: 20250716_0435 has landed while the run of 20250716_0335 read the same events" in told
    assert items(site, [one.folder for one in landed(site.data)]) == [["a"], ["b"]]
    assert list(Chain(site.data).problems()) == []


def test_what_landed_in_a_stretch_of_time_is_found_by_arrival(site: Site) -> None:
    long_ago = [shown(lawyer="a", time="2025-07-02T10:00:00Z")]
    site.night(NIGHT, long_ago)
    for number in (3, 4, 5):
        site.night(hour(number), long_ago)
    assert list(arrived(site.data, hour(3), hour(5))) == [folder_of(hour(4)), folder_of(hour(5))]
    assert list(arrived(site.data, hour(5) - DAY, hour(4))) == [folder_of(one) for one in (NIGHT, hour(3), hour(4))]
    assert arrived(site.data, hour(5), hour(5) + DAY) == {}
    sums = {link.folder: link.sha256 for link in Chain(site.data).links()}
    assert arrived(site.data, NIGHT - DAY, hour(5)) == sums


def test_events_of_a_day_are_found_wherever_they_landed(site: Site) -> None:
    def on(day: int, item: str) -> dict[str, Any]:
        return shown(lawyer=item, time=f"2025-07-{day}T10:00:00Z")

    site.night(NIGHT, [on(15, "a")])
    site.night(hour(11), [on(16, "b")])
    site.night(hour(12), [on(16, "c"), on(15, "late")])
    site.night(hour(13), [])
    site.night(NIGHT + DAY, [])
    site.night(NIGHT + 2 * DAY, [on(15, "later")])
    nights = (NIGHT, NIGHT + DAY, NIGHT + 2 * DAY)
    folders = [folder_of(moment) for moment in (nights[0], hour(11), hour(12), nights[1], nights[2])]
    first, eleven, twelve, second, third = folders
    start = dt.datetime(2025, 7, 16, tzinfo=dt.UTC)
    assert list(partitions_for(site.data, dt.date(2025, 7, 16))) == [first, twelve, third]
    assert list(partitions_for(site.data, dt.date(2025, 7, 17))) == [first, eleven, twelve, second, third]
    assert list(partitions_for(site.data, dt.date(2025, 7, 17), start)) == [eleven, twelve, second]
    with pytest.raises(SourceError, match="no landed range covers 2025-07-19"):
        partitions_for(site.data, dt.date(2025, 7, 19))


def test_the_account_of_several_landings_adds_up(site: Site) -> None:
    one = site.night(NIGHT, [shown(time="2025-07-15T10:00:00Z", features={"A": 1.0, "X": 1.0}), "{"])
    two = site.night(hour(9), [answered(time="2025-07-16T09:00:00Z"), {"message": "login"}, "{", "[]"])
    both = together([one, two])
    assert (both.read, both.impressions, both.feedback, both.quarantined, both.ignored) == (6, 1, 1, 3, 1)
    assert both.quarantine_reasons == {"not JSON": 2, "not an object": 1}
    assert (both.first_time, both.last_time) == (one.first_time, two.last_time)
    assert (both.unknown_features, both.unknown_kinds) == (["X"], ["login"])
    assert {site.data.exists(file.name) for file in both.files} == {True}
    assert together([one]) is one


def test_a_partition_that_was_moved_is_noticed(site: Site) -> None:
    site.night(NIGHT, [shown()])
    site.night(hour(9), [shown()])
    (site.data.root / folder_of(hour(9))).rename(site.data.root / folder_of(hour(10)))
    with pytest.raises(SourceError, match=r"is the manifest of events/date=2025-07-16/run=20250716_0935: somebody"):
        Chain(site.data).links()


def test_an_altered_hour_is_named_accepted_and_forgotten_alone(site: Site) -> None:
    for moment in (NIGHT, hour(9), hour(10)):
        site.night(moment, [shown(user_id="u-1"), shown(user_id="u-2")])
    shutil.rmtree(site.data.root / folder_of(hour(9)))
    chain = Chain(site.data)
    with pytest.raises(SourceError, match="accept what is there by `ltr amend 20250716_1035 --reason"):
        chain.links()
    (partition,) = called(site.data, "20250716_1035")
    accept(site.data, partition, chain, **BY)
    assert list(chain.problems()) == []
    gone = forget(site.data, "u-1", chain, **BY)
    assert [(one.partition.name, one.impressions) for one in gone] == [("20250716_0215", 1), ("20250716_1035", 1)]
    assert list(chain.problems()) == []
    site.night(hour(11), [shown(lawyer="after")])
    assert list(chain.problems()) == []


# ---- what former releases landed ------------------------------------------------------------------------------------

FORMER_NIGHTS = [night_of(dt.date(2025, 7, day)) for day in (15, 16, 17)]


@pytest.fixture
def former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorage:
    """What such a release left, in the working directory: its cursor names the log as ``audit.log``."""
    monkeypatch.chdir(former_site(tmp_path))
    return LocalStorage(tmp_path / "data")


def contents(storage: LocalStorage) -> dict[str, bytes]:
    keys = storage.keys()
    return {key: storage.get(key) for key in keys}


def goes_on(former: LocalStorage, moment: dt.datetime, *messages: dict[str, Any]) -> Manifest:
    with Path("audit.log").open("a") as log:
        log.writelines(json.dumps(message) + "\n" for message in messages)
    return land(former, moment, FileSource("audit.log"), load_mapping(), buckets=1, since=SINCE)


def test_what_a_former_release_landed_is_read_in_place_and_unchanged(former: LocalStorage) -> None:
    before = contents(former)
    keys = signing_keys("", (FORMER / "public_key").read_text())
    assert list(Chain(former, keys).problems()) == []
    assert [one.moment for one in landed(former)] == FORMER_NIGHTS
    assert [one.name for one in landed(former)] == ["2025-07-15", "2025-07-16", "2025-07-17"]
    assert list(partitions_for(former, dt.date(2025, 7, 17), keys=keys)) == [
        f"events/date=2025-07-{day}" for day in (15, 16, 17)
    ]
    manifest = read_manifest(former, FORMER_NIGHTS[1])
    assert (manifest.impressions, len(list(read_quarantine(former, manifest.partition.folder)))) == (12, 1)
    assert goes_on(former, FORMER_NIGHTS[2]) == read_manifest(former, FORMER_NIGHTS[2])  # the night is run again
    assert is_backfill(former, hour(1, dt.date(2025, 7, 17)))
    assert not is_backfill(former, hour(2, dt.date(2025, 7, 17)))
    assert contents(former) == before


def test_a_former_night_is_followed_by_hours_of_the_same_day(former: LocalStorage) -> None:
    moment = hour(3, dt.date(2025, 7, 17))
    end = cursor(former, "files")[0].end
    manifest = goes_on(former, moment, shown(lawyer="new", time="2025-07-17T03:00:00Z"))
    assert (manifest.impressions, manifest.range.segments[0].start) == (1, end)
    assert [one.folder for one in called(former, "2025-07-17")] == ["events/date=2025-07-17", folder_of(moment)]
    assert manifest.previous == Chain(former).links()[2].sha256
    assert goes_on(former, night_of(dt.date(2025, 7, 18))).read == 0
    keys = signing_keys("", (FORMER / "public_key").read_text())
    with pytest.raises(SourceError, match=r"run%3D20250717_0335 is not signed, but the one before it is"):
        Chain(former, keys).links()
    assert list(Chain(former).problems()) == []


def test_a_person_is_forgotten_in_what_a_former_release_landed(former: LocalStorage) -> None:
    goes_on(former, hour(3, dt.date(2025, 7, 17)), shown(user_id="u-1", time="2025-07-17T03:00:00Z"))
    gone = forget(former, "u-1", Chain(former), **BY)
    assert [one.impressions for one in gone] == [6, 6, 6, 1]
    assert list(Chain(former).problems()) == []
    assert b"run_at" not in former.get("events/date=2025-07-17/manifest.json")
    assert landed_at(former, FORMER_NIGHTS[2]) == Partition.of_night(FORMER_NIGHTS[2].date())


def test_a_night_that_a_former_release_had_planned_is_planned_anew(former: LocalStorage) -> None:
    """Its range was stored, and nothing landed: the range is made again, from where the chain ends."""
    former.delete("events/date=2025-07-17/manifest.json")
    manifest = goes_on(former, FORMER_NIGHTS[2], shown(lawyer="new"))
    assert manifest.partition == Partition.at(FORMER_NIGHTS[2])
    assert manifest.impressions == 13
    assert list(Chain(former).problems()) == []


# ---- nothing lost, nothing double ------------------------------------------------------------------------------------


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hour"), st.integers(1, 5), st.integers(0, 9)),
        st.tuples(st.just("night"), st.just(0), st.integers(0, 9)),
        st.tuples(st.just("late"), st.integers(1, 6), st.integers(0, 9)),
        st.tuples(st.just("retry"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("rotate"), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=12,
)
"""What happens, when, and before which of its writes it is killed: a landing makes 5 with one bucket, 6 is past it."""


def rotated(log: Path) -> None:
    """Rotate a log as many times as its folder has files."""
    log.rename(log.with_name(f"audit.log.{len(list(log.parent.iterdir()))}"))
    log.touch()


@example(steps=[("hour", 5, 3), ("late", 2, 9), ("retry", 1, 0)], former=False)  # planned before another landed
@example(steps=[("hour", 5, 4), ("night", 0, 9), ("retry", 1, 0)], former=True)
@given(steps=STEPS, former=st.booleans())
def test_however_runs_land_every_record_lands_once(
    steps: list[tuple[str, int, int]], former: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = Site(tmp_path_factory.mktemp("history"), buckets=1)

    def write(names: list[str]) -> None:
        site.write([shown(lawyer=name) for name in names])

    history = History(site.data.root, lambda: FileSource(str(site.log)), write, NIGHT)
    history.begin(former=former)
    for kind, when, kill in steps:
        if kind == "rotate":
            rotated(site.log)
        else:
            history.step(kind, when, kill)
    history.check()
