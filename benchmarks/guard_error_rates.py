"""How often the service's guard blames a model that keeps its limits, and how soon it finds one that does not.

    python benchmarks/guard_error_rates.py [--trials 1000] [--comparisons 2000] [--seed 7]

A trial is the guard itself on a clock of its own: requests come for ten minutes, some of them slow (or failing), and it
looks every half second, as in the service. The slow ones come singly or in bursts of 5, 20 or 100 requests in a row, at
random, so that a share of all is slow. Within the limits that share is just what is allowed: 5 % too slow, 0.1 %
failed. Beside it: what Wald's test would have done, which counts each request.

Then the comparison itself, on this machine: two models of as many trees, and one that takes three times as long, score
the same lists, alone and beside two busy loops; how many comparisons call the new model slow? The limit is 0 ms, so
that only the ratio of both decides.

Intervals are Clopper-Pearson's, at 95 %. Exits with 1 when a model within its limits is blamed in more than 1 % of the
trials with bursts of up to 20, or one whose every request is slow is not always found.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(1, str(Path(__file__).parents[1]))

import numpy as np
from scipy.stats import binomtest

from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.serving.guard import ALPHA, P95_SHARE, Guard, Tally, Traffic
from ltr_pipeline.serving.ranking.comparison import is_slow
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.serving.weights.models import Loaded, load
from ltr_pipeline.serving.weights.reload import TICK_SECONDS
from ltr_pipeline.settings import load as load_settings
from ltr_pipeline.versions.weights import encode
from support.busy import busy
from support.weights import slow

LIMITS = load_settings(ServingSettings).guard
FAILED, SLOW = "fail", "are slow"
RATES = (1.0, 20.0)  # requests a second; of more, as many count
BURSTS = (1, 5, 20, 100)


class Case(NamedTuple):
    what: str  # FAILED or SLOW
    share: float
    burst: int
    rate: float

    @property
    def allowed(self) -> float:
        return LIMITS.failed_share if self.what == FAILED else P95_SHARE

    @property
    def fine(self) -> bool:
        return self.share <= self.allowed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cases() -> Iterator[Case]:
    for what, shares in ((SLOW, (0.05, 0.1, 0.2, 1.0)), (FAILED, (0.001, 0.01, 0.1, 1.0))):
        for share in shares:
            bursts = (1,) if share == 1 else BURSTS if share == shares[0] else (1, 20)
            yield from (Case(what, share, burst, rate) for burst in bursts for rate in RATES)


def hits(case: Case, requests: int, rng: np.random.Generator) -> list[bool]:
    """Outcomes of requests in a row: bursts, and runs of others whose lengths are at random."""
    if case.share == 1:
        return [True] * requests
    begins = case.share / (case.burst * (1 - case.share))  # chance that a burst follows on a request outside of one
    ends = int(rng.random() < case.share) * int(rng.integers(1, case.burst + 1))  # the trial may begin within one
    found = [True] * ends
    while len(found) < requests:
        found += [False] * int(rng.geometric(begins)) + [True] * case.burst
    return found[:requests]


def trial(case: Case, rng: np.random.Generator) -> tuple[float | None, bool]:
    """When the guard blames the model, in seconds, if it does; and whether Wald's test does."""
    clock, traffic = Clock(), Traffic()
    guard = Guard(LIMITS, clock)
    guard.begin("new", "", traffic, Traffic())
    times = np.sort(rng.uniform(0, LIMITS.seconds, rng.poisson(case.rate * LIMITS.seconds))).tolist()
    next_look, blamed, wald = TICK_SECONDS, None, False
    for now, hit in zip([*times, math.inf], [*hits(case, len(times), rng), False], strict=True):
        while next_look < min(now, LIMITS.seconds):
            clock.now, next_look = next_look, next_look + TICK_SECONDS
            if blamed is None and guard.look():
                blamed = clock.now
            wald = wald or by_wald(
                traffic.now.answers if case.what == FAILED else traffic.now.comparisons, case.allowed
            )
        if blamed is not None and wald:
            break
        if traffic.due(now):
            traffic.now.add(failed=hit and case.what == FAILED)
            traffic.now.compare(slow=hit and case.what == SLOW)
    return blamed, wald


def by_wald(seen: Tally, allowed: float) -> bool:
    """Twice the allowed share against it, each request by itself (A. Wald 1945)."""
    ratio = seen.hits * math.log(2) + (seen.total - seen.hits) * math.log((1 - 2 * allowed) / (1 - allowed))
    return seen.total >= LIMITS.requests and ratio >= math.log(1 / ALPHA)


def simulated(trials: int, seed: int) -> bool:
    print("| requests that | share | in bursts of | requests/s | blamed | after, median | by Wald's test |")
    print("|---|---|---|---|---|---|---|")
    missed = False
    for number, case in enumerate(cases()):
        rng = np.random.default_rng([seed, number])
        found = [trial(case, rng) for _ in range(trials if case.fine else trials // 5)]
        when = [blamed for blamed, _ in found if blamed is not None]
        after = f"{statistics.median(when):.0f} s" if when else "–"
        cells = [case.what, f"{100 * case.share:g} %", case.burst, f"{case.rate:g}", rate(len(when), len(found)), after]
        print(f"| {' | '.join(map(str, cells))} | {rate(sum(wald for _, wald in found), len(found))} |", flush=True)
        missed |= case.fine and case.burst <= 20 and len(when) > 0.01 * len(found)
        missed |= case.share == 1 and len(when) < len(found)
    print(f"\n{trials:,} trials of {LIMITS.seconds:g} s a row within the limits, a fifth of it in others; seed {seed}")
    return missed


def rate(count: int, trials: int) -> str:
    bounds = binomtest(count, trials).proportion_ci(method="exact")
    return f"{100 * count / trials:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


def thrice(model: Loaded) -> Loaded:
    """The model, at three times its cost."""

    def score(matrix: np.ndarray) -> np.ndarray:
        for _ in range(2):
            model.scorer.score(matrix)
        return model.scorer.score(matrix)

    return replace(model, scorer=Scorer(model.scorer.features, model.scorer.trees, score, score))


def measured(comparisons: int) -> None:
    former = load(encode(slow("20250714_0215", trees=400)), where="here")
    new = load(encode(slow("20250715_0215", trees=400)), where="here")
    rng = np.random.default_rng(3)
    lists = [
        [Candidate.of(str(n), {"A": float(rng.random()), "S": 0.5}) for n in range(size)] for size in (10, 30, 100)
    ]
    print("\n| new model | beside it | comparisons that call it slow |\n|---|---|---|")
    for name, model in (("as fast", new), ("three times as slow", thrice(new))):
        for loops in (0, 2):
            with busy(loops):
                found = [
                    is_slow(model, former, lists[index % len(lists)], limit=0, deadline=1)
                    for index in range(comparisons)
                ]
            print(f"| {name} | {loops or 'no'} busy loops | {rate(sum(found), comparisons)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    missed = simulated(options.trials, options.seed)
    measured(options.comparisons)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
