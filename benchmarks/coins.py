"""What exploration's coins are good for: false alarms, leaks caught, and whom they call better.

    python benchmarks/coins.py --trials 1000

Each trial draws fresh rankings of the simulated lawyers-for-cases world, of which a number are explored by FairPairs as
the service does, and puts them through the library's own metrics and `gate.checks.decide` with the default policy. The
truth is nDCG@5 over a large population, by clicks and by *utility*: as if relevance were what a client would answer to
the item's true utility, whether it was seen or not. Rankers are LightGBM models of separate training draws.

Prints three tables: of the coin check, of the unbiased difference, and of verdicts; and what exploration costs in shown
quality. Intervals of rates are Clopper-Pearson's, at 95 %.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest

from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.checks import Decision, blocks, decide, doubt, suspicious_gain
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import decimal
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics import coins, quality, unbiased
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.serving.ranking.order import explore
from ltr_pipeline.simulate.debiasing import worth as by_utility
from ltr_pipeline.simulate.draw import sample
from ltr_pipeline.simulate.world import FEATURES, ShownLists, World

SIZES = (100, 300, 1000, 3000)
TRAINING = 6000  # rankings
POPULATION = 60_000  # rankings, over which the truth is taken
COSTED = 20_000  # rankings, for what exploration costs
GAINS = (0.03, 0.07, 0.11, 0.15)
LITTLE_NOISE = 0.03  # in the shown order
PARAMETERS = {
    "objective": "lambdarank",
    "label_gain": [0, 1, 3, 7],
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "num_threads": 1,
    "deterministic": True,
    "verbose": -1,
}

Floats = NDArray[np.float64]
Ranker = Callable[[ShownLists, np.random.Generator], Floats]


@dataclass(frozen=True)
class Row:
    """A challenger against a champion in a world.

    `test_rankings` is the size of the test window where that is not the number of explored rankings; `repeats` says how
    often each list is logged.
    """

    name: str
    world: World
    challenger: Ranker
    champion: Ranker
    test_rankings: int | None = None
    repeats: int = 1
    kind: str = "champion"


def world(seed: int, **changes: object) -> World:
    return World(legacy_weights=load_mapping().legacy_weights, seed=seed, **changes)


def train(world: World, seed: int, columns: Callable[[ShownLists], Floats] | None = None) -> Ranker:
    """Train on a draw of its own, debiased unless there are further `columns`, such as the position."""
    drawn = sample(world, TRAINING, np.random.default_rng([seed, 1]))

    def features(lists: ShownLists) -> Floats:
        return np.column_stack([lists.features, columns(lists)]) if columns else lists.features

    data = lgb.Dataset(
        features(drawn), drawn.relevance(), group=drawn.group, position=None if columns else drawn.position - 1
    )
    model = lgb.train(PARAMETERS | {"seed": seed}, data, 70)
    return lambda lists, _: model.predict(features(lists))


def legacy(lists: ShownLists, _: np.random.Generator) -> Floats:
    weights = load_mapping().legacy_weights
    return np.nan_to_num(lists.features) @ np.array([weights.get(name, 0.0) for name in FEATURES])


def plus(ranker: Ranker, other: Ranker, share: float) -> Ranker:
    """Add `share` standard deviations of another score."""
    return lambda lists, rng: standard(ranker(lists, rng)) + share * standard(other(lists, rng))


def noise(lists: ShownLists, rng: np.random.Generator) -> Floats:
    return rng.normal(size=len(lists.item))


def spoiled(ranker: Ranker, world: World, gain: float, than: Ranker) -> Ranker:
    """`ranker` with noise, until the nDCG@5 of `than` is truly better by `gain`."""
    lists = sample(world, POPULATION // 4, np.random.default_rng([world.seed, 4]))

    def ndcg(each: Ranker) -> float:
        score = each(lists, np.random.default_rng(5))
        return float(np.nanmean(quality.ndcg(Rankings(lists.relevance(), score, lists.group))))

    best = ndcg(than)
    return plus(
        ranker, noise, brentq(lambda share: best - ndcg(plus(ranker, noise, share)) - gain, 0.0, 9.0, xtol=1e-3)
    )


def place(lists: ShownLists) -> Floats:
    return lists.position.astype(np.float64)


def tilted(ranker: Ranker, by: float) -> Ranker:
    return lambda lists, rng: standard(ranker(lists, rng)) - by * lists.position


def knowing(ranker: Ranker, share: float) -> Ranker:
    """Know the answer of a share of the answered."""

    def score(lists: ShownLists, rng: np.random.Generator) -> Floats:
        known = rng.random(len(lists.item)) < share
        return standard(ranker(lists, rng)) + 2.0 * lists.relevance() * known

    return score


def standard(score: Floats) -> Floats:
    return (score - score.mean()) / score.std()


def rows(seed: int) -> Iterator[Row]:
    plain = world(seed)
    models = [train(plain, seed + i) for i in range(3)]
    yield Row("honest, as good", plain, models[0], models[1])
    yield Row("honest, as good, each list logged ten times", plain, models[0], models[1], repeats=10)
    yield Row("honest, worse: noise", plain, plus(models[0], noise, 0.5), models[1])
    for gain in GAINS:
        champion = spoiled(models[1], plain, gain, than=models[0])
        yield Row(f"honest, better by {gain:g}, of 1,000 rankings", plain, models[0], champion, test_rankings=1000)
    yield Row("honest, leans to the shown order", plain, plus(models[0], legacy, 1.0), models[1])
    yield Row("first model against the legacy weights", plain, models[0], legacy, kind="legacy_linear")
    quiet = world(seed, exploration=LITTLE_NOISE)
    first = train(quiet, seed + 10)
    yield Row("the same, shown with little noise", quiet, first, legacy, kind="legacy_linear")
    yield Row("legacy weights again, shown with little noise", quiet, legacy, first)
    for examination in (1.0, plain.examination):
        biased = world(seed, examination=examination)
        leaking, honest = train(biased, seed + 20, place), train(biased, seed + 21)
        yield Row(f"position is a feature, examination 1/rank^{examination:g}", biased, leaking, honest)
    yield Row("tilted by 0.05 SD a position", plain, tilted(models[0], 0.05), models[1])
    yield Row("knows every outcome", plain, knowing(models[0], 1.0), models[1])
    yield Row("knows 70 % of the positives", plain, knowing(models[0], 0.7), models[1])


@cache
def truth(number: int) -> tuple[float, float]:
    """True difference in nDCG@5 of a row, by clicks and by utility."""
    row, rng = LISTED[number], np.random.default_rng([number, 3])
    lists = sample(row.world, POPULATION, rng)
    ours, theirs = row.challenger(lists, rng), row.champion(lists, rng)
    clicks = [quality.ndcg(Rankings(lists.relevance(), score, lists.group)) for score in (ours, theirs)]
    worth = [by_utility(lists, score) for score in (ours, theirs)]
    return float(np.nanmean(clicks[0] - clicks[1])), float(np.nanmean(worth[0] - worth[1]))


def trial(row: Row, explored: int, rng: np.random.Generator) -> Evidence:
    """One night: a fresh test window through the library's own measurements."""
    count = max(row.test_rankings or explored, explored)
    share = explored / count
    lists = sample(msgspec.structs.replace(row.world, explored_share=share), count, rng)
    score, other = row.challenger(lists, rng), row.champion(lists, rng)
    relevance, position, propensity = lists.relevance(), lists.position, lists.propensity
    group, users = lists.group, lists.user.astype(np.int64)
    if row.repeats > 1:
        group, users = np.tile(group, row.repeats), np.tile(users, row.repeats)
        score, other, relevance, position, propensity = (
            np.tile(column, row.repeats) for column in (score, other, relevance, position, propensity)
        )
    ours, theirs = (quality.ndcg(Rankings(relevance, each, group)) for each in (score, other))
    at_random = quality.ndcg(Rankings(relevance, np.zeros(len(relevance)), group))
    pairs = coins.coin_pairs(group, position, propensity)
    found = quality.estimate(ours, users)
    return Evidence(
        trees=70,
        train_impressions=50_000,
        test_queries=found.n,
        metrics=Metrics(ndcg_at_5=found, linear_ndcg_at_5=found, mrr=found, hit_at_3=found),
        against_random=quality.paired(ours, at_random, users),
        champion=Comparison(
            version="20250101_0215",
            kind=row.kind,
            delta=quality.paired(ours, theirs, users),
            unbiased=unbiased.difference(pairs, relevance, score, other, users),
        ),
        fairness=Fairness(configured=False, evaluable=False, reason="not looked at here"),
        latency=Latency(
            p50_ms=1, p95_ms=2, p99_ms=3, requests=1000, candidates_p50=9, candidates_max=20, trees=70, cpu="assumed"
        ),
        landed=Landed(records_read=10_000, records_quarantined=10, impressions=8_000, feedback=2_000),
        coins=coins.check(pairs, score, group, users, seed=int(rng.integers(2**31))),
    )


