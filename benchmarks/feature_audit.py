"""How often the feature audit accuses an honest feature, and which leaks and broken inputs it catches.

    python benchmarks/feature_audit.py --trials 1000

In the simulated lawyers-for-cases world clients answer to lists that the legacy weights ordered. A trial is one night:
a fresh draw of 25 days (20 train, 2 validate, 3 test) with 100, 300 or 1,000 test rankings, put through the library's
own audit under the default policy. Honest features are everything that could be known before a list is shown, up to the
client's own taste; others are skewed, rare, mostly missing, of the client, of the item, or change by the day. A leak is
1 where it knows that something came of the impression, else 0; some of its ones are wrong, or filled in as days pass.

Another table trains models of honest features night after night, on fresh draws of the training days, and counts the
nights on which one of the features suddenly dominates. A last one trains models on leaks and says what the gate would
have judged and what users would have got, when the column is 0 in the service.

Intervals are Clopper-Pearson's, at 95 %.

A second world looks at the top more, and is more easily pleased:

    python benchmarks/feature_audit.py --seed 8 --examination 0.7 --pleased 0.15 --trials 300 --only honest leaks
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from common import PARAMETERS, by_legacy_weights, clean_audit, rate, simulated
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.suspects import changed, suspicions
from ltr_pipeline.metrics import audit, quality
from ltr_pipeline.metrics.audit import FeatureAudit, Gains
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.metrics.window import Window
from ltr_pipeline.simulate.draw import answers, visits
from ltr_pipeline.simulate.world import FEATURES, WEEKDAYS, World

SIZES = (100, 300, 1000)
KNOWN = (0.7, 0.5, 0.3, 0.1, 0.02)
TABLES = ("honest", "retrained", "leaks", "breaks", "damage")
TRAIN, VALID, TEST = 20, 2, 3
DAYS = TRAIN + VALID + TEST
FIRST = dt.date(2025, 7, 1).toordinal()
RETRAINED_TREES = 50
USED = 0.5  # every feature has a share of the gain, as in the champion

Floats = NDArray[np.float64]
Column = NDArray[np.float32]


class Population:
    """Rankings that were shown and answered, and columns that were logged with them."""

    def __init__(self, world: World, rankings: int, seed: int, pleased: float = 0.0) -> None:
        self.rng = rng = np.random.default_rng(seed)
        seen = visits(world, rankings, rng, day=dt.date(2025, 7, 1))
        seen = replace(seen, appeal=seen.appeal + pleased)
        ranking = np.repeat(np.arange(rankings), seen.group)
        shown = by_legacy_weights(seen.features) + world.exploration * rng.normal(size=len(ranking))
        order = np.lexsort((-shown, ranking))
        self.group, self.starts = seen.group.astype(np.int64), starts(seen.group)
        self.position = np.empty(len(ranking), np.int32)
        self.position[order] = np.arange(len(order)) - np.repeat(self.starts, self.group) + 1
        said = answers(world, seen, self.position, rng)
        acts = [np.where(hours < 72, act, 0) for act, hours in (said[:2], said[2:])]
        self.relevance = np.maximum(*acts).clip(min=0).astype(np.int8)
        self.user, self.item, self.features = seen.user.astype(np.int64), seen.item, seen.features
        self.utility = seen.utility
        # Who withdraws is not known before, so the taste of those who did is drawn anew.
        taste = seen.utility + world.taste * rng.normal(size=len(ranking))
        self.taste = np.where(np.isfinite(seen.appeal), seen.appeal, taste)

    def honest(self) -> dict[str, Column]:
        rng, n = self.rng, len(self.relevance)
        user = np.repeat(self.user, self.group)
        flag_of_item, of_user = rng.random(self.item.max() + 1) < 0.05, rng.normal(size=user.max() + 1)
        columns = {
            "the client's taste": self.taste,
            "worth": self.utility,
            "favourite of the client (2 %)": self.taste > np.quantile(self.taste, 0.98),
            "favourite of the client (0.2 %)": self.taste > np.quantile(self.taste, 0.998),
            "taste, known of 5 %": np.where(rng.random(n) < 0.05, self.taste, np.nan),
            "rare, 0.5 %": rng.random(n) < 0.005,
            "skewed": np.exp(2 * rng.normal(size=n) + self.utility),
            "mostly 0": rng.poisson(np.exp(2 * self.utility - 3)),
            "a coin": rng.random(n) < 0.5,
            "of the client": of_user[user],
            "flag of the item": flag_of_item[self.item],
            "number of the item": self.item,
            "always 1": np.ones(n),
        }
        return {name: values.astype(np.float32) for name, values in columns.items()}

    def leak(self, known: float, wrong: float) -> Column:
        """A column that is 1 for a share of what something came of; a share of its ones is wrong."""
        relevant = self.relevance > 0
        told = relevant & (self.rng.random(len(relevant)) < known)
        chance = told.sum() * wrong / (1 - wrong) / (~relevant).sum()
        return (told | (~relevant & (self.rng.random(len(relevant)) < chance))).astype(np.float32)

    def ndcg(self, score: Floats, chosen: slice) -> Floats:
        rows = slice(self.starts[chosen.start], None)
        return quality.ndcg(Rankings(self.relevance[rows], score, self.group[chosen]))


class Draw:
    """One night: rankings of a population without repetition, dealt to days with the traffic of the week."""

    def __init__(self, population: Population, test_rankings: int, rng: np.random.Generator) -> None:
        self.rng = rng
        size = test_rankings * DAYS // TEST
        chosen = rng.permutation(len(population.group))[:size]
        self.traffic = np.array([WEEKDAYS[(FIRST + day) % 7] for day in range(DAYS)])
        self.day = np.sort(rng.choice(DAYS, size, p=self.traffic / self.traffic.sum()))
        self.group = population.group[chosen]
        self.rows = np.repeat(population.starts[chosen] - starts(self.group), self.group) + np.arange(self.group.sum())
        self.relevance, self.user = population.relevance[self.rows], population.user[chosen]
        self.day_of_row = np.repeat(self.day, self.group)

    def audited(self, columns: dict[str, Column]) -> list[FeatureAudit]:
        part = np.digitize(self.day, [TRAIN, TRAIN + VALID])
        window = Window(
            features=np.column_stack(list(columns.values())),
            relevance=self.relevance,
            group=self.group,
            day=FIRST + self.day,
            part=part,
            user=self.user[part == 2],
        )
        used = dict.fromkeys(columns, USED)
        return audit.measure(window, list(columns), Gains(now=used, before=used))

    def by_day(self, taste: Floats) -> dict[str, Column]:
        """Honest features that differ from day to day."""
        rng, weekend = self.rng, self.traffic < 0.8
        walk = np.cumsum(0.1 * rng.normal(size=DAYS))
        mood = np.zeros(DAYS)
        for day in range(1, DAYS):
            mood[day] = 0.6 * mood[day - 1] + 0.2 * rng.normal()
        gaps = 1 / (1 + np.exp(2 - 0.5 * rng.normal(size=DAYS)))
        scatter = taste / taste.std()
        n = len(taste)
        columns = {
            "other at weekends": scatter + 0.5 * weekend[self.day_of_row],
            "walks by the day": scatter + walk[self.day_of_row],
            "a mood of the day": scatter + mood[self.day_of_row],
            "grows": scatter + 0.05 * self.day_of_row,
            "number of the day": self.day_of_row,
            "on sale at weekends": weekend[self.day_of_row] & (rng.random(n) < 0.3),
            "missing by the day": np.where(rng.random(n) < gaps[self.day_of_row], np.nan, taste),
        }
        return {name: values.astype(np.float32) for name, values in columns.items()}


def alarms(found: list[FeatureAudit]) -> Iterator[tuple[str, str]]:
    """Yield kind and feature of every alarm."""
    for one in suspicions(found):
        yield ("knows the outcome" if one.sure else "filled in later"), one.feature
    for one in changed(found, Policy().feature_change_max):
        if one.excess > 0:
            yield "changed", one.feature


def honest(population: Population, trials: int, seed: int) -> None:
    logged = dict(zip(FEATURES, population.features.T, strict=True)) | population.honest()
    print("\nNights on which an honest feature is accused, of any of", len(logged) + 7, "features:\n")
    print("| test rankings | knows the outcome | filled in later | changed | any |\n|---|---|---|---|---|")
    by_feature: Counter[tuple[str, str]] = Counter()
    for size in SIZES:
        nights: Counter[str] = Counter()
        for trial in range(trials):
            draw = Draw(population, size, np.random.default_rng([seed, size, trial]))
            columns = {name: values[draw.rows] for name, values in logged.items()}
            found = list(alarms(draw.audited(columns | draw.by_day(population.taste[draw.rows]))))
            nights.update({kind for kind, _ in found} | ({"any"} if found else set()))
            by_feature.update(found)
        kinds = ("knows the outcome", "filled in later", "changed", "any")
        print(f"| {size:,} | {' | '.join(rate(nights[kind], trials) for kind in kinds)} |", flush=True)
    print("\nAccused:", dict(by_feature) or "none")
    ceiling(population)


def ceiling(population: Population) -> None:
    """How often the best that can be known before a list is shown means a relevant impression."""
    relevant, first = population.relevance > 0, population.position == 1
    print("\nRelevant of the impressions with the highest values, and of those of them that stood first:\n")
    print("| known | highest | relevant | standing first |\n|---|---|---|---|")
    for name, known in (("worth", population.utility), ("the client's taste", population.taste)):
        for share in (0.1, 0.02, 0.002):
            top = known > np.quantile(known, 1 - share)
            found = (relevant[top], relevant[top & first])
            print(f"| {name} | {share:.1%} | {' | '.join(rate(int(one.sum()), len(one)) for one in found)} |")


def retrained(population: Population, trials: int, seed: int) -> None:
    """Count the nights on which a feature of a model dominates that the model of the night before hardly used."""
    logged = dict(zip(FEATURES, population.features.T, strict=True))
    honest, rng = population.honest(), np.random.default_rng([seed, 3])
    worth = population.utility / population.utility.std()
    twice = {f"worth, {which}": worth + 0.3 * rng.normal(size=len(worth)) for which in ("once", "again")}
    known = {
        "the world's eight": logged,
        "these, taste, worth and eleven others": logged | honest,
        "the eight, and worth logged twice, blurred": logged | twice,
    }
    print(
        "\nNights on which an honest feature of a retrained model suddenly dominates, and the largest share of any:\n"
    )
    print(
        "| features | nights | " + " | ".join(f"{n:,} rankings" for n in SIZES) + " |\n|---|---|" + "---|" * len(SIZES)
    )
    for number, (name, columns) in enumerate(known.items()):
        nights = trials // 2 if number else trials  # more features take longer
        counts = {size: nights if size < max(SIZES) else max(nights // 3, 1) for size in SIZES}
        cells = [dominated(population, columns, size, count, seed) for size, count in counts.items()]
        print(f"| {name} | {', '.join(map(str, counts.values()))} | {' | '.join(cells)} |", flush=True)


def dominated(population: Population, columns: dict[str, Column], size: int, trials: int, seed: int) -> str:
    table, names = np.column_stack(list(columns.values())).astype(np.float32), list(columns)
    count, largest, before = 0, 0.0, None
    for night in range(trials + 1):
        rng = np.random.default_rng([seed, size, night, 3])
        chosen = rng.permutation(len(population.group))[: size * TRAIN // TEST]
        now = shares(population, table, chosen, seed=night)
        if before is not None:
            night_of = [clean_audit(*each) for each in zip(names, now.tolist(), before.tolist(), strict=True)]
            count += bool(suspicions(night_of))
            largest = max(largest, now.max())
        before = now
    return f"{rate(count, trials)}; {largest:.0%}"


def shares(population: Population, table: Column, chosen: NDArray[np.int64], seed: int) -> Floats:
    """Train on rankings; return each feature's share of the gain."""
    group = population.group[chosen]
    rows = np.repeat(population.starts[chosen] - starts(group), group) + np.arange(group.sum())
    relevance, position = population.relevance[rows], population.position[rows] - 1
    data = lgb.Dataset(table[rows], relevance, group=group, position=position)
    gains = lgb.train(PARAMETERS | {"seed": seed}, data, RETRAINED_TREES).feature_importance("gain")
    return gains / gains.sum()


