"""How often "95 %" holds the truth: intervals of a mean over the lists of few, uneven users.

    python benchmarks/coverage.py [--trials 2000] [--seed 1]

Users differ in how well they are served (a Beta distribution), and in how many lists they have: all 20, a geometric
number with mean 20, or a Pareto number, of which one user may have most. Each trial draws all of them anew and makes
the interval of the library (`metrics.resampling.mean_intervals`, the cluster jackknife with effective degrees of
freedom) and the percentile interval of the cluster bootstrap. Prints how many hold the mean that was drawn from, with
Clopper-Pearson intervals, and the mean width. Exits with 1 when the library's covers less than 93 % of equal or
geometric users, beyond what chance explains.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[1]))

from ltr_pipeline.metrics.resampling import cluster_sums, mean_intervals, resample

USERS = (10, 15, 30, 100)
SERVED = (6.0, 3.0)  # parameters of the Beta distribution over users
TRUTH = SERVED[0] / sum(SERVED)
WANTED = 0.93

Random = np.random.Generator
Lists = Callable[[int, Random], NDArray[np.int64]]
KINDS: dict[str, Lists] = {
    "equal": lambda users, _: np.full(users, 20),
    "geometric": lambda users, rng: rng.geometric(1 / 20, users),
    "Pareto": lambda users, rng: np.minimum(2000, np.ceil(rng.pareto(1.2, users) * 8 + 1)).astype(np.int64),
}


def drawn(lists: NDArray[np.int64], rng: Random) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values of lists in [0, 1], and the user of each."""
    user = np.arange(len(lists)).repeat(lists)
    served = rng.beta(*SERVED, len(lists))[user]
    return rng.beta(2 * served, 2 * (1 - served)), user


def ours(values: NDArray[np.float64], users: NDArray[np.int64], _: Random) -> tuple[float, float]:
    (found,) = mean_intervals(values[:, None], users) or ()
    return found.low, found.high


def bootstrap(values: NDArray[np.float64], users: NDArray[np.int64], rng: Random) -> tuple[float, float]:
    totals = resample(cluster_sums(np.column_stack([values, np.ones(len(values))]), users), rng)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="of each row")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    missed = []
    print("| lists of a user | users | jackknife covers | its width | bootstrap covers | its width |")
    print("|---|---|---|---|---|---|")
    for kind, lists in KINDS.items():
        for users in USERS:
            rng, held, width = np.random.default_rng([options.seed, users]), np.zeros(2, int), np.zeros(2)
            for _ in range(options.trials):
                values, user = drawn(lists(users, rng), rng)
                for index, method in enumerate((ours, bootstrap)):
                    low, high = method(values, user, rng)
                    held[index] += low <= TRUTH <= high
                    width[index] += high - low
            cells = [
                cell
                for index in (0, 1)
                for cell in (rate(held[index], options.trials), f"{width[index] / options.trials:.3f}")
            ]
            print(f"| {kind} | {users} | {' | '.join(cells)} |", flush=True)
            highest = binomtest(int(held[0]), options.trials).proportion_ci(method="exact").high
            if kind != "Pareto" and highest < WANTED:
                missed.append(f"{kind}, {users}")
    print(f"\n{options.trials:,} trials a row, seed {options.seed}. Below {100 * WANTED:.0f} %: {missed or 'none'}.")
    return int(bool(missed))


def rate(count: int, trials: int) -> str:
    bounds = binomtest(int(count), trials).proportion_ci(method="exact")
    return f"{100 * count / trials:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