LISTED: list[Row] = []  # filled before the workers fork, so that they share the models


def batch(task: tuple[int, int, int, int]) -> tuple[int, int, Counter[str]]:
    """Count what the checks say, over the trials of a row at a size."""
    number, size, trials, seed = task
    row, found = LISTED[number], Counter()
    for index in range(trials):
        rng = np.random.default_rng([seed, zlib.crc32(row.name.encode()), size, index])
        evidence = trial(row, size, rng)
        decision, blind = decide(evidence, Policy()), decide(blinded(evidence), Policy())
        status = {check.name: check.status for check in decision.checks}
        delta = evidence.champion.unbiased
        found["published"] += decision.verdict == "publish"
        found["by clicks alone"] += blind.verdict == "publish"
        found["published, audited"] += audited(decision, evidence) == "publish"
        found["knows"] += status["coin"] == "fail"
        found["p < 0.01"] += evidence.coins.p_value < 0.01
        found["enough"] += evidence.coins.enough
        found["pairs"] += evidence.coins.pairs
        found["share"] += evidence.coins.share or 0.5
        found["better"] += delta is not None and delta.value > 0
        found["better, unsuspected"] += delta is not None and delta.value > 0 and status["coin"] != "fail"
        found["worse, unsuspected"] += delta is not None and delta.value < 0 and status["coin"] != "fail"
        found["passes"] += status["unbiased_delta"] == "pass"
        found["fails"] += status["unbiased_delta"] == "fail"
        found["value"] += delta.value if delta else 0
        found["half"] += delta.half if delta else 0
    return number, size, found


