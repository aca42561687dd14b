"""The inputs of a night among landings of the hours, and those that a former release froze."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from ltr_pipeline.events.manifest import Manifest, manifest_of
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report import diagnosis
from ltr_pipeline.report.artefacts import DATASET, INPUTS
from ltr_pipeline.runs import extract as landings
from ltr_pipeline.runs.run import Json, Run
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from support.former import former_site
from support.messages import shown
from support.small import DAY, LENIENT, NIGHT, moment, simulate, small_settings

HOUR = dt.timedelta(hours=1)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)


def extract(settings: Settings, date: dt.date = NIGHT) -> Json:
    return nightly.extract_events({"moment": moment(date)}, LENIENT, settings)


def test_a_night_counts_what_the_hours_before_it_landed(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    simulate(tmp_path)
    first = extract(settings)
    hours = [night_of(NIGHT) + n * HOUR for n in (1, 2)]
    for at in hours:
        with (tmp_path / "audit.log").open("a") as log:
            log.write("{\n" + json.dumps(shown(time=at.isoformat())) + "\n")
        landings.land(settings, at, SINCE, last_try=True)
    handed = extract(settings, NIGHT + DAY)
    inputs = Run("20250716_0215", settings).read(INPUTS)
    assert inputs.landed is not None
    assert (inputs.landed.records_quarantined, inputs.landed.impressions) == (2, 2)
    assert inputs.landings == [folder_of(at) for at in (*hours, night_of(NIGHT + DAY))]
    assert handed["counts"]["records_read"] == 4
    assert first["counts"]["impressions"] == manifest_of(settings.data, folder_of(night_of(NIGHT))).impressions


def test_a_night_that_an_hour_has_overtaken_reads_what_that_landed(tmp_path: Path) -> None:
    """It lands nothing more, and lacks nothing: its events are those before midnight, whoever landed them."""
    settings = small_settings(tmp_path)
    simulate(tmp_path)
    at = night_of(NIGHT) + HOUR
    landed = landings.land(settings, at, SINCE, last_try=True)
    landings.land(settings, at + HOUR, SINCE, last_try=True)
    assert extract(settings)["counts"]["impressions"] == landed.impressions
    inputs = Run("20250715_0215", settings).read(INPUTS)
    assert (inputs.landings, inputs.partitions) == ([folder_of(at)], [folder_of(at)])
    assert nightly.build_dataset(extract(settings), {}, settings)["counts"]["train"] > 0


def test_a_night_that_an_hour_overtakes_while_it_waits_reads_what_that_landed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_settings(tmp_path)
    simulate(tmp_path)
    at, land = night_of(NIGHT) + HOUR, landings.land

    def overtaken(*given: Any, **also: Any) -> Manifest:
        land(settings, at, SINCE, last_try=True)
        return land(*given, **also)

    monkeypatch.setattr(landings, "land", overtaken)
    assert extract(settings)["counts"]["impressions"] > 0
    assert Run("20250715_0215", settings).read(INPUTS).landings == [folder_of(at)]


def test_a_night_of_the_past_counts_nothing_as_landed(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    simulate(tmp_path)
    landings.land(settings, night_of(NIGHT) + DAY, SINCE, last_try=True)
    assert extract(settings)["counts"] == {}
    inputs = Run("20250715_0215", settings).read(INPUTS)
    assert (inputs.landed, inputs.landings, inputs.partitions) == (None, [], [folder_of(night_of(NIGHT) + DAY)])


def test_runs_of_a_former_release_are_read_and_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their inputs name partitions by date alone, and no landings."""
    monkeypatch.chdir(former_site(tmp_path))
    settings = load_settings(events_path="audit.log", data_uri="data", registry_uri="registry", buckets=1)
    run = Run("20250717_0215", settings)
    frozen = settings.data.get(run.key("inputs.json"))
    date, inputs = dt.date(2025, 7, 17), run.read(INPUTS)
    assert inputs.landings == ["events/date=2025-07-17"]
    handed = nightly.extract_events({"moment": moment(date)}, {}, settings)
    assert handed["counts"]["impressions"] == 12
    built = nightly.build_dataset(handed, {}, settings)
    assert built["run"] == "20250717_0215"
    assert run.read(DATASET).impressions.landed == 36
    assert json.loads(frozen)["partitions"] == inputs.partitions
    assert diagnosis.of_run(run)
