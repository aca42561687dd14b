"""Simulated years of a history, in which the retrain policy decides each night; ``benchmarks/retrain.py`` has many."""

from __future__ import annotations

import datetime as dt
import math
import zlib
from dataclasses import dataclass, field

import numpy as np

from ltr_pipeline.monitoring.records import Figure, NightRecord, Outcomes
from ltr_pipeline.monitoring.retrain import LOOKED_AT, Retrain, due
from support.watching import DAY

__all__ = ["RULE", "WORLDS", "World", "Year", "years"]

FIRST = dt.date(2025, 1, 1)
DAYS = 365
SD = 0.43
"""Of the nDCG@5 of a ranking, as measured (docs/gate.md)."""

QUALITY = 0.75
ATTRIBUTION, TEST, VALID = 3, 3, 2
HELD_OUT = ATTRIBUTION + TEST + VALID
TESTED = 300
LEARNED = 3
"""Changed training days from which on a model knows the new world."""

ALERT, SURE = 0.20, 0.10
HALF_WIDTH = 1.96  # of a 95 % interval, in standard errors
SOON = ATTRIBUTION + 2
RULE = Retrain(retrain="policy")


@dataclass(frozen=True)
class World:
    """What a year is like.

    Attributes
    ----------
    lists
        Eligible lists a day.
    fall
        Share of the nDCG@5 that a model loses by the change; 0 = nothing changes.
    below
        Share by which every model does worse online than the gate promised, whatever is trained.
    passes
        Share of the models that the gate lets through.
    """

    name: str
    lists: int = 400
    fall: float = 0.0
    below: float = 0.0
    passes: float = 1.0


WORLDS = (
    World("quiet"),
    World("quiet, 100 lists a day", lists=100),
    World("quiet, the gate rejects half", passes=0.5),
    World("all fall by 15 %", fall=0.15),
    World("all fall by 20 %, the threshold", fall=0.20),
    World("all fall by 25 %", fall=0.25),
    World("all fall by 35 %", fall=0.35),
    World("all fall by 35 %, 100 lists a day", lists=100, fall=0.35),
    World("always 15 % below the promise", below=0.15),
    World("always 20 % below the promise, the threshold", below=0.20),
)


@dataclass
class Year:
    """What came of it.

    Attributes
    ----------
    trainings
        Days with one, from 0.
    why
        Its reason each.
    change
        Day of the change; None without one.
    learned
        Day from which on a model is in use that has learned it.
    """

    change: int | None
    trainings: list[int] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    learned: int | None = None

    @property
    def held(self) -> bool:
        """Whether the cooldown held the training that the change asked for."""
        at = (self.change or 0) + SOON
        return any(0 < at - day < RULE.retrain_cooldown_days for day in self.trainings)

    @property
    def in_time(self) -> bool:
        """Whether there was a training for the change within attribution + 2 days."""
        change = self.change or 0
        found = zip(self.trainings, self.why, strict=True)
        return any(change < day <= change + SOON and "fell short" in why for day, why in found)

    @property
    def closest(self) -> int:
        """Fewest days from one training to the next."""
        return min(np.diff(self.trainings), default=DAYS)


def version_of(day: int) -> str:
    return f"{FIRST + day * DAY:%Y%m%d}_0215"


def lived(world: World, rng: np.random.Generator) -> Year:
    """Live a year night by night; the version in use at its beginning was trained on its first night."""
    year = Year(change=int(rng.integers(60, 300)) if world.fall else None)

    def quality(trained: int, day: int) -> float:
        """Return what a model reaches on the lists of a day."""
        if year.change is None or day < year.change or trained - HELD_OUT - year.change >= LEARNED:
            return QUALITY
        return QUALITY * (1 - world.fall)

    def promised(trained: int) -> float:
        days = range(trained - ATTRIBUTION - TEST, trained - ATTRIBUTION)
        return float(np.mean([quality(trained, day) for day in days]) + rng.normal(0, SD / math.sqrt(TESTED)))

    in_use, promises, shown = 0, {0: promised(0)}, {0: 0}
    nights, outcomes = [night(0, None, passed=True)], []
    for today in range(1, DAYS):
        day = today - 1 - ATTRIBUTION
        if day >= 0:
            made = shown[day]
            mean = rng.normal((1 - world.below) * quality(made, day), SD / math.sqrt(world.lists))
            outcomes.append(judged(day, made, mean, world.lists, promises[made]))
        recent = outcomes[-LOOKED_AT.days :]
        found = due(FIRST + today * DAY, RULE, version_of(in_use), nights[-20:], recent, held_out=HELD_OUT)
        if found.trains:
            passed = rng.random() < world.passes
            nights.append(night(today, in_use, passed=passed))
            year.trainings.append(today)
            year.why.append(found.because)
            if passed:
                in_use, promises[today] = today, promised(today)
        shown[today] = in_use
        if year.change is not None and year.learned is None and quality(in_use, DAYS) == QUALITY:
            year.learned = today
    return year


def night(day: int, before: int | None, *, passed: bool) -> NightRecord:
    run = version_of(day)
    return NightRecord(
        run=run,
        date=FIRST + day * DAY,
        verdict="publish" if passed else "keep",
        version=run if passed else None,
        moved=passed,
        champion=None if before is None else version_of(before),
    )


def judged(day: int, made: int, mean: float, lists: int, promise: float) -> Outcomes:
    half = HALF_WIDTH * SD / math.sqrt(lists)
    fell = mean < (1 - ALERT) * promise and mean + half < (1 - SURE) * promise
    return Outcomes(
        date=FIRST + day * DAY,
        version=version_of(made),
        age_hours=24.0 * ATTRIBUTION,
        matured=True,
        lists=lists,
        ndcg_at_5=Figure(value=mean, low=mean - half, high=mean + half, n=lists),
        status="fell" if fell else "fine",
    )


def years(world: World, count: int, seed: int) -> list[Year]:
    numbers = range(count)
    return [lived(world, np.random.default_rng([seed, zlib.crc32(world.name.encode()), each])) for each in numbers]