def audited(decision: Decision, evidence: Evidence) -> str:
    """Judge as if an audit of the features had found nothing."""
    named = {check.name: check for check in decision.checks}
    gain = suspicious_gain(evidence.champion, Policy(), doubt=doubt(named["coin"], named["unbiased_delta"], audit=True))
    statuses = [check.status for check in (named | {gain.name: gain}).values()]
    return "keep" if any(blocks(status, Policy()) for status in statuses) else "publish"


def blinded(evidence: Evidence) -> Evidence:
    """Take the coins away."""
    champion = msgspec.structs.replace(evidence.champion, unbiased=None)
    return msgspec.structs.replace(evidence, coins=None, champion=champion)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of each row and number of explored rankings")
    parser.add_argument("--largest", type=int, default=300, help="trials at the largest number of rankings")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of explored rankings")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    LISTED.extend(row for row in rows(options.seed) if options.only in row.name)
    trials = {size: options.trials if size < max(SIZES) else options.largest for size in options.sizes}
    tasks = [(number, size, trials[size], options.seed) for number in range(len(LISTED)) for size in options.sizes]
    counts: dict[tuple[int, int], Counter[str]] = {}
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for number, size, found in pool.imap_unordered(batch, tasks):
            counts[number, size] = found
            print(f"{time.monotonic() - started:.0f} s: {LISTED[number].name}, {size}: {dict(found)}", file=sys.stderr)
    print_coin_check(counts, trials)
    print_difference(counts, trials)
    print_verdicts(counts, trials)
    print_cost(options.seed)
    print(f"\nTrials: {', '.join(f'{count:,} at {size:,} rankings' for size, count in trials.items())}.")
    return 0


