"""How often reports on interleaving name a winner between equal rankers, and how many lists the better one takes.

    python benchmarks/interleaving_error_rates.py [--months 1000] [--seed 7]

A month is 28 days of interleaved lists, and the report is read after each of them, until it names a winner.
Every night another version is served, so a report has 29 lines at last: each version against the other ranker, and all
of them together. A list is won by one of the rankers (`share` = the first) or by none; four in ten are won by one.

- *each user once*: a user per list
- *users come back*: a third as many users as lists, drawn anew every day, each with a taste of their own: users who
  prefer either ranker by chance, evenly (logits of standard deviation 1)
- *few heavy users*: 30 users, of whom the first has most lists (in proportion to 1 / number), with tastes

Beside it, in the same months, a rule for one reading: a 95 % interval of the bootstrap over users without 0.5 and a
sign test over users at 5 %, read once at the end, read daily, and read daily over all lines.

Intervals are Clopper-Pearson's, at 95 %. Exits with 1 when a winner is named between equal rankers in more than 5 % of
the months.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binomtest

from ltr_pipeline.metrics.preference import SERVED, preferences
from ltr_pipeline.metrics.resampling import cluster_sums

DAYS = 28
WON = 0.4  # lists that one of the rankers wins
LISTS = (100, 400)  # a day
TASTE = 1.0
START = datetime(2025, 7, 1, tzinfo=UTC)
USERS: dict[str, Callable[[int, np.random.Generator], NDArray[np.int64]]] = {
    "each user once": lambda lists, _rng: np.arange(lists),
    "users come back": lambda lists, rng: rng.integers(0, lists // 3, lists),
    "few heavy users": lambda lists, rng: rng.choice(
        30, lists, p=(1 / np.arange(1, 31)) / (1 / np.arange(1, 31)).sum()
    ),
}


class Month(NamedTuple):
    day: NDArray[np.int64]
    user: NDArray[np.int64]
    net: NDArray[np.int64]

    def until(self, day: int) -> Month:
        return Month(*(column[self.day <= day] for column in self))


def month(users: str, lists: int, share: float, rng: np.random.Generator) -> Month:
    day = np.repeat(np.arange(DAYS), lists)
    user = USERS[users](len(day), rng)
    taste = TASTE * rng.standard_normal(user.max() + 1) * (users != "each user once")
    first = rng.random(len(day)) < 1 / (1 + np.exp(-np.log(share / (1 - share)) - taste[user]))
    return Month(day, user, np.where(rng.random(len(day)) < WON, np.where(first, 1, -1), 0))


def table(found: Month) -> pl.DataFrame:
    """What `drafted_lists` gives of such lists."""
    days = [START + timedelta(days=day) for day in range(DAYS)]
    return pl.DataFrame(
        {
            "time": pl.Series(days).gather(found.day),
            "first": pl.Series([f"{day:%Y%m%d}_0215" for day in days]).gather(found.day),
            "second": pl.repeat("legacy", len(found.day), eager=True),
            "cluster": found.user,
            "net": found.net,
        }
    )


def read_daily(found: Month) -> tuple[int | None, bool]:
    """The day of the first winner of the line over all nights, if it gets one, and whether any line ever does."""
    lists, named = table(found), False
    for day in range(DAYS):
        report = preferences(lists.filter(pl.lit(found.day <= day)))
        named = named or any(line.winner for line in report)
        if any(line.winner for line in report if line.first == SERVED or len(report) == 1):
            return day, True
    return None, named


def by_one_reading(found: Month, seed: int) -> bool:
    """Whether the rule for one reading names a winner."""
    decided = found.net != 0
    wins = (found.net[decided] > 0).astype(np.float64)
    if not len(wins):
        return False
    sums = cluster_sums(np.column_stack([wins, np.ones(len(wins))]), found.user[decided])
    sides = np.sign(2 * sums[:, 0] - sums[:, 1])
    if len(sums) < 10 or binomtest(int((sides > 0).sum()), max(int((sides != 0).sum()), 1)).pvalue > 0.05:
        return False
    weights = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=1000)
    totals = weights @ sums
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return bool(low > 0.5 or high < 0.5)


def read_once_and_daily(found: Month, seed: int) -> tuple[bool, bool, bool]:
    """The same read once, daily, and daily over all lines."""
    daily = [by_one_reading(found.until(day), seed) for day in range(DAYS)]
    of_one_night = [by_one_reading(Month(*(column[found.day == day] for column in found)), seed) for day in range(DAYS)]
    return daily[-1], any(daily), any(daily) or any(of_one_night)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=1000)
    parser.add_argument(
        "--former-months", type=int, default=200, help="months for the rule for one reading, which is slow"
    )
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    missed = equal(options.months, options.former_months, options.seed)
    better(options.months, options.seed)
    return int(missed)


def equal(months: int, former_months: int, seed: int) -> bool:
    print("Equal rankers: months in which a report named a winner\n")
    one = ("by the rule for one reading: read once", "read daily", "any line, read daily")
    print(f"| users | lists a day | any line, read daily | {' | '.join(one)} |")
    print("|---|---|---|---|---|---|")
    missed = False
    for users in USERS:
        for lists in LISTS:
            rng = np.random.default_rng([seed, list(USERS).index(users), lists])
            drawn = [month(users, lists, 0.5, rng) for _ in range(months)]
            named = sum(read_daily(found)[1] for found in drawn)
            former = np.sum([read_once_and_daily(found, seed) for found in drawn[:former_months]], axis=0)
            old = [rate(int(count), former_months) for count in former]
            print(f"| {users} | {lists} | {' | '.join([rate(named, months), *old])} |", flush=True)
            missed |= named > 0.05 * months
    print(f"\n{months:,} months a row ({former_months:,} by the rule for one reading), seed {seed}\n")
    return missed


def better(months: int, seed: int) -> None:
    print("A better ranker: months in which the line over all nights named it, and when\n")
    print("| users | lists a day | share | by day 7 | by day 14 | by day 28 | lists until then, median | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    for users in USERS:
        for lists in LISTS:
            for share in (0.55, 0.6):
                rng = np.random.default_rng([seed, list(USERS).index(users), lists, int(100 * share)])
                days, wrong = Counter[int](), 0
                for _ in range(months):
                    found = month(users, lists, share, rng)
                    day, _named = read_daily(found)
                    if day is not None:
                        days[day] += 1
                        wrong += found.until(day).net.sum() < 0
                by = [rate(sum(count for day, count in days.items() if day < end), months) for end in (7, 14, 28)]
                told = sorted(days.elements())
                needed = f"{(told[months // 2] + 1) * lists:,}" if len(told) > months // 2 else "–"
                print(f"| {users} | {lists} | {share:g} | {' | '.join(by)} | {needed} | {wrong} |", flush=True)
    print(f"\n{months:,} months a row, seed {seed}")


def rate(count: int, trials: int) -> str:
    bounds = binomtest(count, trials).proportion_ci(method="exact")
    return f"{100 * count / trials:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
