"""The night that `ltr run` without a date runs, however often something has landed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from ltr_pipeline.cli.nightly import _next_day
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.jobs import nightly
from ltr_pipeline.runs import extract
from ltr_pipeline.schedule import newest_night, night_of
from ltr_pipeline.settings import Settings
from support.small import small_settings

DAY = dt.timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "audit.log").touch()
    return small_settings(tmp_path)


def newest() -> dt.date:
    return newest_night(dt.datetime.now(dt.UTC))


def lands(settings: Settings, moment: dt.datetime) -> None:
    extract.land(settings, moment, moment - 20 * DAY, last_try=True)


def test_what_the_hours_landed_is_no_night(settings: Settings) -> None:
    assert _next_day(settings) == newest()
    lands(settings, night_of(newest()) - dt.timedelta(minutes=40))
    assert _next_day(settings) == newest()
    lands(settings, night_of(newest()))
    lands(settings, night_of(newest()) + dt.timedelta(minutes=20))
    with pytest.raises(SettingsError, match=f"{newest()} is processed and the next night has not come"):
        _next_day(settings)


def test_a_night_that_an_hour_has_overtaken_is_processed_once_it_has_run(settings: Settings) -> None:
    lands(settings, night_of(newest()) + dt.timedelta(minutes=20))
    assert _next_day(settings) == newest()
    nightly.extract_events({"moment": night_of(newest()).isoformat()}, {}, settings)
    with pytest.raises(SettingsError, match="is processed"):
        _next_day(settings)


def test_a_night_that_was_run_ahead_is_the_newest(settings: Settings) -> None:
    ahead = newest() + DAY
    lands(settings, night_of(ahead))
    with pytest.raises(SettingsError, match=f"make run DATE={ahead}"):
        _next_day(settings)


def test_simulated_nights_follow_each_other(settings: Settings) -> None:
    simulated = settings.model_copy(update={"events_path": "var/simulated/audit.log"})
    assert simulated.simulated
    assert _next_day(simulated) == newest() - DAY
    lands(settings, night_of(dt.date(2025, 7, 16)))
    assert _next_day(simulated) == dt.date(2025, 7, 17)
