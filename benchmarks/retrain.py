"""How often the retrain policy trains, and how soon after a change, in simulated years of records.

    python benchmarks/retrain.py --years 1000

In each year a version is in use, and the history holds a record of each matured day: the mean nDCG@5 of its eligible
lists, whose SD is 0.43, with its 95 % interval. A day *fell* where the mean lies more than 20 % below what the gate had
promised and the whole interval more than 10 %. Each night sees the days whose feedback is complete, three days after
they ended, and `monitoring.retrain.due` decides, as it does in a run. What is trained passes the gate, but in one row:
it promises what 300 rankings of its test days reach, and learns from days that are eight or more old. On one day of the
year what users want may change; every model then loses a share of its nDCG@5 until three changed days are among those
that it learned from.

A row has the trainings of a year, their shortest distance, and of the year's change the share of years with a training
within attribution + 2 days (those left out in which one of the last seven days had been a training anyway, so that the
cooldown holds), and the days until a model that has learned it is in use. Intervals are Clopper-Pearson's, at 95 %.

Exits with 1 when a quiet year does not have 11 to 14 trainings on average, two trainings are closer than the cooldown,
or fewer than 95 % of the years see a training in time after a fall of 35 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from common import rate
from support.years import DAYS, RULE, WORLDS, World, Year, years


def cells(world: World, found: list[Year]) -> Iterator[str]:
    counts = [len(year.trainings) for year in found]
    yield world.name
    yield f"{np.mean(counts):.1f} ({min(counts)} to {max(counts)})"
    yield f"{min(year.closest for year in found)} days"
    if not world.fall:
        extra = sum(any("fell short" in why for why in year.why) for year in found)
        yield from (f"– ({rate(extra, len(found))} of the years had one for a fall)", "–")
        return
    free = [year for year in found if not year.held]
    yield f"{rate(sum(year.in_time for year in free), len(free))} of {len(free):,}"
    until = [(DAYS if year.learned is None else year.learned) - (year.change or 0) for year in found]
    yield f"{np.median(until):.0f} (95 %: {np.percentile(until, 95):.0f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=300, help="of each row")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    print("| world | trainings a year | closest | in time for the change | days until it is learned |")
    print("|---|---|---|---|---|")
    wrong = []
    for world in WORLDS:
        found = years(world, options.years, options.seed)
        print(f"| {' | '.join(cells(world, found))} |", flush=True)
        wrong += misses(world, found)
    print(f"\n{options.years:,} years a row. Missed: {', '.join(wrong) or 'nothing'}.")
    return int(bool(wrong))


def misses(world: World, found: list[Year]) -> list[str]:
    free = [year for year in found if not year.held]
    asked = {
        "about 12 in a quiet year": world.name != "quiet" or 11 <= np.mean([len(y.trainings) for y in found]) <= 14,
        "the cooldown": min(year.closest for year in found) >= RULE.retrain_cooldown_days,
        "a change in time": world.name != "all fall by 35 %" or sum(year.in_time for year in free) >= 0.95 * len(free),
    }
    return [f"{what} ({world.name})" for what, kept in asked.items() if not kept]


if __name__ == "__main__":
    sys.exit(main())
