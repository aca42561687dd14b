"""The days that are looked at, and their split into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import msgspec

from ltr_pipeline.calendar import Occasion, weight_on
from ltr_pipeline.errors import DatasetError

__all__ = ["Span", "Windows", "since_test", "split"]


class Windows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The days that a dataset covers, whole (UTC), back from `cutoff`.

    Attributes
    ----------
    cutoff
        End of the window, exclusive; a UTC midnight.
    window_days
        Length of the window ``[cutoff - window_days, cutoff)``.
    attribution_days
        An interaction counts up to this long after its impression, inclusive; so the last days of the window are
        immature.
    test_days, valid_days
        Length of the parts that are held out.
    skew_seconds
        An interaction that seems to be older than its impression by up to this is taken for one at that moment: the two
        may be stamped by two clocks.
    min_queries
        Eligible test rankings that the test part grows back for, by the gate's policy; it does not grow for 0.
    occasions
        Declared events of these days, as they were when the run began. Rankings of days that are left out are in no
        part: a model that was not to learn from a day is not to be judged by it either, since the gate asks about
        ordinary days to come.
    known_by
        Rankings count before their attribution windows have closed, with the labels known by this moment of the last
        day; None: only those whose windows have.

    Raises
    ------
    DatasetError
        The cutoff is no UTC midnight, or the days contradict each other.
    """

    cutoff: datetime
    window_days: int = 28
    attribution_days: int = 3
    test_days: int = 3
    valid_days: int = 2
    min_queries: int = 0
    skew_seconds: float = 0.0
    occasions: tuple[Occasion, ...] = ()
    known_by: datetime | None = None

    def __post_init__(self) -> None:
        if self.cutoff.utcoffset() != timedelta(0) or self.cutoff.timetz() != time(tzinfo=UTC):
            raise DatasetError(f"the cutoff {self.cutoff.isoformat()} is not a midnight in UTC; give the day's start")
        if min(self.attribution_days, self.valid_days, self.min_queries, self.skew_seconds) < 0 or self.test_days < 1:
            raise DatasetError(f"{self}: days and counts must not be negative, and test_days at least 1")
        if self.window_days <= self.attribution_days:
            raise DatasetError(
                f"a window of {self.window_days} days is over before {self.attribution_days} days of attribution are; "
                "use a longer window"
            )

    @property
    def start(self) -> datetime:
        """First moment of the window."""
        return self.cutoff - timedelta(days=self.window_days)

    @property
    def mature_end(self) -> datetime:
        """End of the days whose attribution windows have closed, exclusive, or of all where that does not matter."""
        return self.cutoff - timedelta(days=0 if self.known_by else self.attribution_days)

    @property
    def end(self) -> datetime:
        """Return the moment after which nothing is known."""
        return self.known_by or self.cutoff

    @property
    def days(self) -> list[date]:
        """Return every day of the window, oldest first."""
        return [(self.start + timedelta(days=day)).date() for day in range(self.window_days)]

    @property
    def left_out(self) -> list[date]:
        """Return the days whose rankings are in no part, as the calendar says."""
        return [day for day in self.days if self.weight(day) == 0]

    def weight(self, day: date) -> float:
        """Return what a ranking of a day counts for in training; see `calendar.weight_on`."""
        return weight_on(day, self.occasions)


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of event time, ``[start, end)``, UTC."""

    start: datetime
    end: datetime


def since_test(windows: Windows, test_end: datetime, moment: datetime, occasions: tuple[Occasion, ...] = ()) -> Windows:
    """Return the days from the end of a night's test part up to a moment, with the labels known by then.

    Parameters
    ----------
    windows
        Those of the night.
    test_end
        End of its test part, a midnight (UTC).
    occasions
        Declared events of the days up to the moment.

    Raises
    ------
    DatasetError
        There are no more days than those of attribution: the moment is older than the night.

    Examples
    --------
    >>> night = Windows(cutoff=datetime(2025, 1, 11, tzinfo=UTC))
    >>> found = since_test(night, night.mature_end, datetime(2025, 1, 11, 10, 35, tzinfo=UTC))
    >>> f"{found.start:%d %H:%M} to {found.cutoff:%d %H:%M}, known by {found.end:%d %H:%M}"
    '08 00:00 to 12 00:00, known by 11 10:35'
    """
    utc = moment.astimezone(UTC)
    cutoff = datetime.combine(utc.date(), time(), UTC) + timedelta(days=1)
    return msgspec.structs.replace(
        windows, cutoff=cutoff, window_days=(cutoff - test_end).days, known_by=utc, occasions=occasions
    )


def split(asked: Sequence[int], windows: Windows) -> tuple[Span, Span, Span]:
    """Split the window into training, validation and test days: globally by time, oldest to newest.

    Rankings belong whole to the day they began on. A split by time answers the question that the gate asks: how will a
    model made of the past do tomorrow? A random split leaks: rankings of one query, user or moment fall on both sides,
    and what became fashionable late in the window is known early in it. Every feature was logged when its list was
    shown, or joined as of that moment, so a test ranking holds nothing newer than itself. Validation days lie between,
    since what chooses the number of trees is part of training.

    The test part is the last `test_days` mature days, or more: it grows back a day at a time until it has
    `min_queries` queries of users with an eligible ranking. Growing leaves half of the days with data, from the first
    to the last, to training. Where the data is so young that the three parts do not fit, test and validation get half
    of it together. Days that the calendar leaves out do not count: the parts reach over them.

    Parameters
    ----------
    asked
        Queries of users with an eligible ranking on each mature day of the window, oldest first.

    Examples
    --------
    Ten days, of which the last two are immature, with 60 queries each: one test day is asked for, but 100
    need two.

    >>> cutoff = datetime(2025, 1, 11, tzinfo=UTC)
    >>> ten = Windows(cutoff=cutoff, window_days=10, attribution_days=2, test_days=1, valid_days=1, min_queries=100)
    >>> [f"{span.start:%d} to {span.end:%d}" for span in split([60] * 8, ten)]
    ['01 to 06', '06 to 07', '07 to 09']

    With 20 a day the test part stops at three days: four of the eight days and one for validation are kept.

    >>> [f"{span.start:%d} to {span.end:%d}" for span in split([20] * 8, ten)]
    ['01 to 05', '05 to 06', '06 to 09']

    Where the 7th is left out, they reach a day farther back.

    >>> sale = Occasion(name="Sale", first=date(2025, 1, 7), last=date(2025, 1, 7), weight=0)
    >>> with_sale = msgspec.structs.replace(ten, occasions=(sale,))
    >>> [f"{span.start:%d} to {span.end:%d}" for span in split([60] * 6 + [0, 60], with_sale)]
    ['01 to 05', '05 to 06', '06 to 09']
    """
    first = next((day for day, count in enumerate(asked) if count), 0)
    left_out = set(windows.left_out)
    counted = [day for day, date in enumerate(windows.days[: len(asked)]) if day >= first and date not in left_out]
    days = len(counted)
    held_out, valid = windows.test_days + windows.valid_days, windows.valid_days
    budget = days // 2
    if days > held_out:
        budget = max(budget, held_out)
    else:
        valid = min(valid, budget // 2)
    test = min(windows.test_days, budget - valid)
    while test < budget - valid and sum(asked[day] for day in counted[days - test :]) < windows.min_queries:
        test += 1
    held_out_from = [*counted, len(asked)]
    inner = (held_out_from[days - test - valid], held_out_from[days - test])
    edges = [windows.start + timedelta(days=day) for day in (0, *inner, len(asked))]
    train_span, valid_span, test_span = (Span(start=start, end=end) for start, end in pairwise(edges))
    return train_span, valid_span, test_span
