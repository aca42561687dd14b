"""Geometry of the graphics: days across, figures upwards, both in percent, so that any width is legible.

Lines and bands are paths in a square of 1000 by 1000 that is stretched over the graphic; what must not be stretched,
dots and words, is placed in percent beside them. A figure that is not finite is as good as none.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ltr_pipeline.monitoring.records import Figure
from ltr_pipeline.report.scale import Scale

__all__ = ["Chart", "Days", "Dot", "Line", "Rule", "Tick", "alike", "levels", "ticks"]

SIDE: Final = 1000
MOST_TICKS: Final = 6
MOST_DOTS: Final = 120
"""More dots than that are a thick line."""

APART: Final = 14.0
"""Percent between two words at the top that do not touch."""

PSI_LEVELS: Final = (0.02, 0.05, 0.10)
"""From where a cell of the heat map is drawn darker: the first is above what a quiet day has by chance."""


class Tick(NamedTuple):
    """A word at a place on an axis, in percent."""

    at: str
    text: str
    anchor: str = "middle"


class Dot(NamedTuple):
    """A figure that is drawn by itself; `kind` is its look, `said` what it is."""

    x: str
    y: str
    kind: str
    said: str


class Rule(NamedTuple):
    """A moment or a day that is marked, with words at the top where they have room."""

    x: str
    kind: str
    text: str
    anchor: str = "middle"


class Line(NamedTuple):
    """A line, or with `band` the area of intervals."""

    kind: str
    path: str
    band: bool = False


@dataclass(frozen=True)
class Days:
    """The days across: both ends are shown."""

    first: dt.date
    last: dt.date

    @property
    def count(self) -> int:
        """How many days there are."""
        return (self.last - self.first).days + 1

    def at(self, day: dt.date) -> float:
        """Return where the middle of a day is, in percent.

        >>> Days(dt.date(2025, 7, 1), dt.date(2025, 7, 4)).at(dt.date(2025, 7, 2))
        37.5
        """
        return 100 * ((day - self.first).days + 0.5) / self.count

    def ticks(self) -> Iterator[Tick]:
        """Yield words for some of the days: each day, each week, or the first day of months."""
        step = max(1, math.ceil(self.count / MOST_TICKS))
        step = step if step < 5 else 7 * math.ceil(step / 7)
        for number in range(0, self.count, step):
            day = self.first + dt.timedelta(days=number)
            place = self.at(day)
            anchor = "start" if place < 5 else "end" if place > 95 else "middle"
            yield Tick(f"{place:.1f}%", f"{day.day} {day:%b}", anchor)


def ticks(scale: Scale, most: int = 4) -> list[float]:
    """Return round values inside a scale.

    >>> ticks(Scale(0.61, 0.75))
    [0.65, 0.7, 0.75]
    """
    rough = (scale.high - scale.low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.ceil(scale.low / step - 1e-9)
    found = [round(number * step, 10) for number in range(first, first + 2 * most + 2)]
    return [value for value in found if value <= scale.high + step * 1e-9]


def alike(values: Sequence[float]) -> list[str]:
    """Write values of an axis with as many decimals as the one that needs most.

    >>> alike([4.0, 4.25, 4.5])
    ['4.00', '4.25', '4.50']
    """
    digits = max((len(f"{value:.6f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return [f"{value:.{digits}f}" for value in values]


@dataclass
class Chart:
    """A graphic over days, with all it shows in words: a sentence for its label, a table for who cannot see it.

    Attributes
    ----------
    title, about
        Caption, and the sentence that a screen reader says in place of the graphic.
    heads, rows
        The table: the first cell of a row is its heading.
    legend
        Kind of line or dot, and what it stands for.
    """

    title: str
    about: str
    days: Days
    scale: Scale
    written: list[Tick] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    limits: list[Tick] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    def write(self, shares: bool = False) -> None:
        """Write the axis of values, shares in percent."""
        values = ticks(self.scale)
        words = [f"{word} %" for word in alike([100 * value for value in values])] if shares else alike(values)
        self.written = [Tick(self.y(value), word) for value, word in zip(values, words, strict=True)]

    def x(self, day: dt.date) -> str:
        """Return where a day is, in percent."""
        return f"{self.days.at(day):.1f}%"

    def y(self, value: float) -> str:
        """Return where a value is from the top, in percent."""
        return f"{self._down(value) / SIDE * 100:.1f}%"

    def line(self, kind: str, values: Iterable[tuple[dt.date, float | None]]) -> None:
        """Draw a line through the known values, broken where a day lacks one."""
        path, pen_down, before = [], False, None
        for day, value in values:
            if value is None or not math.isfinite(value):
                pen_down = False
                continue
            joined = pen_down and before is not None and (day - before).days <= 1
            path.append(f"{'L' if joined else 'M'}{self._across(day)} {self._down(value)}")
            if not joined:
                path.append("h0")  # a day by itself is a dot
            pen_down, before = True, day
        if path:
            self.lines.append(Line(kind, "".join(path)))

    def band(self, kind: str, figures: Iterable[tuple[dt.date, Figure | None]]) -> None:
        """Draw intervals as an area, one piece for each stretch of days that have them."""
        stretch: list[tuple[int, int, int]] = []
        path, before = [], None
        for day, figure in [*figures, (self.days.last, None)]:
            low, high = (figure.low, figure.high) if figure else (None, None)
            known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
            if stretch and (not known or before is None or (day - before).days > 1):
                path.append(_area(stretch))
                stretch = []
            if known and low is not None and high is not None:
                stretch.append((self._across(day), self._down(high), self._down(low)))
                before = day
        if path:
            self.lines.insert(0, Line(kind, "".join(path), band=True))

    def dot(self, day: dt.date, value: float, kind: str, said: str) -> None:
        """Draw one figure by itself."""
        if math.isfinite(value):
            self.dots.append(Dot(self.x(day), self.y(value), kind, said))

    def limit(self, value: float | None, text: str) -> None:
        """Draw a threshold across."""
        if value is not None and math.isfinite(value):
            self.limits.append(Tick(self.y(value), text))

    def rule(self, day: dt.date, kind: str, text: str) -> None:
        """Mark a day; its words are left out where they would touch the ones before."""
        if not self.days.first <= day <= self.days.last:
            return
        place = self.days.at(day)
        taken = [float(rule.x.rstrip("%")) for rule in self.rules if rule.text]
        free = all(abs(place - other) >= APART for other in taken)
        anchor = "start" if place < APART else "end" if place > 100 - APART else "middle"
        self.rules.append(Rule(f"{place:.1f}%", kind, text if free else "", anchor))

    def _across(self, day: dt.date) -> int:
        return round(self.days.at(day) * SIDE / 100)

    def _down(self, value: float) -> int:
        share = (value - self.scale.low) / (self.scale.high - self.scale.low)
        return round(SIDE * (1 - min(1.0, max(0.0, share))))


def _area(stretch: Sequence[tuple[int, int, int]]) -> str:
    """Return the outline of intervals: along their upper ends and back along their lower ones."""
    if len(stretch) == 1:  # a day by itself is a bar as wide as can be seen
        (across, high, low) = stretch[0]
        stretch = [(across - 4, high, low), (across + 4, high, low)]
    there = [f"{across} {high}" for across, high, _ in stretch]
    back = [f"{across} {low}" for across, _, low in reversed(stretch)]
    return f"M{'L'.join(there)}L{'L'.join(back)}Z"


def levels(values: Iterable[float | None], limits: Sequence[float] = PSI_LEVELS) -> list[int | None]:
    """Return how dark each value is drawn: 0 = not at all; None where there is no value.

    >>> levels([0.0, 0.03, 0.2, None])
    [0, 1, 3, None]
    """
    return [None if value is None else sum(value >= limit for limit in limits) for value in values]