def leaks(population: Population, trials: int, seed: int, shares: Sequence[float]) -> None:
    print("\nNights on which a leak is caught:\n")
    print("| it knows | of its ones are wrong | filled in | " + " | ".join(f"{n:,} rankings" for n in SIZES) + " |")
    print("|---|---|---|" + "---|" * len(SIZES))
    for known in shares:
        for wrong in (0.0, 0.05, 0.1, 0.4):
            column = population.leak(known, wrong)
            for filled in ("at once",) if wrong in (0.05, 0.1) or known < 0.3 else ("at once", "in 10 days"):
                rates = [caught(population, column, filled, size, trials, seed) for size in SIZES]
                print(f"| {known:.0%} | {wrong:.0%} | {filled} | {' | '.join(rates)} |", flush=True)


def caught(population: Population, column: Column, filled: str, size: int, trials: int, seed: int) -> str:
    count = 0
    for trial in range(trials):
        draw = Draw(population, size, np.random.default_rng([seed, size, trial, 1]))
        values = column[draw.rows]
        if filled != "at once":
            age = DAYS - draw.day_of_row
            values = values * (draw.rng.random(len(values)) < 1 - np.exp(-age / 10))
        logged = {name: population.features[draw.rows, place] for place, name in enumerate(FEATURES)}
        found = suspicions(draw.audited(logged | {"leak": values.astype(np.float32)}))
        count += any(one.feature == "leak" for one in found)
    return rate(count, trials)


