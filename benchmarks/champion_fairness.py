"""How often the champion's fairness raises an alarm, night by night and in a month, and what measuring it costs.

    python benchmarks/champion_fairness.py --trials 200 --months 50

Lists of eleven out of 200 recurring items of two groups; a ranker scores relevance with noise, and takes off a penalty
from the second group's items that makes its true gap, over 20,000 lists, what the row says. A trial is a fresh draw of
the test rankings; a month is 28 nights whose three test days overlap. Each is put through the library's own
`metrics.fairness.measure` and the gate's rule with the default policy. Intervals of rates are Clopper-Pearson's, at
95 %. The cost is processor time on one test set as large as that of a night over 0.9 million impressions.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq

from common import rate
from ltr_pipeline.gate.checks.fairness import fairness_gap
from ltr_pipeline.gate.measure import CHAMPION_PERMUTATIONS
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics import fairness
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.pairs import Pairs, Units
from ltr_pipeline.metrics.rankings import Rankings

SIZE, ITEMS, NOISE = 11, 200, 1.5
SHARES = (0.7, 0.1, 0.1, 0.1)  # of relevance 0 to 3
TRUTH = 20_000  # lists that the true gap is taken over
COST = 8_800  # lists in three of 28 days of 0.9 million impressions
TEST_DAYS, NIGHTS = 3, 28
POLICY = Policy()
GAPS = (0.0, POLICY.fairness_max, 2 * POLICY.fairness_max, 3 * POLICY.fairness_max)


@dataclass(frozen=True)
class Lists:
    """Lists that were shown, and what the ranker scores without a penalty; one row of each table is a list."""

    relevance: NDArray[np.int64]
    score: NDArray[np.float64]
    item: NDArray[np.int64]

    @classmethod
    def draw(cls, lists: int, rng: np.random.Generator) -> Lists:
        item = np.argpartition(rng.random((lists, ITEMS)), SIZE, axis=1)[:, :SIZE]
        relevance = rng.choice(len(SHARES), size=item.shape, p=SHARES)
        return cls(relevance, relevance + rng.normal(0, NOISE, item.shape), item)

    def on(self, chosen: slice) -> Lists:
        return Lists(self.relevance[chosen], self.score[chosen], self.item[chosen])

    def ranked(self, penalty: float) -> tuple[Rankings, ProtectedGroups]:
        group = self.item.ravel() % 2
        score = self.score.ravel() - penalty * group
        rankings = Rankings(self.relevance.ravel(), score, np.full(len(self.item), SIZE))
        return rankings, ProtectedGroups(pl.Series(np.array(["a", "b"])[group]), item=pl.Series(self.item.ravel()))


def true_gap(lists: Lists, penalty: float) -> float:
    rankings, groups = lists.ranked(penalty)
    units = Units.of_items(groups)
    pairs = Pairs.of(rankings, units, np.random.default_rng(0))
    accuracy = pairs.accuracy(units.label[:, None], len(groups.names)).mean()[:, 0]
    return float(accuracy[0] - accuracy[1])


def penalty_of(gap: float, lists: Lists, even: float) -> float:
    """The penalty that makes the true gap; `even` is the one that makes none."""
    return float(brentq(lambda penalty: true_gap(lists, penalty) - gap, even - 0.01, 3.0, xtol=1e-3))


def status(lists: Lists, penalty: float, seed: int) -> str:
    rankings, groups = lists.ranked(penalty)
    clusters = np.arange(len(rankings))
    found = fairness.measure(rankings, groups, clusters, seed, permutations=CHAMPION_PERMUTATIONS)
    return fairness_gap(found, POLICY).status


def month(rankings: int, penalty: float, rng: np.random.Generator) -> bool:
    """Whether an alarm is raised on any night of a month of one and the same champion."""
    a_day = rankings // TEST_DAYS
    lists = Lists.draw(a_day * (NIGHTS + TEST_DAYS - 1), rng)
    nights = (slice(day * a_day, (day + TEST_DAYS) * a_day) for day in range(NIGHTS))
    return any(status(lists.on(night), penalty, seed) == "fail" for seed, night in enumerate(nights))


def cost(penalty: float) -> float:
    """Seconds of processor time, the least of three."""
    lists, seconds = Lists.draw(COST, np.random.default_rng(3)), []
    for seed in range(3):
        started = time.process_time()
        status(lists, penalty, seed)
        seconds.append(time.process_time() - started)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="nights of each cell")
    parser.add_argument("--months", type=int, default=50, help="of each cell; 0 = none")
    parser.add_argument("--gaps", type=float, nargs="*", default=GAPS, help="true gaps, one row each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000], help="test rankings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    population = Lists.draw(TRUTH, np.random.default_rng(options.seed))
    even = float(brentq(lambda penalty: true_gap(population, penalty), -0.5, 0.5, xtol=1e-3))
    penalties = {gap: penalty_of(gap, population, even) for gap in options.gaps}
    print(f"processor time on {COST * SIZE:,} test impressions: {cost(even):.2f} s")
    heads = [f"{size:,} rankings" for size in options.sizes]
    print(f"\n| true gap | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for gap, penalty in penalties.items():
        cells = []
        for size in options.sizes:
            rng = np.random.default_rng([options.seed, size])
            alarms = sum(status(Lists.draw(size, rng), penalty, n) == "fail" for n in range(options.trials))
            cells.append(rate(alarms, options.trials))
        print(f"| {gap:.2f} | {' | '.join(cells)} |", flush=True)
    for size in options.sizes if options.months else []:
        rng = np.random.default_rng([options.seed, size, NIGHTS])
        alarms = sum(month(size, even, rng) for _ in range(options.months))
        print(f"months with an alarm, no gap, {size:,} rankings: {rate(alarms, options.months)}", flush=True)


if __name__ == "__main__":
    main()