def print_table(trials: dict[int, int], columns: tuple[str, ...], cell: Callable[[int, int], str | None]) -> None:
    """Print a row for each of `LISTED` that the sizes have cells for."""
    heads = [*columns, *(f"{size:,} explored rankings" for size in trials)]
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    for number, row in enumerate(LISTED):
        clicks, utility = truth(number)
        told = {"ranker": row.name, "ΔnDCG@5 by clicks": decimal(clicks), "by utility": decimal(utility)}
        cells = [cell(number, size) for size in trials]
        print(f"| {' | '.join([*(told[column] for column in columns), *map(str, cells)])} |")


def print_coin_check(counts: dict[tuple[int, int], Counter[str]], trials: dict[int, int]) -> None:
    print("\nThe coin check fails (and at p < 0.01 it would):\n")
    print_table(
        trials,
        ("ranker",),
        lambda number, size: (
            f"{rate(counts[number, size]['knows'], trials[size])}"
            f" ({100 * counts[number, size]['p < 0.01'] / trials[size]:.1f} %)"
        ),
    )
    for number, row in enumerate(LISTED):
        for size, count in trials.items():
            found = counts[number, size]
            print(
                f"  {row.name}, {size}: {found['pairs'] / count:,.0f} pairs, "
                f"share {found['share'] / count:.3f}, enough {found['enough'] / count:.3f}",
                file=sys.stderr,
            )


def print_difference(counts: dict[tuple[int, int], Counter[str]], trials: dict[int, int]) -> None:
    def cell(number: int, size: int) -> str:
        found, count, (_, utility) = counts[number, size], trials[size], truth(number)
        agree = found["better, unsuspected" if utility > 0 else "worse, unsuspected"] + found["knows"]
        mean = f"{decimal(found['value'] / count)} ± {found['half'] / count:.3f}"
        return f"{rate(agree, count)}; {mean}"

    print(
        "\nBy coin pairs the sign is that of the difference in utility, or the coin check fails; mean and half width:\n"
    )
    print_table(trials, ("ranker", "ΔnDCG@5 by clicks", "by utility"), cell)
    print("\nIt passes / fails:\n")
    print_table(
        trials,
        ("ranker", "by utility"),
        lambda number, size: " / ".join(rate(counts[number, size][what], trials[size]) for what in ("passes", "fails")),
    )


def print_verdicts(counts: dict[tuple[int, int], Counter[str]], trials: dict[int, int]) -> None:
    print("\nPublished (and without the coins):\n")
    print_table(
        trials,
        ("ranker", "ΔnDCG@5 by clicks", "by utility"),
        lambda number, size: (
            f"{rate(counts[number, size]['published'], trials[size])}"
            f" ({100 * counts[number, size]['by clicks alone'] / trials[size]:.1f} %)"
        ),
    )


def print_cost(seed: int) -> None:
    """Print what swapping neighbours costs in shown quality, by utility, for lists that a trained model orders."""
    plain, rng = world(seed), np.random.default_rng([seed, 5])
    lists, chance = sample(plain, COSTED, rng), random.Random(seed)
    score = train(plain, seed)(lists, rng)
    shown, begin = score.copy(), 0
    for size in lists.group.tolist():
        order = (begin + np.argsort(-score[begin : begin + size])).tolist()
        shown[list(explore(order, "v", chance).order)] = -np.arange(size)
        begin += size
    loss = by_utility(lists, score) - by_utility(lists, shown)
    loss = loss[~np.isnan(loss)]
    error = 1.96 * loss.std() / np.sqrt(len(loss))
    before = float(np.nanmean(by_utility(lists, score)))
    print(
        f"\nShown nDCG@5 by utility: {before:.3f}; an explored list loses {loss.mean():.4f} ± {error:.4f}, so 5 % "
        f"explored lists cost {0.05 * loss.mean():.5f} on average ({len(loss):,} lists)."
    )


def rate(count: int, trials: int) -> str:
    bounds = binomtest(count, trials).proportion_ci(method="exact")
    return f"{100 * count / trials:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
