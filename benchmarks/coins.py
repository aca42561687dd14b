"""What exploration's coins are good for: false alarms, leaks caught, and whom they call better.

    python benchmarks/coins.py

Each trial draws fresh rankings of the simulated lawyers-for-cases world, of which a number are explored by FairPairs as
the service does, and puts them through the library's own metrics and `gate.decision.decide` with the default policy;
rows of the same world judge the same draws. The feature audit is taken to be clean. The truth is nDCG@5 over a large
population, by clicks and by *utility*: as if relevance were what a client would answer to the item's true utility,
whether it was seen or not. Rankers are LightGBM models of separate training draws.

Prints tables of the coin check, of the unbiased difference, and of verdicts; and what exploration costs in shown
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
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from common import PARAMETERS, assumed_latency, by_legacy_weights, clean_audit, rate, simulated
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import decimal
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics import coins, quality, unbiased
from ltr_pipeline.metrics.coins import CoinCheck
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.serving.ranking.order import explore
from ltr_pipeline.simulate.debiasing import worth as by_utility
from ltr_pipeline.simulate.draw import sample
from ltr_pipeline.simulate.world import ShownLists, World

SIZES = (100, 300, 1000, 3000)
TRIALS = (100, 400, 400, 100)
FEW = 300  # explored rankings, with which the gate promises something
TRAINING = 6000  # rankings
POPULATION = 60_000  # rankings, over which the truth is taken
COSTED = 20_000  # rankings, for what exploration costs
GAINS = (0.03, 0.07, 0.11, 0.15)
LITTLE_NOISE = 0.03  # in the shown order

Floats = NDArray[np.float64]
Column = NDArray[Any]
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
    test_rankings: int = 0
    repeats: int = 1
    kind: str = "champion"

    def judged_at(self, explored: int) -> bool:
        """Not where the row says the same as another, nor where repeats are dear."""
        return explored == FEW if self.repeats > 1 or self.test_rankings else True


class Model:
    """A model of a training draw of its own, debiased unless there are further `columns`, such as the position."""

    def __init__(self, world: World, seed: int, columns: Callable[[ShownLists], Floats] | None = None) -> None:
        self.columns, self._last = columns, (None, np.empty(0))
        drawn = sample(world, TRAINING, np.random.default_rng([seed, 1]))
        data = lgb.Dataset(
            self._features(drawn),
            drawn.relevance(),
            group=drawn.group,
            position=None if columns else drawn.position - 1,
        )
        self.booster = lgb.train(PARAMETERS | {"seed": seed}, data, 70)

    def _features(self, lists: ShownLists) -> Floats:
        return np.column_stack([lists.features, self.columns(lists)]) if self.columns else lists.features

    def __call__(self, lists: ShownLists, _: np.random.Generator) -> Floats:
        if self._last[0] is not lists:  # most rows of a draw ask again
            # One thread: the workers are forks, and threads do not survive a fork.
            self._last = lists, self.booster.predict(self._features(lists), num_threads=1)
        return self._last[1]


def legacy(lists: ShownLists, _: np.random.Generator) -> Floats:
    return by_legacy_weights(lists.features)


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

    aim = ndcg(than) - gain
    return plus(ranker, noise, brentq(lambda share: aim - ndcg(plus(ranker, noise, share)), 0.0, 9.0, xtol=1e-3))


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
    plain = simulated(seed)
    models = [Model(plain, seed + i) for i in range(3)]
    yield Row("honest, as good", plain, models[0], models[1])
    yield Row("honest, as good, each list logged ten times", plain, models[0], models[1], repeats=10)
    yield Row("honest, worse: noise", plain, plus(models[0], noise, 0.5), models[1])
    for gain in GAINS:
        champion = spoiled(models[1], plain, gain, than=models[0])
        yield Row(f"honest, better by {gain:g}", plain, models[0], champion)
        yield Row(f"honest, better by {gain:g}, of 1,000 rankings", plain, models[0], champion, 1000)
    yield Row("honest, leans to the shown order", plain, plus(models[0], legacy, 1.0), models[1])
    yield Row("first model against the legacy weights", plain, models[0], legacy, kind="legacy_linear")
    quiet = simulated(seed, exploration=LITTLE_NOISE)
    first = Model(quiet, seed + 10)
    yield Row("the same, shown with little noise", quiet, first, legacy, kind="legacy_linear")
    yield Row("legacy weights again, shown with little noise", quiet, legacy, first)
    for examination in (1.0, plain.examination):
        biased = simulated(seed, examination=examination)
        leaking, honest = Model(biased, seed + 20, place), Model(biased, seed + 21)
        name = f"position is a feature, examination 1/rank^{examination:g}"
        yield Row(name, biased, leaking, honest)
        yield Row(f"{name}, each list logged ten times", biased, leaking, honest, repeats=10)
    yield Row("tilted by 0.05 SD a position", plain, tilted(models[0], 0.05), models[1])
    yield Row("knows every outcome, unseen by the audit", plain, knowing(models[0], 1.0), models[1])
    yield Row("knows 70 % of the positives, unseen by the audit", plain, knowing(models[0], 0.7), models[1])


def key(world: World) -> bytes:
    return msgspec.json.encode(world)


@cache
def population(of: bytes) -> ShownLists:
    return sample(msgspec.json.decode(of, type=World), POPULATION, np.random.default_rng([zlib.crc32(of), 3]))


@cache
def truth(number: int) -> tuple[float, float]:
    """True difference in nDCG@5 of a row, by clicks and by utility."""
    row, rng = LISTED[number], np.random.default_rng([number, 3])
    lists = population(key(row.world))
    ours, theirs = row.challenger(lists, rng), row.champion(lists, rng)
    clicks = [quality.ndcg(Rankings(lists.relevance(), score, lists.group)) for score in (ours, theirs)]
    worth = [by_utility(lists, score) for score in (ours, theirs)]
    return float(np.nanmean(clicks[0] - clicks[1])), float(np.nanmean(worth[0] - worth[1]))


class Night:
    """A fresh test window through the library's own measurements, each made once for all rows that judge it."""

    def __init__(self, world: World, rankings: int, explored: int, repeats: int, rng: np.random.Generator) -> None:
        self.rng, self.repeats = rng, repeats
        share = explored / rankings
        self.lists = lists = sample(msgspec.structs.replace(world, explored_share=share), rankings, rng)
        self.relevance, self.group, self.users = map(self._logged, (lists.relevance(), lists.group, lists.user))
        self.users = self.users.astype(np.int64)
        self.pairs = coins.coin_pairs(self.group, self._logged(lists.position), self._logged(lists.propensity))
        self.seed = int(rng.integers(2**31))
        self.score, self.ndcg, self.coins = cache(self._score), cache(self._ndcg), cache(self._coins)

    def _logged(self, column: Column) -> Column:
        return np.tile(column, self.repeats)

    def _score(self, ranker: Ranker) -> Floats:
        return self._logged(ranker(self.lists, self.rng))

    def _ndcg(self, ranker: Ranker) -> Floats:
        return quality.ndcg(Rankings(self.relevance, self.score(ranker), self.group))

    def _coins(self, ranker: Ranker) -> CoinCheck:
        return coins.check(self.pairs, self.score(ranker), self.group, self.users, seed=self.seed)

    def metrics(self, ranker: Ranker) -> Metrics:
        found = quality.estimate(self.ndcg(ranker), self.users)
        return Metrics(ndcg_at_5=found, linear_ndcg_at_5=found, mrr=found, hit_at_3=found)

    def evidence(self, row: Row) -> Evidence:
        ours, theirs = row.challenger, row.champion
        metrics = self.metrics(ours)
        return Evidence(
            trees=70,
            train_impressions=50_000,
            test_queries=metrics.ndcg_at_5.n // self.repeats,
            metrics=metrics,
            against_random=quality.paired(self.ndcg(ours), self.ndcg(at_random), self.users),
            champion=Comparison(
                version="20250101_0215",
                kind=row.kind,
                metrics=self.metrics(theirs),
                delta=quality.paired(self.ndcg(ours), self.ndcg(theirs), self.users),
                unbiased=unbiased.difference(
                    self.pairs, self.relevance, self.score(ours), self.score(theirs), self.users
                ),
            ),
            fairness=Fairness(configured=False, evaluable=False, reason="not looked at here"),
            latency=assumed_latency(),
            landed=Landed(records_read=10_000, records_quarantined=10, impressions=8_000, feedback=2_000),
            coins=self.coins(ours),
            audit=[clean_audit("all of them", gain=1.0, was=1.0)],
        )


