"""How the pages write figures, days and sentences."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from ltr_pipeline.board.asked import Asked
from ltr_pipeline.board.chart import Days
from ltr_pipeline.monitoring.records import Figure
from ltr_pipeline.report.wording import NONE, Kind, figure

__all__ = ["MEASURES", "Window", "beside", "between", "count", "day_of", "short", "valued", "when", "window"]

SHORTEST: Final = 14
"""Days that a graphic shows at least, so that the first night is a dot at an end and not a whole page."""

MEASURES: Final = {
    "labels": "Relevance of the shown items",
    "positions": "Positions",
    "list_length": "Length of the lists",
    "scores": "Scores",
    "unavailable_share": "Share of unavailable items",
    "joined_share": "Share of feedback that joins",
}
"""Measures beside the features, in words."""


class Window(NamedTuple):
    """The days that are shown, and the last day of the window before and after it; None where there is nothing."""

    days: Days
    earlier: dt.date | None
    later: dt.date | None


def window(asked: Asked, dates: Iterable[dt.date]) -> Window | None:
    """Return the days that are asked for, as far as there are any; None where nothing was ever recorded."""
    known = sorted(set(dates))
    if not known:
        return None
    newest, length = known[-1], dt.timedelta(days=asked.days - 1)
    last = min(asked.until, newest) if asked.until else newest
    oldest = min(known[0], last - dt.timedelta(days=SHORTEST - 1))
    first = max(last - length, oldest)
    earlier = first - dt.timedelta(days=1) if known[0] < first else None
    later = min(newest, last + length + dt.timedelta(days=1)) if last < newest else None
    return Window(Days(first, last), earlier, later)


def valued(found: Figure | None) -> float | None:
    """Return the value of a figure, None where it has none that is finite."""
    return found.value if found and found.value is not None and math.isfinite(found.value) else None


def between(found: Figure | None, kind: Kind = "score") -> str:
    """Return an interval, such as ``0.684 to 0.740``."""
    if found is None or found.low is None or found.high is None:
        return NONE
    return f"{figure(found.low, kind)} to {figure(found.high, kind)}"


def beside(value: float, limit: float) -> str:
    """Say where a value lies beside a limit.

    >>> beside(0.71, 0.65), beside(0.6, 0.65), beside(0.65, 0.65)
    ('0.060 above', '0.050 below', 'just at')
    """
    gap = figure(abs(value - limit))
    return (
        "just at"
        if float(gap.replace("−", "-").replace(",", "")) == 0
        else f"{gap} {'above' if value > limit else 'below'}"
    )


def short(when: dt.date) -> str:
    """Return a day in short.

    >>> short(dt.date(2025, 7, 5))
    '5 Jul 2025'
    """
    return f"{when.day} {when:%b %Y}"


def when(moment: dt.datetime) -> str:
    """Return a moment to the minute, in short: ``5 Jul 2025, 02:15``."""
    return f"{short(moment.date())}, {moment.astimezone(dt.UTC):%H:%M}"


def count(number: int, one: str, many: str = "") -> str:
    """Count things.

    >>> count(1, "night"), count(1200, "list"), count(0, "day")
    ('1 night', '1,200 lists', 'no days')
    """
    word = one if number == 1 else many or f"{one}s"
    return f"{number:,} {word}" if number else f"no {word}"


def day_of(run: str) -> dt.date | None:
    """Return the day that a run or a version is named after; None where its name is none.

    >>> day_of("20250715_0215"), day_of("legacy")
    (datetime.date(2025, 7, 15), None)
    """
    try:
        return dt.datetime.strptime(run[:13], "%Y%m%d_%H%M").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None
