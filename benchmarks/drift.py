"""How often a night cries drift where there is none, and how soon it finds what has changed.

    python benchmarks/drift.py [--months 200] [--trials 200] [--seed 7] [--processes 2] [--only months changes large]

A world has 200 lists a day, of 5 to 15 items, 2,000 rows. Users come back: 1,500 of them. Eight features differ in what
they belong to, so rows of a list are alike in some:

- *price*: of the item in this list, log-normal; *fit*, *near*, *rating*: of item and query (0.1, 0.3 and 0.2 of their
  variance is the list's; 5 % of the ratings are missing); *stars*: 0 to 5, whole; *item*: of one of 400 items, popular
  ones more often; *query* and *user*: the same in all rows of a list
- one row in sixteen is answered, more in some lists than in others; 3 % of the items are unavailable, and 3 % of the
  answers belong to no impression
- on Saturdays and Sundays *fit* and *near* are higher by 0.1 and *query* by 0.15 standard deviations
- *weather*, where there is any: each day moves the mean of each feature but *item* and *user* at random (normal; its
  standard deviation is given)

A quiet month is 28 nights after 28 days of history; each night looks back over its own 28 days, 56,000 rows, of which
four days are of its weekday, 8,000 rows. A change begins on the 29th day, which is any day of the week, and is found if
that day or the next one alerts. `ltr_pipeline.monitoring.drift.report_of` decides, as it does every morning.

The last table is of sites twelve times as large: 25,000 rows a day, 100,000 of the weekday, 700,000 in all. There, what
is too small to matter should not alert however sure it is.

Intervals are Clopper-Pearson's at 95 %; those of means the bootstrap's over months. Exits with 1 when quiet months have
more than one false alarm on average, a wanted change is found in less than 95 %, or a trifle alerts in more than 5 %.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common import rate
from ltr_pipeline.metrics.drift import Rows
from ltr_pipeline.monitoring import drift
from ltr_pipeline.monitoring.drift_rows import Column, Seen
from ltr_pipeline.monitoring.records import DriftReport

NAMES = ("price", "fit", "near", "item", "query", "user", "stars", "rating")
PRICE, FIT, NEAR, ITEM, QUERY, USER, STARS, RATING = range(8)
HISTORY = 28
NIGHTS = 28
LISTS = 200
LARGE_LISTS = 2500
WEATHER = 0.05
USERS, ITEMS = 1500, 400
START = dt.date(2025, 1, 6)

Matrix = NDArray[np.float32]


class Day(NamedTuple):
    matrix: Matrix
    lists: NDArray[np.int64]
    users: NDArray[np.int64]
    labels: NDArray[np.int64]
    unavailable: NDArray[np.bool_]
    joined: NDArray[np.bool_]


class World:
    """Days of lists; the n-th is a function of the seed and n alone."""

    def __init__(self, seed: Sequence[int], weather: float = 0.0, lists: int = LISTS) -> None:
        self.seed, self.weather, self.lists = list(seed), weather, lists
        rng = np.random.default_rng(self.seed)
        self.offset = int(rng.integers(7))
        self.of_user, self.of_item = rng.standard_normal(USERS), rng.standard_normal(ITEMS)
        popular = 1 / (np.arange(ITEMS) + 20)
        self.popular = popular / popular.sum()

    def date(self, number: int) -> dt.date:
        return START + dt.timedelta(days=number + self.offset)

    def day(self, number: int) -> Day:
        rng = np.random.default_rng([*self.seed, number])
        weekend = self.date(number).weekday() >= 5
        lists = np.repeat(np.arange(self.lists), rng.integers(5, 16, self.lists))
        users = rng.integers(USERS, size=self.lists)
        size = len(lists)
        moved = self.weather * rng.standard_normal(len(NAMES))

        def mixed(of_list: float) -> NDArray[np.float64]:
            return np.sqrt(of_list) * rng.standard_normal(self.lists)[lists] + np.sqrt(
                1 - of_list
            ) * rng.standard_normal(size)

        columns = {
            PRICE: np.exp(3 + 0.6 * (mixed(0) + moved[PRICE])),
            FIT: mixed(0.1) + moved[FIT] + 0.1 * weekend,
            NEAR: mixed(0.3) + moved[NEAR] + 0.1 * weekend,
            ITEM: self.of_item[rng.choice(ITEMS, size, p=self.popular)],
            QUERY: (rng.standard_normal(self.lists) + 0.15 * weekend)[lists] + moved[QUERY],
            USER: self.of_user[users][lists],
            STARS: np.clip(np.floor(1.5 + 1.2 * (mixed(0.1) + moved[STARS])), 0, 5),
            RATING: np.where(rng.random(size) < 0.05, np.nan, mixed(0.2) + moved[RATING]),
        }
        matrix = np.column_stack([columns[place] for place in range(len(NAMES))]).astype(np.float32)
        keen = rng.beta(1, 15, self.lists)  # some lists get answers, most get none
        labels = (rng.random(size) < keen[lists]) * rng.integers(1, 4, size)
        answers = int((labels > 0).sum())
        return Day(matrix, lists, users, labels, rng.random(size) < 0.03, rng.random(answers) < 0.97)


def seen(world: World, days: Mapping[int, Day], numbers: Sequence[int]) -> Seen:
    every = [days[number] for number in numbers]
    ordinals = [world.date(number).toordinal() for number in numbers]
    users = np.concatenate([one.users[one.lists] for one in every])
    rows = Rows(day=np.repeat(ordinals, [len(one.lists) for one in every]), cluster=users)
    answered = np.concatenate([one.labels > 0 for one in every])
    return Seen(
        names=NAMES,
        matrix=np.concatenate([one.matrix for one in every]),
        rows=rows,
        asker=users,
        measures={
            "labels": _column([one.labels for one in every], rows),
            "positions": _column([_positions(one.lists) for one in every], rows),
            "list_length": _column(
                [np.bincount(one.lists) for one in every],
                Rows(day=np.repeat(ordinals, world.lists), cluster=np.concatenate([one.users for one in every])),
            ),
            "unavailable_share": _column([one.unavailable for one in every], rows),
            "joined_share": _column(
                [one.joined for one in every], Rows(day=rows.day[answered], cluster=rows.cluster[answered])
            ),
        },
        totals={day: (len(one.lists), world.lists) for day, one in zip(ordinals, every, strict=True)},
    )


def _column(values: Sequence[NDArray[np.generic]], rows: Rows) -> Column:
    return Column(np.concatenate(values).astype(np.float32), rows)


def _positions(lists: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.arange(len(lists)) - np.searchsorted(lists, lists) + 1


def report(world: World, days: Mapping[int, Day], night: int) -> DriftReport:
    return drift.report_of(seen(world, days, range(night - HISTORY, night + 1)), world.date(night))


class Month(NamedTuple):
    """Nights that alerted, and what they alerted of."""

    nights: int
    subjects: Counter[str]


def quiet_month(number: int, seed: int, weather: float) -> Month:
    world = World([seed, number], weather)
    days = {day: world.day(day) for day in range(HISTORY + NIGHTS)}
    reports = [report(world, days, night) for night in range(HISTORY, HISTORY + NIGHTS)]
    return Month(
        sum(one.status == "alert" for one in reports),
        Counter(alert.subject for one in reports for alert in one.alerts),
    )


Change = Callable[[Day, np.random.Generator, float], Matrix]


def shifted(place: int, by: float = 0.2) -> Change:
    """By standard deviations of what varies: up in one half of the trials, down in the other."""

    def change(day: Day, _rng: np.random.Generator, sign: float) -> Matrix:
        matrix = day.matrix.copy()
        matrix[:, place] += sign * by
        return matrix

    return change


def halved(day: Day, _rng: np.random.Generator, _sign: float) -> Matrix:
    matrix = day.matrix.copy()
    matrix[:, PRICE] /= 2
    return matrix


def dearer(by: float) -> Change:
    def change(day: Day, _rng: np.random.Generator, sign: float) -> Matrix:
        matrix = day.matrix.copy()
        matrix[:, PRICE] *= 1 + sign * by
        return matrix

    return change


def missing(share: float, *, lists: bool = False) -> Change:
    """Of single rows, or of whole lists."""

    def change(day: Day, rng: np.random.Generator, _sign: float) -> Matrix:
        matrix = day.matrix.copy()
        gone = rng.random(len(day.users))[day.lists] if lists else rng.random(len(matrix))
        matrix[gone < share, PRICE] = np.nan
        return matrix

    return change


def correlated(place: int, other: int, by: float = 0.6) -> Change:
    """Nothing changes but that two features, which were independent, go together."""

    def change(day: Day, _rng: np.random.Generator, sign: float) -> Matrix:
        matrix = day.matrix.copy()
        known = (np.log(matrix[:, other]) - 3) / 0.6 if other == PRICE else matrix[:, other]
        mixed = sign * by * known + np.sqrt(1 - by**2) * matrix[:, place]
        matrix[:, place] = np.where(np.isnan(mixed), matrix[:, place], mixed)
        return matrix

    return change


def wider(day: Day, _rng: np.random.Generator, _sign: float) -> Matrix:
    matrix = day.matrix.copy()
    matrix[:, FIT] *= 1.25
    return matrix


WANTED: dict[str, Change] = {
    "mean + or - 0.2 SD, rows of a list hardly alike (*fit*)": shifted(FIT),
    "price halved": halved,
    "3 % of the rows without a price": missing(0.03),
    "correlation of *fit* and *price* 0 → 0.6": correlated(FIT, PRICE),
}
ALSO: dict[str, Change] = {
    "mean + or - 0.2 SD, rows of a list alike (*near*)": shifted(NEAR),
    "mean + or - 0.2 SD, one value a list (*query*)": shifted(QUERY),
    "mean + or - 0.4 SD, one value a list (*query*)": shifted(QUERY, 0.4),
    "mean + or - 0.6 SD, one value a list (*query*)": shifted(QUERY, 0.6),
    "spread × 1.25 (*fit*)": wider,
    "3 % of the lists without a price": missing(0.03, lists=True),
    "correlation of *near* and *rating* 0 → 0.6": correlated(NEAR, RATING),
}
TRIFLES: dict[str, Change | None] = {
    "nothing": None,
    "mean + or - 0.05 SD (*fit*)": shifted(FIT, 0.05),
    "price 3 % higher or lower": dearer(0.03),
    "0.3 % of the rows without a price": missing(0.003),
    "correlation of *fit* and *price* 0 → 0.1": correlated(FIT, PRICE, 0.1),
}
LARGE: dict[str, Change] = {
    "mean + or - 0.2 SD (*fit*)": shifted(FIT),
    "mean + or - 0.2 SD, one value a list (*query*)": shifted(QUERY),
}


class Trial(NamedTuple):
    """The day that alerted first, 0 or 1, None when neither did; whether the alert was of what changed."""

    day: int | None
    subjects: frozenset[str]


def trial(number: int, seed: int, change: Change | None, weather: float, lists: int) -> Trial:
    world, rng = World([seed, number], weather, lists), np.random.default_rng([seed, number, 99])
    sign = rng.choice([-1.0, 1.0])
    days = {day: world.day(day) for day in range(HISTORY + 2)}
    for day in (HISTORY, HISTORY + 1):
        if change:
            days[day] = days[day]._replace(matrix=change(days[day], rng, sign))
        if alerts := report(world, days, day).alerts:
            return Trial(day - HISTORY, frozenset(alert.subject for alert in alerts))
    return Trial(None, frozenset())


def quiet(months: int, seed: int, weather: float, pool: ProcessPoolExecutor) -> float:
    """Print a row; the mean of false alarms a month."""
    found = list(pool.map(partial(quiet_month, seed=seed, weather=weather), range(months)))
    nights = np.array([month.nights for month in found])
    drawn = np.random.default_rng(seed).choice(nights, (2000, months)).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    subjects = sum((month.subjects for month in found), Counter[str]())
    told = ", ".join(f"{name} {count}" for name, count in subjects.most_common())
    print(
        f"| {f'{weather:g} SD' if weather else 'none'} | {months} | {nights.mean():.2f} [{low:.2f}, {high:.2f}] | "
        f"{rate(int((nights > 0).sum()), months)} | {nights.max()} | {told or '–'} |",
        flush=True,
    )
    return float(nights.mean())


def found(name: str, trials: int, seed: int, weather: float, lists: int, pool: ProcessPoolExecutor) -> float:
    """Print a row; the share that was found within two days."""
    done = list(pool.map(partial(_named, name=name, seed=seed, weather=weather, lists=lists), range(trials)))
    first, both = (sum(one.day is not None and one.day <= last for one in done) for last in (0, 1))
    print(f"| {name} | {rate(first, trials)} | {rate(both, trials)} |", flush=True)
    return both / trials


def _named(number: int, name: str, seed: int, weather: float, lists: int) -> Trial:
    """Changes are closures, which do not travel between processes; their names do."""
    return trial(number, seed, {**WANTED, **ALSO, **TRIFLES, **LARGE}[name], weather, lists)


def months(options: argparse.Namespace, pool: ProcessPoolExecutor) -> bool:
    """Print the table of quiet months; whether more is told than is wanted."""
    print("Quiet months: nights that cried drift\n")
    print("| weather | months | false alarms a month | months with any | most | of what |")
    print("|---|---|---|---|---|---|")
    alarms = [quiet(options.months, options.seed, weather, pool) for weather in (0.0, WEATHER, 2 * WEATHER)]
    print(f"\n{options.months} months a row, 28 nights each, seed {options.seed}\n")
    return max(alarms) > 1


def changes(options: argparse.Namespace, pool: ProcessPoolExecutor) -> bool:
    """Print the tables of changes; whether a wanted one is found too seldom."""
    trials, seed, missed = options.trials, options.seed + 1, False
    for weather, names in ((0.0, [*WANTED, *ALSO]), (WEATHER, [*WANTED])):
        print(f"Changes, {f'weather of {weather:g} SD' if weather else 'no weather'}: found\n")
        print(_HEAD)
        shares = {name: found(name, trials, seed, weather, LISTS, pool) for name in names}
        missed |= not weather and min(shares[name] for name in WANTED) < 0.95
        print(f"\n{trials} trials a row, seed {seed}\n")
    return missed


def large(options: argparse.Namespace, pool: ProcessPoolExecutor) -> bool:
    """Print the table of a large site; whether a trifle alerts."""
    trials, seed = options.large_trials, options.seed + 2
    print("25,000 rows a day: alerts\n")
    print(_HEAD)
    trifles = [found(name, trials, seed, 0.0, LARGE_LISTS, pool) for name in TRIFLES]
    for name in LARGE:
        found(name, trials, seed, 0.0, LARGE_LISTS, pool)
    print(f"\n{trials} trials a row, seed {seed}\n")
    return max(trifles) > 0.05


_HEAD = "| change | on the first day | within two days |\n|---|---|---|"
PARTS = {"months": months, "changes": changes, "large": large}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--large-trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=[*PARTS])
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        missed = [PARTS[name](options, pool) for name in options.only]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