def at_random(lists: ShownLists, _: np.random.Generator) -> Floats:
    return np.zeros(len(lists.item))  # all tied: the expectation of random order


LISTED: list[Row] = []  # filled before the workers fork, so that they share the models


@dataclass(frozen=True)
class Task:
    """Rows, by number, that judge the same draws."""

    numbers: tuple[int, ...]
    size: int
    trials: int
    seed: int


def tasks(trials: dict[int, int], seed: int) -> Iterator[Task]:
    for size, count in trials.items():
        alike: dict[tuple[bytes, int, int], list[int]] = {}
        for number, row in enumerate(LISTED):
            if row.judged_at(size):
                alike.setdefault((key(row.world), row.test_rankings, row.repeats), []).append(number)
        for numbers in alike.values():
            yield Task(tuple(numbers), size, count, seed)


def batch(task: Task) -> tuple[Task, dict[int, Counter[str]]]:
    """Count what the checks say, over the trials of some rows at a size."""
    first, found = LISTED[task.numbers[0]], {number: Counter[str]() for number in task.numbers}
    drawn = zlib.crc32(key(first.world))  # a list that is logged ten times is the same list
    for index in range(task.trials):
        rng = np.random.default_rng([task.seed, drawn, task.size, index])
        night = Night(first.world, max(first.test_rankings, task.size), task.size, first.repeats, rng)
        for number in task.numbers:
            found[number].update(verdicts(night.evidence(LISTED[number])))
    return task, found


