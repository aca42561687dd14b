"""A sample of the window's rankings, and how often each value of a feature occurs on each of its days."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.metrics.values import Scale

__all__ = ["TEST", "TRAIN", "VALID", "Column", "Window"]

TRAIN, VALID, TEST = range(3)

_SCALE_ROWS: Final = 20_000


@dataclass(frozen=True)
class Window:
    """Rankings one after the other, n rows, of training, validation and test days.

    Attributes
    ----------
    features
        float32 (n, features), NaN = missing.
    relevance
        int8 (n,).
    group
        Rows of each ranking, int (rankings,).
    day
        Day of each ranking (`date.toordinal`), int (rankings,).
    part
        `TRAIN`, `VALID` or `TEST` of each ranking, int (rankings,): later days are of later parts.
    user
        User of each test ranking as numbered by `resampling.cluster_codes`, int (test rankings,).
    as_served
        Whether the service logged the features of a ranking when it answered, bool (rankings,); None = of none.
    """

    features: NDArray[np.float32]
    relevance: NDArray[np.int8]
    group: NDArray[np.int64]
    day: NDArray[np.int64]
    part: NDArray[np.int64]
    user: NDArray[np.int64]
    as_served: NDArray[np.bool_] | None = None

    @cached_property
    def days(self) -> NDArray[np.int64]:
        """Days that have rankings, in order."""
        return np.unique(self.day)

    @cached_property
    def training_days(self) -> int:
        """How many of `days` are training days; they come first."""
        return len(np.unique(self.day[self.part == TRAIN]))

    @cached_property
    def rankings_a_day(self) -> NDArray[np.int64]:
        """Rankings of each of `days`."""
        return np.bincount(self._place, minlength=len(self.days))

    @cached_property
    def relevant(self) -> NDArray[np.bool_]:
        """Whether something came of a row, (n,)."""
        return np.asarray(self.relevance > 0)

    @cached_property
    def in_test(self) -> NDArray[np.bool_]:
        """Whether a row is one of the test days', (n,)."""
        return np.repeat(self.part == TEST, self.group)

    @cached_property
    def test_group(self) -> NDArray[np.int64]:
        """Rows of each test ranking."""
        return np.asarray(self.group[self.part == TEST])

    @cached_property
    def user_of_row(self) -> NDArray[np.int64]:
        """User of each row of the test rankings."""
        return np.asarray(np.repeat(self.user, self.test_group))

    @cached_property
    def day_and_relevance(self) -> NDArray[np.int64]:
        """Twice the place of a row's day in `days`, and one more where it is relevant, (n,)."""
        return 2 * np.repeat(self._place, self.group) + self.relevant

    @cached_property
    def served_share(self) -> float:
        """Share of the rows that are of rankings `as_served`."""
        return 0.0 if self.as_served is None else float(self.group[self.as_served].sum() / max(self.group.sum(), 1))

    @cached_property
    def others(self) -> Window:
        """The rankings that are not `as_served`."""
        if self.as_served is None:
            return self
        chosen = ~self.as_served
        rows = np.repeat(chosen, self.group)
        return Window(
            features=self.features[rows],
            relevance=self.relevance[rows],
            group=self.group[chosen],
            day=self.day[chosen],
            part=self.part[chosen],
            user=self.user[chosen[self.part == TEST]],
        )

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        return np.searchsorted(self.days, self.day)


class Column:
    """The values of one feature of a window, as codes of a `Scale` of its own.

    Attributes
    ----------
    values
        float32 (n,).
    codes
        int (n,).
    counts
        Rows by day, relevance (0, 1) and code, int (days, 2, codes).
    """

    def __init__(self, window: Window, column: int) -> None:
        self.window = window
        self.values = np.ascontiguousarray(window.features[:, column])
        self.scale = Scale(self.values[:: -(-len(self.values) // _SCALE_ROWS) or 1])
        self.codes = self.scale.codes(self.values)
        days, size = len(window.days), self.scale.size
        flat = np.bincount(window.day_and_relevance * size + self.codes, minlength=2 * days * size)
        self.counts = flat.reshape(days, 2, size)