def breaks(population: Population, trials: int, seed: int) -> None:
    print("\nNights on which a broken input is caught, of the world's eight features:\n")
    print(
        "| on the last test day | " + " | ".join(f"{n:,} rankings" for n in SIZES) + " |\n|---|" + "---|" * len(SIZES)
    )
    ways: dict[str, Callable[[Column, np.random.Generator], Column]] = {
        "every feature is 0": lambda values, _: np.zeros_like(values),
        "every feature is missing": lambda values, _: np.full_like(values, np.nan),
        "every feature is in percent": lambda values, _: 100 * values,
        "half of the values are 0": lambda values, rng: np.where(rng.random(len(values)) < 0.5, 0, values),
        "a fifth of the values is 0": lambda values, rng: np.where(rng.random(len(values)) < 0.2, 0, values),
        "nothing (false alarms)": lambda values, _: values,
    }
    for name, way in ways.items():
        rates = []
        for size in SIZES:
            count = 0
            for trial in range(trials):
                draw = Draw(population, size, np.random.default_rng([seed, size, trial, 2]))
                last = draw.day_of_row == DAYS - 1
                columns = {}
                for place, feature in enumerate(FEATURES):
                    values = population.features[draw.rows, place]
                    columns[feature] = np.where(last, way(values, draw.rng), values).astype(np.float32)
                count += any(kind == "changed" for kind, _ in alarms(draw.audited(columns)))
            rates.append(rate(count, trials))
        print(f"| {name} | {' | '.join(rates)} |", flush=True)