def verdicts(evidence: Evidence) -> Counter[str]:
    decision, found = decide(evidence, Policy()), Counter[str]()
    status = {check.name: check.status for check in decision.checks}
    delta = evidence.champion.unbiased
    found["published"] = decision.verdict == "publish"
    found["by clicks alone"] = decide(blinded(evidence), Policy()).verdict == "publish"
    found["knows"] = status["coin"] == "fail"
    found["p < 0.01"] = evidence.coins.p_value < 0.01
    found["enough"] = evidence.coins.enough
    found["pairs"] = evidence.coins.pairs
    found["share"] = evidence.coins.share or 0.5
    for sign, says in (
        ("better", delta is not None and delta.value > 0),
        ("worse", delta is not None and delta.value < 0),
    ):
        found[sign] = says
        found[f"{sign}, or knows"] = says or status["coin"] == "fail"
    found["passes"] = status["unbiased_delta"] == "pass"
    found["fails"] = status["unbiased_delta"] == "fail"
    found["value"] = delta.value if delta else 0
    found["half"] = delta.half if delta else 0
    found.update(f"blocked by {name}" for name, each in status.items() if each not in ("pass", "skipped"))
    return found


def blinded(evidence: Evidence) -> Evidence:
    """Take the coins away."""
    champion = msgspec.structs.replace(evidence.champion, unbiased=None)
    return msgspec.structs.replace(evidence, coins=None, champion=champion)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of explored rankings")
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS, help="of each row, one number a size")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    LISTED.extend(row for row in rows(options.seed) if options.only in row.name)
    trials = dict(zip(options.sizes, options.trials, strict=True))
    counts: dict[tuple[int, int], Counter[str]] = {}
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for task, found in pool.imap_unordered(batch, tasks(trials, options.seed)):
            for number, each in found.items():
                counts[number, task.size] = each
                told = f"{LISTED[number].name}, {task.size}: {dict(each)}"
                print(f"{time.monotonic() - started:.0f} s: {told}", file=sys.stderr, flush=True)
    print_coin_check(counts, trials)
    print_difference(counts, trials)
    print_verdicts(counts, trials)
    print_cost(options.seed)
    print(f"\nTrials: {', '.join(f'{count:,} at {size:,} rankings' for size, count in trials.items())}.")
    return 0


def print_table(trials: dict[int, int], columns: tuple[str, ...], cell: Callable[[int, int], str]) -> None:
    """Print a row for each of `LISTED` that the sizes have cells for."""
    heads = [*columns, *(f"{size:,} explored rankings" for size in trials)]
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    for number, row in enumerate(LISTED):
        clicks, utility = truth(number)
        told = {"ranker": row.name, "ΔnDCG@5 by clicks": decimal(clicks), "by utility": decimal(utility)}
        cells = [cell(number, size) if row.judged_at(size) else "–" for size in trials]
        print(f"| {' | '.join([*(told[column] for column in columns), *cells])} |")


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
            found = counts.get((number, size), Counter())
            print(
                f"  {row.name}, {size}: {found['pairs'] / count:,.0f} pairs, "
                f"share {found['share'] / count:.3f}, enough {found['enough'] / count:.3f}",
                file=sys.stderr,
            )


def print_difference(counts: dict[tuple[int, int], Counter[str]], trials: dict[int, int]) -> None:
    def cell(number: int, size: int) -> str:
        found, count, (_, utility) = counts[number, size], trials[size], truth(number)
        mean, sign = (
            f"{decimal(found['value'] / count)} ± {found['half'] / count:.3f}",
            "better" if utility > 0 else "worse",
        )
        return f"{rate(found[sign], count)} ({100 * found[f'{sign}, or knows'] / count:.1f} %); {mean}"

    print(
        "\nBy coin pairs the sign is that of the difference in utility (or the coin check fails); mean, half width:\n"
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
    plain, rng = simulated(seed), np.random.default_rng([seed, 5])
    lists, chance = sample(plain, COSTED, rng), random.Random(seed)
    score = Model(plain, seed)(lists, rng)
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


if __name__ == "__main__":
    sys.exit(main())
