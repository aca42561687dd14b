"""The days that are looked at, and their split into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import msgspec

from ltr_pipeline.errors import DatasetError

__all__ = ["Span", "Windows", "split"]


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
        """End of the days whose attribution windows have closed, exclusive."""
        return self.cutoff - timedelta(days=self.attribution_days)


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of event time, ``[start, end)``, UTC."""

    start: datetime
    end: datetime


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
    of it together.

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
    """
    mature = len(asked)
    days = mature - next((day for day, count in enumerate(asked) if count), 0)
    held_out, valid = windows.test_days + windows.valid_days, windows.valid_days
    budget = days // 2
    if days > held_out:
        budget = max(budget, held_out)
    else:
        valid = min(valid, budget // 2)
    test = min(windows.test_days, budget - valid)
    while test < budget - valid and sum(asked[mature - test :]) < windows.min_queries:
        test += 1
    edges = [windows.start + timedelta(days=day) for day in (0, mature - test - valid, mature - test, mature)]
    train_span, valid_span, test_span = (Span(start=start, end=end) for start, end in pairwise(edges))
    return train_span, valid_span, test_span
