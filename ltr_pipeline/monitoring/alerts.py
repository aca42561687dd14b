"""Alerts that stand now, and since when: what the newest look at the data and at the outcomes found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from ltr_pipeline.monitoring.records import Alert, DriftReport, Outcomes
from ltr_pipeline.monitoring.store import History

__all__ = ["Standing", "standing"]

TOLD_AGAIN: Final = 7
"""Looks after which an alert that has not gone is told once more."""

_BACK: Final = dt.timedelta(days=60)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that stands, and for how many looks in a row, the first on `since`."""

    alert: Alert
    since: dt.date
    looks: int

    @property
    def is_news(self) -> bool:
        """Tell whether people should be told: it is new, or has stood for another week."""
        return self.looks % TOLD_AGAIN == 1


def standing(history: History, until: dt.date) -> list[Standing]:
    """Return the alerts that stood on a day, in the order they were found in.

    Data, matured outcomes and early looks are each looked at once a day, at days of their own: what the newest look at
    each of them said is what stands.
    """
    since = until - _BACK
    drift = {report.date: report.alerts for report in history.read(DriftReport, since, until)}
    outcomes = history.read(Outcomes, since, until)
    found = [
        _standing(drift),
        *(_standing(_by_day(one for one in outcomes if one.matured is matured)) for matured in (True, False)),
    ]
    return [one for part in found for one in part]


def _by_day(outcomes: Iterable[Outcomes]) -> dict[dt.date, list[Alert]]:
    days: dict[dt.date, list[Alert]] = {}
    for one in outcomes:
        days.setdefault(one.date, []).extend(one.alerts)
    return days


def _standing(looks: Mapping[dt.date, list[Alert]]) -> list[Standing]:
    days = sorted(looks, reverse=True)
    found = []
    for alert in looks[days[0]] if days else []:
        known = [day for day in days if any(_is_same(alert, other) for other in looks[day])]
        lasted = next((count for count, day in enumerate(days) if day not in known), len(days))
        found.append(Standing(alert=alert, since=days[lasted - 1], looks=lasted))
    return found


def _is_same(one: Alert, other: Alert) -> bool:
    return (one.kind, one.subject) == (other.kind, other.subject)