def damage(population: Population) -> None:
    """Models trained on a leak: what they are judged by, and what they do when the column is 0."""
    half = len(population.group) // 2
    rows, test = slice(0, population.starts[half]), slice(half, None)
    served = slice(population.starts[half], None)
    mine = population.features

    def model(features: NDArray[np.float32]) -> lgb.Booster:
        data = lgb.Dataset(
            features[rows], population.relevance[rows], group=population.group[:half],
            position=population.position[rows] - 1,
        )  # fmt: skip
        return lgb.train(PARAMETERS, data, 100)

    def reached(booster: lgb.Booster, features: NDArray[np.float32]) -> float:
        return float(np.nanmean(population.ndcg(np.asarray(booster.predict(features)), test)))

    champion = reached(model(mine), mine[served])
    print(f"\nWhat a leak does (champion {champion:.3f}, headroom {1 - champion:.3f}):\n")
    print("| it knows | of its ones are wrong | judged | with the column at 0 | gain | of the headroom | its share |")
    print("|---|---|---|---|---|---|---|")
    for known in (0.7, 0.5, 0.3, 0.1, 0.02):
        for wrong in (0.0, 0.2, 0.4):
            leaking = np.column_stack([mine, population.leak(known, wrong)])
            booster, zero = model(leaking), np.column_stack([mine, np.zeros(len(mine), np.float32)])
            judged, serves = reached(booster, leaking[served]), reached(booster, zero[served])
            gains = booster.feature_importance("gain")
            share, gain = gains[-1] / gains.sum(), judged - champion
            print(
                f"| {known:.0%} | {wrong:.0%} | {judged:.3f} | {serves:.3f} | {gain:+.3f} | "
                f"{gain / (1 - champion):.0%} | {share:.0%} |",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="nights of honest features; a fifth of leaks")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--population", type=int, default=40_000, help="rankings that nights are drawn from")
    parser.add_argument("--examination", type=float, default=0.35, help="how fast users look away: 1/rank^this")
    parser.add_argument("--pleased", type=float, default=0.0, help="by how much more all appeals to the clients")
    parser.add_argument("--known", type=float, nargs="+", default=KNOWN, help="what leaks know")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, help="some of the tables")
    options = parser.parse_args()
    started = time.monotonic()
    world = simulated(options.seed, examination=options.examination)
    population = Population(world, options.population, options.seed, options.pleased)
    share = (population.relevance > 0).mean()
    print(f"{options.population:,} rankings, {100 * share:.0f} % of the impressions relevant, seed {options.seed}")
    few = max(options.trials // 5, 1)
    tables: dict[str, Callable[[], None]] = {
        "honest": lambda: honest(population, options.trials, options.seed),
        "retrained": lambda: retrained(population, options.trials, options.seed),
        "leaks": lambda: leaks(population, few, options.seed, options.known),
        "breaks": lambda: breaks(population, few, options.seed),
        "damage": lambda: damage(population),
    }
    for name, table in tables.items():
        if name in options.only:
            table()
            print(f"{time.monotonic() - started:.0f} s: {name}", file=sys.stderr)
    print(f"\n{options.trials:,} nights a cell of honest features and models, {few:,} of the others.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
