"""How often the gate lets a bad challenger through, and how often it blocks a good one.

    python benchmarks/gate_error_rates.py --trials 1000

A trial draws 100, 300 or 1,000 rankings of the simulated world at random, as a test window would hold, and puts them
through the library's own metrics, fairness null and `gate.decision.decide` with the default policy. Each row takes
several of its challengers (`challengers.py`) in turn. Intervals of rates are Clopper-Pearson's, at 95 %. A second table
repeats the verdicts with ltr_on_inconclusive = publish, a third has the fairness check alone, a last one what blocked.

Exits with 1 when, at 1,000 rankings, 2 % or more of a bad row are let through or 5 % or more of a good row blocked.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import zlib
from collections import Counter

import numpy as np
import polars as pl
from msgspec.structs import replace

from challengers import AGAIN, Contest, Floats, Labels, Row, rows
from common import assumed_latency, rate
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import decimal
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics import fairness, quality
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings

POLICY = Policy()
LENIENT = Policy(on_inconclusive="publish")
SIZES = (100, 300, 1000)


def trial(case: Contest, size: int, rng: np.random.Generator, *, fairly: bool) -> Evidence:
    """One night: a fresh test window through the library's own measurements.

    The fairness is left out where a failed check has blocked already, since its null takes most of the time, unless it
    is what the row is about (`fairly`).
    """
    chosen, users = case.draw(size, rng)
    seed, evidence = int(rng.integers(2**31)), measured(case, chosen, users)
    if not fairly and decide(evidence, LENIENT).verdict == "keep":
        return evidence
    return replace(evidence, fairness=fairness_of(case, chosen, users, seed))


def measured(case: Contest, chosen: Labels, users: Labels) -> Evidence:
    """Evidence of a test window but for its fairness, which costs most of the time."""

    def compared(other: Floats, kind: str) -> Comparison:
        delta = quality.paired(case.ndcg[chosen], other[chosen], users)
        return Comparison(version="20250101_0215", kind=kind, delta=delta, metrics=metrics(other[chosen], users))

    nothing = Comparison(version=None, kind="none", reason="nothing is published yet")
    return Evidence(
        trees=70,
        train_impressions=case.train_impressions,
        test_queries=len(chosen) // case.repeats,
        metrics=metrics(case.ndcg[chosen], users),
        against_random=quality.paired(case.ndcg[chosen], case.population.random[chosen], users),
        champion=nothing if case.champion is None else compared(case.champion, "champion"),
        best_recent=None if case.best_recent is None else compared(case.best_recent, "best_recent"),
        fairness=Fairness(configured=False, evaluable=False, reason="not looked at here"),
        latency=assumed_latency(case.latency_ms),
        landed=Landed(records_read=10_000, records_quarantined=10, impressions=8_000, feedback=2_000),
    )


def metrics(ndcg: Floats, users: Labels) -> Metrics:
    found = quality.estimate(ndcg, users)
    return Metrics(ndcg_at_5=found, linear_ndcg_at_5=found, mrr=found, hit_at_3=found)


def fairness_of(case: Contest, chosen: Labels, users: Labels, seed: int) -> Fairness:
    p = case.population
    group = p.group[chosen]
    row = np.repeat(p.starts[chosen] - (np.cumsum(group) - group), group) + np.arange(group.sum())
    labels = pl.Series(["a", "b", "c", "d", None]).gather(case.labels[row])  # -1 is the last
    rankings = Rankings(p.relevance[row], case.score[row], group)
    return fairness.measure(rankings, ProtectedGroups(labels, item=pl.Series(p.item[row])), users, seed)


COUNTED = {
    "bad": "let through",
    "unfair": "let through",
    "good": "blocked",
    "large": "blocked",
    "info": "published",
}
VERDICTS = frozenset({"published", "lenient", "fair"})  # what is counted beside the checks
LISTED: list[Row] = []  # filled before the workers fork, so that they share the populations


def batch(task: tuple[int, int, int, int]) -> tuple[int, int, Counter[str]]:
    """Count the verdicts and what blocked, over the trials of a row at a size."""
    number, size, trials, seed = task
    row, found = LISTED[number], Counter()
    for index in range(trials):
        rng = np.random.default_rng([seed, zlib.crc32(row.name.removesuffix(AGAIN).encode()), size, index])
        evidence = trial(row.contests[index % len(row.contests)], size, rng, fairly=about_fairness(row))
        decision = decide(evidence, POLICY)
        found["published"] += decision.verdict == "publish"
        found["lenient"] += decide(evidence, LENIENT).verdict == "publish"
        found.update(check.name for check in decision.checks if check.status not in ("pass", "skipped"))
        found["fair"] += all(check.status == "pass" for check in decision.checks if check.name == "fairness_gap")
    return number, size, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of each row and number of rankings")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--population", type=int, default=30_000, help="rankings shown, over which the truth is taken")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rankings in the test window")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    LISTED.extend(row for row in rows(options.seed, options.population) if options.only in row.name)
    contests = sum(len(row.contests) for row in LISTED)
    print(f"{time.monotonic() - started:.0f} s: {len(LISTED)} rows of {contests} contests ready", file=sys.stderr)
    largest_first = sorted(options.sizes, reverse=True)
    tasks = [(number, size, options.trials, options.seed) for size in largest_first for number in range(len(LISTED))]
    counts: dict[tuple[int, int], Counter[str]] = {}
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for number, size, found in pool.imap_unordered(batch, tasks):
            counts[number, size] = found
            print(f"{time.monotonic() - started:.0f} s: {LISTED[number].name}, {size}: {dict(found)}", file=sys.stderr)
    print_table(counts, "published", options.sizes, options.trials)
    print("\nWith `ltr_on_inconclusive` = `publish`:\n")
    print_table(counts, "lenient", options.sizes, options.trials)
    print("\nThe fairness check alone passes:\n")
    print_fairness(counts, options.sizes, options.trials)
    print("\nWhat blocked, in how many of the trials:\n")
    print_blocking(counts, options.sizes, options.trials)
    print(f"\n{options.trials:,} trials a cell.")
    if max(SIZES) not in options.sizes:
        return 0
    missed = [row.name for number, row in enumerate(LISTED) if misses(row, counts[number, max(SIZES)], options.trials)]
    print(f"Missed at {max(SIZES):,} rankings: {', '.join(missed) or 'none'}.")
    return int(bool(missed))


def misses(row: Row, found: Counter[str], trials: int) -> bool:
    share = found["published"] / trials
    return (row.kind == "bad" and share >= 0.02) or (row.kind == "good" and share <= 0.95)


def print_table(counts: dict[tuple[int, int], Counter[str]], verdict: str, sizes: list[int], trials: int) -> None:
    heads = " | ".join(f"{size:,} rankings" for size in sizes)
    print(f"| challenger | true ΔnDCG@5 (by utility) | true gap (by utility) | counted | {heads} |")
    print("|---|---|---|---|" + "---|" * len(sizes))
    for number, row in enumerate(LISTED):
        passed = [counts[number, size][verdict] for size in sizes]
        rates = [rate(trials - count if row.kind in ("good", "large") else count, trials) for count in passed]
        counted = COUNTED[row.kind]
        truths = [truth([case.delta for case in row.contests]), truth([case.gap for case in row.contests])]
        print(f"| {' | '.join([row.name, *truths, counted, *rates])} |")


def about_fairness(row: Row) -> bool:
    return "group" in row.name or "12 items" in row.name or "0.025" in row.name


def print_fairness(counts: dict[tuple[int, int], Counter[str]], sizes: list[int], trials: int) -> None:
    print(f"| challenger | true gap | {' | '.join(f'{size:,} rankings' for size in sizes)} |")
    print("|---|---|" + "---|" * len(sizes))
    for number, row in enumerate(LISTED):
        if about_fairness(row):
            rates = [rate(counts[number, size]["fair"], trials) for size in sizes]
            print(f"| {' | '.join([row.name, truth([case.gap for case in row.contests]), *rates])} |")


def print_blocking(counts: dict[tuple[int, int], Counter[str]], sizes: list[int], trials: int) -> None:
    """The checks that did not pass in more than one trial of a hundred."""
    print(f"| challenger | {' | '.join(f'{size:,} rankings' for size in sizes)} |")
    print("|---|" + "---|" * len(sizes))
    for number, row in enumerate(LISTED):
        cells = []
        for size in sizes:
            found = Counter({name: n for name, n in counts[number, size].items() if name not in VERDICTS})
            common = [f"{name} {100 * n / trials:.0f} %" for name, n in found.most_common() if n > 0.01 * trials]
            cells.append(", ".join(common) or "–")
        print(f"| {row.name} | {' | '.join(cells)} |")


def truth(values: list[tuple[float, float]]) -> str:
    """Range over a row's contests by clicks, and by utility."""
    texts = []
    for column in zip(*values, strict=True):
        low, high = (decimal(end) for end in (min(column), max(column)))
        texts.append(low if low == high else f"{low} to {high}")
    return "–" if "nan" in texts else f"{texts[0]} ({texts[1]})"


if __name__ == "__main__":
    sys.exit(main())
