"""How often the figures of shown lists alert for nothing, and how soon a fall is found.

    python benchmarks/outcomes.py [--months 200] [--trials 200] [--seed 7] [--fall-max 0.2] [--only quiet falls]

In the simulated lawyers-for-cases world a model that was trained on lists of the legacy weights orders 20,000 lists,
and clients answer what they look at. Days are drawn from these lists, with the traffic of the week, and measured and
judged by the library's own functions: matured (feedback of three days) and early (of one), each against the 28 days
before.

A first table says what the gate would have measured for the model, on lists that the legacy weights had shown, beside
what is measured once it ranks, and once something breaks. The second counts alerts in months without a change: of days
that are alike but for chance, of days that differ, with weekends on which 15 % fewer lists convert, and of days that
are alike and on which one list in twenty converts. The third changes the lists from one day on: some are shown in
random order, convert less often (of three in four, or of one in twenty), or are rated lower, so that a figure falls by
a share; it says how often an alert came by when. Found in time is by the morning that is attribution + 2 days after the
first changed day began: two matured days and four early ones. The last, of exact binomial probabilities, says how often
a forecast of scores in a database alerts.

Intervals are Clopper-Pearson's, at 95 %. Exits with 1 when there is more than one false alarm a month on average.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from common import PARAMETERS, by_legacy_weights, rate, simulated
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.monitoring.falls import FALL_MAX, USUAL_DAYS, judged
from ltr_pipeline.monitoring.forecast import foreseen
from ltr_pipeline.monitoring.outcomes import measured
from ltr_pipeline.monitoring.records import Forecast, Outcomes
from ltr_pipeline.monitoring.shown import Shown
from ltr_pipeline.simulate.draw import Visits, answers, visits
from ltr_pipeline.simulate.world import WEEKDAYS, World

LISTS = 20_000
TRAINING = 6_000
TREES = 60
EXAMINATION = (0.35, 1.0)
SIZES = (100, 300, 1000)
FALLS = (0.1, 0.15, 0.2, 0.25, 0.3)
FIGURES = ("nDCG@5", "conversion", "rare conversion", "satisfaction")
DAYS = ("alike", "differ", "alike, rare conversion")
RARE = 0.05
ATTRIBUTION = 3
MONTH = 30
HISTORIES = 20
RATED, CONTENT = 0.2, 0.25
WON = 3
AGES = {"matured": ATTRIBUTION, "early": 1}
FIRST = dt.date(2025, 6, 2)  # a Monday
VERSION = "20250601_0215"
TABLES = ("promises", "quiet", "falls", "forecasts")
EXPECTED = (10, 30, 100, 300, 1000)
HAPPENS = (1.0, 0.7, 1.3, 1.5)

Floats = NDArray[np.float64]
Order = Callable[[Visits, np.random.Generator], Floats]


class Figures(NamedTuple):
    """Of each list, by feedback of an age."""

    ndcg: Floats
    hit: Floats
    won: NDArray[np.bool_]


class Population:
    """Lists that were shown in an order, and what came of them."""

    def __init__(self, world: World, lists: int, order: Order, rng: np.random.Generator) -> None:
        self.seen = seen = visits(world, lists, rng, day=FIRST)
        self.group = seen.group.astype(np.int64)
        ranking = np.repeat(np.arange(lists), self.group)
        by_place = np.lexsort((-order(seen, rng), ranking))
        self.position = np.empty(len(ranking), np.int32)
        self.position[by_place] = np.arange(len(by_place)) - np.repeat(starts(self.group), self.group) + 1
        self.said = answers(world, seen, self.position, rng)
        self.user = seen.user.astype(np.int64)
        felt = 3 + 2 * (seen.utility - CONTENT) + 0.8 * rng.normal(size=len(ranking))
        rated = (self.said.answer >= 0) & (rng.random(len(ranking)) < RATED)
        self.rating, self.rated_list = felt.round().clip(1, 5)[rated], ranking[rated]
        self.figures = {name: self._figures(days) for name, days in AGES.items()}

    def relevance(self, days: int) -> NDArray[np.int8]:
        said, hours = self.said, 24 * days
        acts = ((said.answer, said.answer_hours), (said.outcome, said.outcome_hours))
        return np.maximum(*(np.where(after < hours, act, 0) for act, after in acts)).clip(min=0).astype(np.int8)

    def ordered(self, score: Floats, days: int = ATTRIBUTION) -> Rankings:
        return Rankings(self.relevance(days), score, self.group)

    def _figures(self, days: int) -> Figures:
        shown = self.ordered(-self.position.astype(np.float64), days)
        won = np.maximum.reduceat(shown.relevance, shown.starts) >= WON
        return Figures(quality.ndcg(shown), quality.hit(shown), won)

    def ratings_of(self, lists: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
        chosen = np.zeros(len(self.group), bool)
        chosen[lists] = True
        some = chosen[self.rated_list]
        return self.rating[some], self.user[self.rated_list[some]]


class Change(NamedTuple):
    """What is different from a day on: shares of lists shown at random, that convert no more, and fall of ratings."""

    at_random: float = 0.0
    lost: float = 0.0
    content: float = 0.0


class Scene:
    """A world with a model that ranks, and the same lists shown at random."""

    def __init__(self, examination: float, seed: int) -> None:
        world, rng = simulated(seed, examination=examination), np.random.default_rng(seed)

        def legacy(seen: Visits, rng: np.random.Generator) -> Floats:
            return by_legacy_weights(seen.features) + world.exploration * rng.normal(size=len(seen.item))

        def at_random(seen: Visits, rng: np.random.Generator) -> Floats:
            return rng.random(len(seen.item))

        learned = Population(world, TRAINING, legacy, rng)
        dataset = lgb.Dataset(
            learned.seen.features, learned.relevance(ATTRIBUTION), group=learned.group, position=learned.position
        )
        self.model = lgb.train(PARAMETERS, dataset, TREES)
        self.logged = Population(world, LISTS // 4, legacy, rng)
        self.served = Population(world, LISTS, lambda seen, _: self.model.predict(seen.features), rng)
        self.random = Population(world, LISTS, at_random, rng)

    def day(self, day: dt.date, lists: int, change: Change, rng: np.random.Generator) -> dict[str, Outcomes]:
        """Measure a day at every age."""
        count = max(1, int(rng.poisson(lists * WEEKDAYS[day.weekday()])))
        chosen = rng.choice(LISTS, count, replace=False)
        broken = rng.random(count) < change.at_random
        kept = rng.random(count) >= change.lost
        parts = [(self.served, chosen[~broken]), (self.random, chosen[broken])]
        ratings = [population.ratings_of(some) for population, some in parts]
        rating, rater = (np.concatenate(columns) for columns in zip(*ratings, strict=True))
        rating = np.maximum(rating - (rng.random(len(rating)) < change.content % 1) - change.content // 1, 1.0)
        asker = np.concatenate([population.user[some] for population, some in parts])
        found = {}
        for name, days in AGES.items():
            ndcg, hit, won = (
                np.concatenate([population.figures[name][at][some] for population, some in parts]) for at in range(3)
            )
            lists_shown = Shown(
                version=VERSION,
                asker=asker,
                fallback=np.zeros(count, bool),
                placed=np.ones(count, bool),
                ndcg_at_5=ndcg,
                hit_at_3=hit,
                converted=won & kept,
                rating=rating,
                rater=rater,
            )
            found[name] = measured(lists_shown, day, age_days=days, matured=name == "matured")
        return found

    @property
    def rare(self) -> Change:
        """The change that makes one list in twenty convert."""
        return Change(lost=float(1 - RARE / self.served.figures["matured"].won.mean()))

    def falling(self, figure: str, share: float) -> Change:
        """The change that makes a figure fall by a share."""
        if figure == "conversion":
            return Change(lost=share)
        if figure == "rare conversion":
            return Change(lost=1 - (1 - self.rare.lost) * (1 - share))
        if figure == "satisfaction":
            whole = float(np.mean(self.served.rating))
            lower, upper = 0.0, 3.0
            for _ in range(40):
                middle = (lower + upper) / 2
                less, more = (np.mean(np.maximum(self.served.rating - middle // 1 - by, 1)) for by in (0, 1))
                mean = (1 - middle % 1) * less + middle % 1 * more
                lower, upper = (lower, middle) if mean < whole * (1 - share) else (middle, upper)
            return Change(content=lower)
        good, bad = (np.nanmean(one.figures["matured"].ndcg) for one in (self.served, self.random))
        return Change(at_random=float(share * good / (good - bad)))


def promises(scenes: dict[float, Scene]) -> None:
    print("| clients look at rank r with | gate, the model's order | gate, the logged order | once it ranks ", end="")
    print("| half shown at random | all shown at random |\n|---|---|---|---|---|---|")
    for examination, scene in scenes.items():
        logged = scene.logged
        gate = np.nanmean(quality.ndcg(logged.ordered(scene.model.predict(logged.seen.features))))
        before = np.nanmean(logged.figures["matured"].ndcg)
        good, bad = (np.nanmean(one.figures["matured"].ndcg) for one in (scene.served, scene.random))
        cells = [gate, before, good, (good + bad) / 2, bad]
        falls = ["", "", "", *(f" (−{100 * (1 - one / good):.0f} %)" for one in cells[3:])]
        said = [f"{one:.3f}{fall}" for one, fall in zip(cells, falls, strict=True)]
        print(f"| 1/r^{examination:g} | {' | '.join(said)} |")


def month(scene: Scene, lists: int, days: str, fall_max: float, rng: np.random.Generator) -> dict[str, int]:
    """Count the days with an alert of a month without a change."""
    former: dict[str, list[Outcomes]] = {name: [] for name in AGES}
    alarms = dict.fromkeys(AGES, 0)
    for number in range(USUAL_DAYS + MONTH):
        day = FIRST + dt.timedelta(days=number)
        change = {"alike": Change(), "differ": differing(day, rng)}.get(days, scene.rare)
        for name, now in scene.day(day, lists, change, rng).items():
            found = judged(now, {}, former[name], fall_max)
            alarms[name] += bool(found.alerts) and number >= USUAL_DAYS
            former[name] = [*former[name], found][-USUAL_DAYS:]
    return alarms


def differing(day: dt.date, rng: np.random.Generator) -> Change:
    """What a day is like by itself: fewer lists convert on weekends, and every day differs a little."""
    weekend = 0.15 if day.weekday() >= 5 else 0.0
    at_random, lost, content = np.abs(rng.normal(size=3)) * (0.05, 0.05, 0.1)
    return Change(at_random=at_random, lost=weekend + lost, content=content)


def quiet(scenes: dict[float, Scene], months: int, fall_max: float, seed: int) -> bool:
    print("| clients look at rank r with | days | lists a day | alerts a month, matured | months with one ", end="")
    print("| alerts a month, early | months with one |\n|---|---|---|---|---|---|---|")
    fine = True
    for examination, scene in scenes.items():
        for days in DAYS:
            for lists in SIZES:
                rng = np.random.default_rng([seed, 1, int(100 * examination), DAYS.index(days), lists])
                counts = [month(scene, lists, days, fall_max, rng) for _ in range(months)]
                cells = []
                for name in AGES:
                    alarms = [count[name] for count in counts]
                    cells += [f"{np.mean(alarms):.2f}", rate(sum(map(bool, alarms)), months)]
                    fine &= float(np.mean(alarms)) <= 1
                print(f"| 1/r^{examination:g} | {days} | {lists:,} | " + " | ".join(cells) + " |", flush=True)
    return fine


def falls(scenes: dict[float, Scene], trials: int, fall_max: float, seed: int) -> None:
    print(
        "| figure | falls by | lists a day | by the first matured day | by the second | by the first early look ",
        end="",
    )
    print("| in time |\n|---|---|---|---|---|---|---|")
    scene = scenes[EXAMINATION[0]]
    for lists in SIZES:
        rng = np.random.default_rng([seed, 2, lists])
        usual = [history(scene, lists, Change(), rng) for _ in range(HISTORIES)]
        rare = [history(scene, lists, scene.rare, rng) for _ in range(HISTORIES)]
        for figure in FIGURES:
            histories = rare if figure.startswith("rare") else usual
            for share in FALLS:
                change = scene.falling(figure, share)
                if change.at_random > 1:
                    continue
                looks = [
                    found(scene, lists, change, histories[trial % HISTORIES], fall_max, rng) for trial in range(trials)
                ]
                counts = (
                    sum(matured[0] for matured, _ in looks),
                    sum(any(matured[:2]) for matured, _ in looks),
                    sum(early[0] for _, early in looks),
                    sum(any(matured[:2]) or any(early) for matured, early in looks),
                )
                cells = " | ".join(rate(count, trials) for count in counts)
                print(f"| {figure} | {100 * share:.0f} % | {lists:,} | {cells} |", flush=True)


def history(scene: Scene, lists: int, change: Change, rng: np.random.Generator) -> dict[str, list[Outcomes]]:
    days = [scene.day(FIRST + dt.timedelta(days=number), lists, change, rng) for number in range(USUAL_DAYS)]
    return {name: [day[name] for day in days] for name in AGES}


def found(
    scene: Scene,
    lists: int,
    change: Change,
    former: dict[str, list[Outcomes]],
    fall_max: float,
    rng: np.random.Generator,
) -> tuple[Sequence[bool], Sequence[bool]]:
    """Tell which of the days after a change alert, matured and early."""
    alerts: dict[str, list[bool]] = {name: [] for name in AGES}
    before = dict(former)
    for number in range(ATTRIBUTION + 1):
        for name, now in scene.day(FIRST + dt.timedelta(days=USUAL_DAYS + number), lists, change, rng).items():
            told = judged(now, {}, before[name], fall_max)
            alerts[name].append(bool(told.alerts))
            before[name] = [*before[name], told]
    return alerts["matured"], alerts["early"]


def forecasts() -> None:
    """Print how often a forecast alerts, exactly: rows of a probability of 0.1 each, which is right or not."""
    said = ["as was stated" if times == 1 else f"{times:g} times as many" for times in HAPPENS]
    print(f"| expected | {' | '.join(said)} |\n|---|" + "---|" * len(HAPPENS))
    now = Outcomes(date=FIRST, version=VERSION, age_hours=24.0 * ATTRIBUTION, matured=True, lists=0)
    for expected in EXPECTED:
        rows, chance = 10 * expected, math.sqrt(0.9 * expected)
        happened = np.arange(rows + 1)
        told = [
            Forecast(
                rows=rows,
                expected=expected,
                happened=one,
                error=abs(expected - one) / one if one else None,
                chance=chance,
            )
            for one in happened.tolist()
        ]
        alerts = np.array([bool(foreseen(now, one).alerts) for one in told])
        shares = [binom.pmf(happened, rows, 0.1 * times)[alerts].sum() for times in HAPPENS]
        print(f"| {expected:,} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--fall-max", type=float, default=FALL_MAX)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    asked = parser.parse_args()
    needed = EXAMINATION if {*asked.only} - {"forecasts"} else ()
    scenes = {examination: Scene(examination, asked.seed) for examination in needed}
    fine = True
    if "promises" in asked.only:
        promises(scenes)
    if "quiet" in asked.only:
        fine = quiet(scenes, asked.months, asked.fall_max, asked.seed)
    if "forecasts" in asked.only:
        forecasts()
    if "falls" in asked.only:
        falls(scenes, asked.trials, asked.fall_max, asked.seed)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
