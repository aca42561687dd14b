"""Outcomes of real landed partitions: what counts, for which version, and what was promised."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.monitoring.outcomes import outcomes, promises_of, windows_of
from ltr_pipeline.monitoring.records import Figure, Forecast, Outcomes
from ltr_pipeline.schedule import night_of
from ltr_pipeline.simulate.log import truth, write_log
from ltr_pipeline.simulate.world import World
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.messages import answered, shown, without

MAPPING = load_mapping()
DAY = dt.date(2025, 7, 15)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
VERSION = "20250714_0215"


def at(hours: float) -> str:
    """A moment so many hours after the day began."""
    moment = dt.datetime.combine(DAY, dt.time(), dt.UTC) + dt.timedelta(hours=hours)
    return moment.isoformat()


def a_list(case: int, hours: float = 10.0, policy: str | None = VERSION, items: int = 3, **more: Any) -> list[Any]:
    about = {"ranking_id": f"r-{case}", "user_id": f"u-{case % 40}", "policy": policy} | more
    return [
        shown(f"case-{case}", f"l-{place}", at(hours), rank_position=place, **about) for place in range(1, items + 1)
    ]


def said(case: int, place: int, hours: float = 11.0, **more: Any) -> dict[str, Any]:
    return answered(f"case-{case}", f"l-{place}", at(hours), ranking_id=f"r-{case}", **more)


def landed(folder: Path, messages: Sequence[Any]) -> LocalStorage:
    """One partition, landed on the last day on which anything of these days may arrive."""
    log = folder / "audit.log"
    log.write_text("".join(json.dumps(message) + "\n" for message in messages))
    data = LocalStorage(folder / "data")
    land(data, night_of(DAY + dt.timedelta(days=5)), FileSource(str(log)), MAPPING, buckets=4, since=SINCE)
    return data


def looked_at(data: LocalStorage, day: dt.date = DAY, age_days: int | None = None, **more: Any) -> list[Outcomes]:
    windows = windows_of(day, 3 if age_days is None else min(age_days, 3))
    partitions = partitions_for(data, windows.cutoff.date(), windows.start)
    return outcomes(data, partitions, MAPPING, day, attribution_days=3, age_days=age_days, **more)


def test_the_lists_of_a_day_with_what_came_of_them(tmp_path: Path) -> None:
    """Of 40 lists half are won in the second place, and half of the users say 4."""
    messages = [row for case in range(40) for row in a_list(case)]
    messages += [said(case, 2, action="won", **({"rating": 4} if case % 4 == 0 else {})) for case in range(0, 40, 2)]
    messages += [said(case, 3, action="declined") for case in range(0, 40, 2)]
    (found,) = looked_at(landed(tmp_path, messages))
    assert (found.version, found.lists, found.age_hours, found.matured, found.unplaced) == (VERSION, 40, 72.0, True, 0)
    ndcg = (7 / np.log2(3) + 1 / 2) / (7 + 1 / np.log2(3))
    assert found.ndcg_at_5 == Figure(value=pytest.approx(ndcg), low=pytest.approx(ndcg), high=pytest.approx(ndcg), n=20)
    assert found.hit_at_3 is not None
    assert (found.hit_at_3.value, found.hit_at_3.high, found.hit_at_3.n) == (1.0, 1.0, 20)
    assert found.hit_at_3.low == pytest.approx(20 / (20 + 1.96**2)), "Wilson's, as all are alike"
    assert found.conversion is not None
    assert (found.conversion.value, found.conversion.n) == (0.5, 40)
    assert 0.33 < (found.conversion.low or 0) < 0.36
    assert found.satisfaction == Figure(value=4.0, low=4.0, high=4.0, n=10)
    assert found.status == "not_evaluable"


def test_users_are_the_unit_of_the_intervals(tmp_path: Path) -> None:
    """40 users with a list each, or 12 of whom each does the same ten times."""
    alone = [row for case in range(40) for row in a_list(case)] + [said(case, 1, action="won") for case in range(20)]
    (first,) = looked_at(landed(tmp_path, alone))
    folder = tmp_path / "repeated"
    folder.mkdir()
    again = [row for case in range(120) for row in a_list(case, user_id=f"u-{case % 12}")]
    again += [said(case, 1, action="won") for case in range(120) if case % 12 < 6]
    (second,) = looked_at(landed(folder, again))
    assert first.conversion
    assert second.conversion
    assert first.conversion.value == second.conversion.value == 0.5
    assert second.conversion.high - second.conversion.low > 1.5 * (first.conversion.high - first.conversion.low)


def test_only_the_day_and_what_comes_within_the_age_counts(tmp_path: Path) -> None:
    messages = [row for case in range(20) for row in a_list(case)]
    messages += [*a_list(90, hours=-1), *a_list(91, hours=24), *a_list(92, shadow=True), *a_list(93, available=False)]
    messages += [said(case, 1, hours=10 + 24 * days, action="won") for case, days in enumerate((0, 0.9, 1.1, 2.9, 3.1))]
    data = landed(tmp_path, messages)
    (whole,), (early,) = looked_at(data), looked_at(data, age_days=1)
    assert (whole.lists, early.lists) == (20, 20)
    assert (whole.conversion.value, early.conversion.value) == (4 / 20, 2 / 20)  # type: ignore[union-attr]
    assert (early.age_hours, early.matured) == (24.0, False)
    (before,) = looked_at(data, DAY - dt.timedelta(days=1))
    assert (before.lists, before.conversion) == (1, Figure(value=0.0, n=1))
    (later,) = looked_at(data, age_days=9)
    assert later == whole, "no look is older than the attribution window"


def test_ratings_count_beside_any_action_and_the_latest_of_an_item(tmp_path: Path) -> None:
    messages = [row for case in range(3) for row in a_list(case)]
    messages += [
        said(0, 1, 11, action="won", rating=1),
        said(0, 1, 12, action="rated", rating=5),
        without(said(1, 1, 11, rating=3), "context", "action"),
        said(1, 2, 11, action="declined", rating=2),
        said(2, 1, 10 + 73, action="rated", rating=5),
        without(said(7, 1, 11, rating=1), "context", "action"),
    ]
    (found,) = looked_at(landed(tmp_path, messages))
    assert found.satisfaction == Figure(value=pytest.approx((5 + 3 + 2) / 3), n=3)
    assert found.conversion == Figure(value=pytest.approx(1 / 3), n=3)


def test_each_version_has_its_own_outcomes(tmp_path: Path) -> None:
    messages = [row for case in range(30) for row in a_list(case, policy=VERSION if case < 20 else "legacy")]
    messages += [row for case in range(30, 35) for row in a_list(case, policy=f"{VERSION}+linear")]
    messages += [row for case in range(35, 40) for row in a_list(case, policy=f"interleave:{VERSION}:legacy")]
    messages += [row for case in range(40, 44) for row in a_list(case, policy=None)]
    found = looked_at(landed(tmp_path, messages))
    assert [(one.version, one.lists, one.fallbacks) for one in found] == [
        (VERSION, 25, 5),
        ("legacy", 10, 0),
        ("interleaved", 5, 0),
        ("unknown", 4, 0),
    ]


def test_the_former_systems_version_is_read(tmp_path: Path) -> None:
    (found,) = looked_at(landed(tmp_path, a_list(1, policy=None, algorithm_version=VERSION)))
    assert found.version == VERSION


def test_nothing_shown_is_no_record(tmp_path: Path) -> None:
    data = landed(tmp_path, a_list(1, hours=-30))
    assert outcomes(data, {}, MAPPING, DAY, attribution_days=3) == []
    assert looked_at(data) == []


def test_lists_without_feedback_or_positions(tmp_path: Path) -> None:
    (one,) = looked_at(landed(tmp_path, a_list(1)))
    assert (one.lists, one.ndcg_at_5, one.satisfaction, one.conversion) == (1, None, None, Figure(value=0.0, n=1))
    assert one.reason == "1 lists of fewer than 10 users are too few"
    folder = tmp_path / "blind"
    folder.mkdir()
    messages = [without(row, "context", "rank_position") for case in range(20) for row in a_list(case)]
    (blind,) = looked_at(landed(folder, [*messages, said(1, 1, action="won")]))
    assert (blind.unplaced, blind.ndcg_at_5, blind.lists) == (20, None, 20)
    assert blind.conversion is not None
    assert blind.conversion.value == 1 / 20


def test_a_rating_that_is_none_in_a_landed_table_does_not_count(tmp_path: Path) -> None:
    """Whoever writes partitions by himself may have written anything."""
    data = landed(tmp_path, [*a_list(1), said(1, 1, rating=5), said(1, 2, rating=4)])
    table = next(path for path in (tmp_path / "data").rglob("feedback-*.parquet") if pl.read_parquet(path).height)
    pl.read_parquet(table).with_columns(pl.Series("rating", [9, 4], pl.Int8)).write_parquet(table)
    accept(data, table)
    (found,) = looked_at(data)
    assert found.satisfaction == Figure(value=4.0, n=1)


def accept(data: LocalStorage, table: Path) -> None:
    """Let the manifest know an altered table."""
    from ltr_pipeline.events.manifest import encoded, read_manifest
    from ltr_pipeline.events.tables import file_info

    manifest = read_manifest(data, night_of(DAY + dt.timedelta(days=5)))
    files = [file_info(table, info.rows) if info.name == table.name else info for info in manifest.files]
    data.put(f"{manifest.partition.folder}/manifest.json", encoded(replace(manifest, files=files)))


def registry(folder: Path, **metrics: Any) -> Registry:
    made = Registry(LocalStorage(folder / "registry"))
    new = document()
    new = replace(new, version=VERSION, metrics=new.metrics | metrics)
    assert made.publish(new, who="test", why="test").version == VERSION
    return made


def test_what_the_gate_had_measured_stands_beside_it(tmp_path: Path) -> None:
    told = {"value": 0.9, "low": 0.85, "high": 0.95, "n": 300, "excluded": 12}
    promises = promises_of(registry(tmp_path, ndcg_at_5=told, hit_at_3=told))
    assert promises(VERSION)["ndcg_at_5"] == Figure(value=0.9, low=0.85, high=0.95, n=300)
    messages = [row for case in range(40) for row in a_list(case, items=8)]
    messages += [said(case, 7, action="won") for case in range(40)]
    data = landed(tmp_path, messages)
    (found,) = looked_at(data, promises=promises)
    assert (found.status, found.promised) == ("fell", promises(VERSION)["ndcg_at_5"])
    assert [(one.figure, one.against) for one in found.falls] == [("ndcg_at_5", "promised"), ("hit_at_3", "promised")]
    assert found.falls[0].share == 1.0
    (alert,) = found.alerts
    assert (alert.kind, alert.subject) == ("outcome", VERSION)
    (early,) = looked_at(data, age_days=1, promises=promises)
    assert (early.promised, early.falls) == (None, []), "a promise is of all feedback"


@pytest.mark.parametrize("version", ["legacy", "unknown", "20250101_0215", "../../etc", "", "20250714_0215\n"])
def test_of_what_was_never_published_nothing_was_promised(tmp_path: Path, version: str) -> None:
    assert promises_of(registry(tmp_path))(version) == {}


def test_metrics_that_are_no_figures_promise_nothing(tmp_path: Path) -> None:
    odd = {"value": None, "low": None, "high": None, "n": 0}
    promises = promises_of(registry(tmp_path, ndcg_at_5=odd, hit_at_3={"value": "high"}, conversion={}))
    assert promises(VERSION) == {}


def test_a_document_that_was_altered_promises_nothing(tmp_path: Path) -> None:
    made = registry(tmp_path)
    made.storage.put(f"{VERSION}/ltr_weights.json", b"{}")
    assert promises_of(made)(VERSION) == {}


def test_a_forecast_stands_with_the_version_that_stated_it(tmp_path: Path) -> None:
    data = landed(tmp_path, a_list(1))
    stated = Forecast(rows=100, scored=120, expected=40.0, happened=20, error=1.0, chance=4.0)
    shown_by, scored_by = looked_at(data, forecasts={"20250701_0215": stated})
    assert (shown_by.version, shown_by.forecast) == (VERSION, None)
    assert (scored_by.version, scored_by.lists, scored_by.forecast) == ("20250701_0215", 0, stated)
    assert (scored_by.status, scored_by.reason) == ("not_evaluable", "no list was shown")
    assert [alert.kind for alert in scored_by.alerts] == ["calibration"]
    (both,) = looked_at(data, forecasts={VERSION: stated})
    assert (both.lists, both.forecast) == (1, stated)
    assert looked_at(data, age_days=1, forecasts={VERSION: stated})[0].forecast is None


FIRST = dt.date(2025, 7, 7)


GOOD = World(legacy_weights=MAPPING.legacy_weights, rankings_per_day=150, start=FIRST)
TURNED = {name: -weight for name, weight in MAPPING.legacy_weights.items()}


def lived(folder: Path, worlds: Sequence[World]) -> LocalStorage:
    """What landed of days in these worlds, each night what had arrived on its day."""
    log, data = folder / "audit.log", LocalStorage(folder / "data")
    for ahead, world in enumerate(worlds):
        write_log(log, world, FIRST + dt.timedelta(days=ahead), 1, append=ahead > 0)
        date = FIRST + dt.timedelta(days=ahead + 1)
        land(data, night_of(date), FileSource(str(log)), MAPPING, buckets=2, since=SINCE)
    return data


def simulated(folder: Path, world: World) -> list[Outcomes]:
    """Outcomes of five days of a world."""
    data = lived(folder, [world] * 9)
    days = [FIRST + dt.timedelta(days=ahead) for ahead in range(5)]
    return [one for day in days for one in looked_at(data, day)]


def test_in_a_simulated_world_outcomes_follow_what_the_lists_are_worth(tmp_path: Path) -> None:
    """The same clients and lawyers, ranked by the legacy weights and by their opposite."""
    small = replace(GOOD, rated_share=0.5)
    found = {}
    for name, world in (("good", small), ("bad", replace(small, legacy_weights=TURNED))):
        folder = tmp_path / name
        folder.mkdir()
        found[name] = simulated(folder, world)
        assert [one.version for one in found[name]] == ["legacy"] * 5
        expected = truth(world, FIRST, 5)
        per_list = expected.filter("available").group_by("ranking_id").agg(pl.col("relevance").max() == 3)
        assert sum(one.lists for one in found[name]) == per_list.height
        converted = sum(one.conversion.value * one.conversion.n for one in found[name])  # type: ignore[union-attr,operator]
        assert converted == pytest.approx(per_list["relevance"].sum(), rel=0.01), "but for what came too late to land"
    for good, bad in zip(found["good"], found["bad"], strict=True):
        for name in ("ndcg_at_5", "hit_at_3", "satisfaction"):
            better, worse = getattr(good, name), getattr(bad, name)
            assert better.value > worse.value
        assert 2 < bad.satisfaction.value < good.satisfaction.value < 5  # type: ignore[union-attr,operator]


def test_lists_sorted_the_wrong_way_are_found_two_mornings_later(tmp_path: Path) -> None:
    """From the ninth day on they are shown worst first: the early look says so, and then the matured one."""
    data = lived(tmp_path, [GOOD] * 8 + [replace(GOOD, legacy_weights=TURNED)] * 4)
    told: dict[int, list[str]] = {}
    for age in (1, 3):
        former: list[Outcomes] = []
        for ahead in range(12 - age):
            former += looked_at(data, FIRST + dt.timedelta(days=ahead), age, former=former)
        told[age] = [one.status for one in former]
        assert {alert.kind for one in former for alert in one.alerts} == {"early" if age == 1 else "outcome"}
    assert told[1] == ["not_evaluable"] * 7 + ["fine"] + ["fell"] * 3
    assert told[3] == ["not_evaluable"] * 7 + ["fine"] + ["fell"]
