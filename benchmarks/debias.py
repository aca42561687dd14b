"""What each way of taking position bias out of training gains in true utility.

    python benchmarks/debias.py --seeds 8

In each simulated world a model is trained as a night does, with LTR_DEBIAS = false, true and coins, on the same
rankings, a share of which was explored. Its truth is nDCG@5 as if relevance were what a client would answer to the
item's true utility, whether it was seen or not, over other rankings. Prints the gain of `true` and of `coins` on
`false` for every seed, whatever its sign, and the mean with its 95 % interval over seeds (t).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from scipy import stats

from ltr_pipeline.gate.figures import signed
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.simulate.debiasing import by_utility
from ltr_pipeline.simulate.world import World

TRAINING, JUDGED = 8000, 10_000  # rankings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--explored", type=float, nargs="+", default=[0.05, 0.3], help="shares of explored rankings")
    options = parser.parse_args()
    started = time.monotonic()
    print("| examination | explored | `true` on `false`, by seed | mean | `coins` on `false`, by seed | mean |")
    print("|---|---|---|---|---|---|")
    for examination in (0.35, 1.0):
        for share in options.explored:
            found = []
            for seed in range(options.seeds):
                legacy = load_mapping().legacy_weights
                world = World(legacy_weights=legacy, seed=seed, examination=examination, explored_share=share)
                found.append(by_utility(world, seed, TRAINING, JUDGED))
                print(f"{time.monotonic() - started:.0f} s: {examination}, {share}, {found[-1]}", file=sys.stderr)
            gains = [np.array([each[way] - each[False] for each in found]) for way in (True, "coins")]
            cells = [cell for gain in gains for cell in (", ".join(signed(value) for value in gain), mean(gain))]
            print(f"| 1/rank^{examination:g} | {100 * share:g} % | {' | '.join(cells)} |", flush=True)
    return 0


def mean(gain: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    return f"{signed(gain.mean(), 4)} ({signed(gain.mean() - half, 4)} to {signed(gain.mean() + half, 4)})"


if __name__ == "__main__":
    sys.exit(main())
