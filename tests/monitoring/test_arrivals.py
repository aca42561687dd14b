"""Clocks that are off, and values of another type, in what arrived for a day."""

from __future__ import annotations

import datetime as dt

import pytest

from ltr_pipeline.events.partitions import landed
from ltr_pipeline.monitoring.arrivals import arrival_alerts
from ltr_pipeline.monitoring.drift import drift_report
from support.landing import Site
from support.messages import FEATURES, shown

DAY = dt.timedelta(days=1)
TODAY = dt.date(2025, 7, 15)
NIGHTS = (TODAY, TODAY + DAY)


def lists(count: int, day: dt.date, **context: object) -> list[dict]:
    return [shown(f"case-{day}-{n}", "l", f"{day}T10:00:00Z", **context) for n in range(count)]


@pytest.fixture
def site(tmp_path):
    """What arrived before the night of `TODAY`."""
    found = Site(tmp_path)
    found.night(TODAY, lists(100, TODAY - DAY))
    return found


def alerts(site: Site) -> list[str]:
    return [alert.what for alert in arrival_alerts(site.data, list(site.partitions(*NIGHTS)), TODAY)]


def test_a_sound_night_is_not_mentioned(site):
    site.night(TODAY + DAY, [*lists(99, TODAY), *lists(1, TODAY - 5 * DAY)])  # one is late
    assert alerts(site) == []


def test_events_of_the_future_alert(site):
    site.night(TODAY + DAY, [*lists(90, TODAY), *lists(10, TODAY + 400 * DAY)])
    (what,) = alerts(site)
    assert what == (
        "10 of 100 events that landed on 2025-07-16 are stamped more than a day in the future: they belong to no day "
        "yet"
    )


def test_events_of_long_ago_alert(site):
    site.night(TODAY + DAY, [*lists(80, TODAY), *lists(20, TODAY - 30 * DAY)])
    (what,) = alerts(site)
    assert what.startswith("20 of 100 impressions that landed on 2025-07-16 are stamped before 2025-07-12")


def test_a_first_night_may_bring_old_events(tmp_path):
    site = Site(tmp_path)
    site.night(TODAY + DAY, lists(100, TODAY - 30 * DAY))
    assert alerts(site) == []


def test_a_feature_that_has_become_text_alerts(site):
    text = lists(40, TODAY, features=FEATURES | {"S": "0.8"})
    manifest = site.night(TODAY + DAY, [*lists(60, TODAY), *text])
    assert manifest.quarantined == 40
    (what,) = alerts(site)
    assert what == (
        "S has changed its type: it is text, not a number, in 40 records that landed on 2025-07-16, and they were set "
        "aside; 60 impressions landed"
    )


def test_a_day_whose_night_has_not_come_is_not_looked_at(site):
    assert arrival_alerts(site.data, list(site.partitions(TODAY)), TODAY) == []
    assert arrival_alerts(site.data, ["events/date=2025-07-17"], TODAY) == []


def test_what_the_hours_brought_counts_together(site):
    """Not what the night of the day itself brought: that is of the day before."""
    hours = [dt.datetime.combine(TODAY, dt.time(hour, 35), dt.UTC) for hour in (3, 9, 15)]
    text = lists(30, TODAY, features=FEATURES | {"S": "0.8"})
    site.night(hours[0], [*lists(30, TODAY), *text[:10]])
    site.night(hours[1], [*lists(30, TODAY), *text[10:]])
    site.night(hours[2], lists(20, TODAY - 30 * DAY))
    last = dt.datetime.combine(TODAY + DAY, dt.time(0, 35), dt.UTC)
    site.night(last, lists(20, TODAY + 400 * DAY))
    site.night(TODAY + DAY, lists(50, TODAY + DAY))
    folders = [one.folder for one in landed(site.data)]
    future, past, kind = (alert.what for alert in arrival_alerts(site.data, folders, TODAY))
    assert future.startswith("20 of 100 events that landed on 2025-07-16 are stamped more than a day in the future")
    assert past.startswith("20 of 100 impressions that landed on 2025-07-16 are stamped before 2025-07-12")
    assert "in 30 records" in kind


def test_the_report_takes_them_up(site):
    site.night(TODAY + DAY, [*lists(90, TODAY), *lists(10, TODAY + 400 * DAY)])
    found = drift_report(site.data, site.partitions(*NIGHTS), site.mapping, TODAY)
    assert (found.status, [alert.kind for alert in found.alerts]) == ("alert", ["data"])
    assert found.reason == "90 impressions were shown on 2025-07-15; it takes 500 to compare"
