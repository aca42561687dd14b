"""How often the gate is wrong in a month of nights, whose test windows overlap.

    python benchmarks/gate_months.py --months 300

A team lives with a gate for months, not for a night. In each month a challenger (`challengers.py`) is judged on 28
nights, each on the rankings of three days, so that a window shares two thirds of its rankings with the next one; 100,
300 or 1,000 are judged a night. A bad challenger is let through when any of the nights publishes it, a good one is
blocked when none of the first seven does. Windows are drawn from the challengers' scores and go through the library's
own metrics, fairness null and `gate.decision.decide` with the default policy. Intervals are Clopper-Pearson's, at 95 %.

Exits with 1 when, at 1,000 rankings, more than 5 % of the months of a bad row, or 20 % of a good one, go wrong.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
import zlib
from collections import Counter

import numpy as np
from msgspec.structs import replace

from challengers import LIMIT, Contest, Labels, Row, rows
from common import rate
from gate_error_rates import POLICY, SIZES, fairness_of, measured, truth
from ltr_pipeline.gate.decision import decide

NIGHTS, TEST_DAYS, SOON = 28, 3, 7
MONTHLY = (
    "worse by 2ε = 0.02",
    "worse by 2ε = 0.02, users come back",
    "unfair: gap above 0.10, 2 groups of items",
    "unfair: gap above 0.10, 4 groups of items",
    "unfair: gap above 0.10, 2 groups of users",
    "better by ε = 0.01, gap 0",
    "better by ε = 0.01, gap 0, users come back",
    "better by ε, 4 fair groups of items",
    "better by ε, 2 fair groups of users",
    "as good, retrained the next night",
    "as good, unrelated",
)
ASKED = {"bad": NIGHTS, "good": SOON, "large": SOON, "info": SOON}  # nights that are looked at

LISTED: list[Row] = []  # filled before the workers fork, so that they share the populations


def published(case: Contest, size: int, nights: int, rng: np.random.Generator) -> bool:
    """Tell whether one of the nights publishes the challenger."""
    a_day = math.ceil(size / TEST_DAYS)
    chosen, users = case.draw(a_day * (NIGHTS + TEST_DAYS - 1), rng)
    order = rng.permutation(len(chosen))  # users who come back do so on any day
    windows = [order[night * a_day : (night + TEST_DAYS) * a_day] for night in range(nights)]
    return any(publishes(case, chosen[window], users[window], rng) for window in windows)


def publishes(case: Contest, chosen: Labels, users: Labels, rng: np.random.Generator) -> bool:
    """Judge a night; the null of fairness, which takes long, only where it can still be published."""
    seed, evidence = int(rng.integers(2**31)), measured(case, chosen, users)
    if decide(evidence, POLICY).verdict == "keep" or case.least_upper(chosen, users) > 2 * LIMIT:
        return False
    found = fairness_of(case, chosen, users, seed)
    return decide(replace(evidence, fairness=found), POLICY).verdict == "publish"


def batch(task: tuple[int, int, int, int, int]) -> tuple[int, int, int]:
    """Count the months in which a row's challengers are published."""
    number, size, first, months, seed = task
    row, count = LISTED[number], 0
    for index in range(first, first + months):
        rng = np.random.default_rng([seed, zlib.crc32(row.name.encode()), size, index])
        count += published(row.contests[index % len(row.contests)], size, ASKED[row.kind], rng)
    return number, size, count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=300, help="of each row and number of rankings")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--population", type=int, default=30_000, help="rankings shown, over which the truth is taken")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rankings judged a night")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    asked = (row for row in rows(options.seed, options.population) if row.name in MONTHLY and options.only in row.name)
    LISTED.extend(asked)
    print(f"{len(LISTED)} rows of {sum(len(row.contests) for row in LISTED)} contests ready", file=sys.stderr)
    step = 25  # months a task
    tasks = [
        (number, size, first, min(step, options.months - first), options.seed)
        for size in sorted(options.sizes, reverse=True)
        for number in range(len(LISTED))
        for first in range(0, options.months, step)
    ]
    counts: Counter[tuple[int, int]] = Counter()
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for number, size, count in pool.imap(batch, tasks):
            counts[number, size] += count
            print(
                f"{time.monotonic() - started:.0f} s: {LISTED[number].name}, {size}: {counts[number, size]}",
                file=sys.stderr,
            )
    print_table(counts, options.sizes, options.months)
    print(f"\n{options.months:,} months a cell.")
    if max(SIZES) not in options.sizes:
        return 0
    worst = [row.name for number, row in enumerate(LISTED) if misses(row, counts[number, max(SIZES)], options.months)]
    print(f"Missed at {max(SIZES):,} rankings: {', '.join(worst) or 'none'}.")
    return int(bool(worst))


def misses(row: Row, count: int, months: int) -> bool:
    return (row.kind == "bad" and count > 0.05 * months) or (row.kind in ("good", "large") and count < 0.8 * months)


def print_table(counts: Counter[tuple[int, int]], sizes: list[int], months: int) -> None:
    print(f"| challenger | true ΔnDCG@5 | true gap | months with | {' | '.join(f'{n:,} rankings' for n in sizes)} |")
    print("|---|---|---|---|" + "---|" * len(sizes))
    for number, row in enumerate(LISTED):
        cells = [rate(counts[number, size], months) for size in sizes]
        told = f"published, ever in {NIGHTS} nights" if ASKED[row.kind] == NIGHTS else f"in use by night {SOON}"
        truths = [truth([case.delta for case in row.contests]), truth([case.gap for case in row.contests])]
        print(f"| {' | '.join([row.name, *truths, told, *cells])} |")


if __name__ == "__main__":
    sys.exit(main())
