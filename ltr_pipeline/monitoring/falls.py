"""Whether the figures of a day fell: held against what is usual, and against what was promised.

A figure *fell* when it is lower, relative to what it is held against, by more than a share that is set, and its whole
interval lies beyond half of that share. It is held against two things, which answer two questions:

- the *days before*, as they were shown: is it as it was? Both are answers to lists in the order that people saw, so
  that position bias, which favours whatever stands on top, is in both alike.
- what the *gate* had measured for the version: is the promise kept? That was its order by answers to lists that others
  had ordered, which disfavours it. So what is shown nearly always looks better than what was promised, and staying
  above the promise proves little; a figure that falls far below it all the same is worse than it seems.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np

from ltr_pipeline.metrics.resampling import MIN_CLUSTERS
from ltr_pipeline.monitoring.records import Alert, Fall, Figure, Outcomes
from ltr_pipeline.versions.documents import is_id

__all__ = ["FALL_MAX", "FIGURES", "LEAST_DAYS", "USUAL_DAYS", "judged"]

FIGURES: Final = {
    "ndcg_at_5": "nDCG@5",
    "hit_at_3": "Hit@3",
    "conversion": "conversion",
    "satisfaction": "satisfaction",
}
"""Figures of `Outcomes`, and what people call them."""

FALL_MAX: Final = 0.2
"""Relative fall above which a figure alerts."""

USUAL_DAYS: Final = 28
"""Days before that say what is usual."""

LEAST_DAYS: Final = 7
"""So many of them must be known: with a week, its weekend is among them."""

NOTEWORTHY: Final = 0.01
"""Share of lists that a fallback ranked from which on an alert says so."""

_SURE: Final = 1.96  # standard errors to the end of a 95 % interval

Against = Literal["usual", "promised"]


def judged(
    now: Outcomes, promised: Mapping[str, Figure], former: Sequence[Outcomes], fall_max: float = FALL_MAX
) -> Outcomes:
    """Hold the figures of a day against the days before and against what the gate had measured.

    Parameters
    ----------
    promised
        By name of `FIGURES`; empty where nothing is known.
    former
        Outcomes of any days, versions and ages; those that are alike are taken.
    fall_max
        Relative fall above which a figure alerts, if its interval lies beyond half of it.
    """
    usual = {name: level for name in FIGURES if (level := _usual(now, former, name))}
    gate = {name: level for name, figure in promised.items() if name in FIGURES and (level := _level(figure))}
    falls = [*_falls(now, "usual", usual), *_falls(now, "promised", gate)]
    fell = [one for one in falls if one.share > fall_max and one.low > fall_max / 2]
    return msgspec.structs.replace(
        now,
        promised=promised.get("ndcg_at_5"),
        usual={name: level.figure for name, level in usual.items()},
        falls=falls,
        status="fell" if fell else "fine" if falls else "not_evaluable",
        reason="; ".join(_said(now, one) for one in fell) or "; ".join([] if falls else _obstacles(now, former)),
        alerts=[*now.alerts, *([_alert(now, fell, fall_max)] if fell else [])],
    )


@dataclass(frozen=True)
class _Level:
    """A figure that can be compared.

    Attributes
    ----------
    figure
        With an interval.
    value, error
        Its value, and the standard error of that.
    below, above
        From the value to the ends of its interval: of few answers the upper one is farther away.
    spread
        Standard deviation of the days that it is a mean of, beyond what chance makes of so many lists.
    """

    figure: Figure
    value: float
    error: float
    below: float
    above: float
    spread: float = 0.0


def _level(figure: Figure | None) -> _Level | None:
    """Return a figure that can be compared: a number above 0 with an interval."""
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return None
    if not all(map(math.isfinite, (figure.value, figure.low, figure.high))) or figure.low > figure.high:
        return None
    below, above = max(figure.value - figure.low, 0.0), max(figure.high - figure.value, 0.0)
    return _Level(figure, figure.value, (below + above) / (2 * _SURE), below, above)


def _usual(now: Outcomes, former: Sequence[Outcomes], name: str) -> _Level | None:
    """Return what a figure was on the days before that are like this one; None where too few of them are known.

    A day weighs by its lists. How much the days differ among each other, weekends and all, is part of the interval of a
    fall. Days that fell are no example, so that a fall is told until it ends, or the days before it are forgotten.
    """
    days = defaultdict(list)
    for one in former:
        if _is_like(one, now) and one.status != "fell" and (level := _level(getattr(one, name))):
            days[one.date].append(level)
    if len(days) < LEAST_DAYS:
        return None
    daily = [_mean(levels) for levels in days.values()]
    level = _mean(daily)
    beyond_chance = np.var([one.value for one in daily], ddof=1) - np.mean([one.error**2 for one in daily])
    spread = math.sqrt(max(float(beyond_chance), 0.0))
    return _around(level.value, math.hypot(level.error, spread / math.sqrt(len(daily))), level.figure.n, spread)


def _is_like(one: Outcomes, now: Outcomes) -> bool:
    """Tell whether a day is among those that say what is usual for another."""
    before = (now.date - one.date).days
    return 0 < before <= USUAL_DAYS and one.age_hours == now.age_hours and _line(one.version) == _line(now.version)


def _line(version: str) -> str:
    """Return what a version takes turns with: those of the registry and the legacy weights follow each other."""
    return "" if version == "legacy" or is_id(version) else version


def _mean(levels: Sequence[_Level]) -> _Level:
    """Return the mean of independent figures, each weighing by its count."""
    counts = np.array([max(one.figure.n, 1) for one in levels], dtype=np.float64)
    weights = counts / counts.sum()
    value = float(weights @ np.array([one.value for one in levels]))
    error = math.sqrt(float(weights**2 @ np.array([one.error**2 for one in levels])))
    return _around(value, error, int(counts.sum()))


def _around(value: float, error: float, n: int, spread: float = 0.0) -> _Level:
    half = _SURE * error
    return _Level(Figure(value=value, low=value - half, high=value + half, n=n), value, error, half, half, spread)


def _falls(now: Outcomes, against: Against, levels: Mapping[str, _Level]) -> Iterator[Fall]:
    """Yield how far each figure is below its level, with the interval of their ratio.

    Its ends are those of the two intervals, added as squares (Zou and Donner 2008, Statistics in Medicine 27, of the
    difference that the ratio is near its value), so that it is as uneven as they are.
    """
    for name, level in levels.items():
        figure = _level(getattr(now, name))
        if figure and level.value > 0:
            ratio, spread = figure.value / level.value, _SURE * level.spread
            up = math.hypot(figure.above, spread, ratio * level.below) / level.value
            down = math.hypot(figure.below, spread, ratio * level.above) / level.value
            yield Fall(figure=name, against=against, share=1 - ratio, low=1 - ratio - up, high=1 - ratio + down)


def _said(now: Outcomes, fall: Fall) -> str:
    figure: Figure = getattr(now, fall.figure)
    level = "that of the days before" if fall.against == "usual" else "what the gate had measured"
    interval = f"95 % interval {100 * fall.low:.0f} to {100 * fall.high:.0f} %"
    return f"{FIGURES[fall.figure]} of {figure.value:.3f} is {100 * fall.share:.0f} % below {level} ({interval})"


def _obstacles(now: Outcomes, former: Sequence[Outcomes]) -> Iterator[str]:
    """Yield why no figure could be compared."""
    if not now.lists:
        yield "no list was shown"
        return
    if not any(_level(getattr(now, name)) for name in FIGURES):
        yield f"{now.lists:,} lists of fewer than {MIN_CLUSTERS} users are too few"
        return
    days = {one.date for one in former if _is_like(one, now) and one.status != "fell"}
    yield f"{len(days)} of the {LEAST_DAYS} days before that it takes are known"
    if now.matured and is_id(now.version):
        yield "what the gate had measured for this version is not known"


def _alert(now: Outcomes, fell: Sequence[Fall], fall_max: float) -> Alert:
    early = "" if now.matured else f" after {now.age_hours:g} hours"
    what = f"Lists that {now.version} showed on {now.date}, {now.lists:,} of them, fell{early}: "
    what += "; ".join(_said(now, one) for one in fell)
    if now.fallbacks > NOTEWORTHY * now.lists:
        what += f"; {100 * now.fallbacks / now.lists:.0f} % of them a fallback had to rank"
    return Alert(
        kind="outcome" if now.matured else "early",
        subject=now.version,
        what=f"{what}. {100 * fall_max:g} % is allowed.",
        remedy=(
            "Look at the drift of that day, and at what was released or changed then; `ltr rollback` goes back to the "
            "version before."
        ),
    )
