"""How often the gate lets a bad challenger through, and how often it blocks a good one.

    python benchmarks/gate_error_rates.py --trials 1000

The simulated lawyers-for-cases world shows a large population of rankings; a metric over all of it is the truth. A
trial draws 100, 300 or 1,000 of its rankings at random, as a test window would hold, and puts them through the
library's own metrics, bootstrap, fairness null and `gate.decision.decide` with the default policy. The rankers are
LightGBM models and blends of them, adjusted until the truth is what the row says; each row takes several in turn.
Intervals of rates are Clopper-Pearson's, at 95 %. A second table repeats the verdicts with
ltr_on_inconclusive = publish, a third has the fairness check alone, a last one what blocked.

Where *users come back*, a trial draws whole users of ten rankings each, whose differences correlate (intraclass
correlation 0.2): users who like one of the rankers better than others do.

Exits with 1 when, at 1,000 rankings, 2 % or more of a bad row are let through or 5 % or more of a good row blocked.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import lightgbm as lgb
import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest

from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import decimal
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics import fairness, quality
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.simulate.draw import ANSWER_THRESHOLDS, sample
from ltr_pipeline.simulate.world import FEATURES, World

POLICY = Policy()
LENIENT = Policy(on_inconclusive="publish")
EPSILON, LIMIT = POLICY.regression_max, POLICY.fairness_max
SIZES = (100, 300, 1000)
TRAINING = 6000  # rankings: about four weeks of a small team
TRAINING_DAYS, DAYS = 28, 30
GAINS = (0.03, 0.05, 0.07, 0.09, 0.12, 0.15)
LISTS_EACH, CORRELATION = 10, 0.2  # of users who come back
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
Labels = NDArray[np.int64]


class Population:
    """Eligible rankings of one world, and what is true of a ranker on all of them.

    `longest` cuts the lists to 2 … longest items.
    """

    def __init__(self, world: World, rankings: int, seed: int, longest: int | None = None) -> None:
        self.world, self.rng = world, np.random.default_rng(seed)
        drawn = sample(world, rankings, self.rng)
        of, relevance = drawn.ranking, drawn.relevance()
        shown = drawn.position <= (self.rng.integers(2, longest + 1, size=rankings)[of] if longest else np.inf)
        size = np.bincount(of[shown], minlength=len(drawn.group))
        relevant = np.bincount(of[shown & (relevance > 0)], minlength=len(size))
        eligible = (size >= 2) & (relevant > 0)
        keep = shown & eligible[of]
        self.group, self.user = size[eligible], drawn.user[eligible].astype(np.int64)
        self.starts = np.cumsum(self.group) - self.group
        self.ranking = np.repeat(np.arange(len(self.group)), self.group)
        self.relevance, self.item, self.features = relevance[keep], drawn.item[keep], drawn.features[keep]
        self.position, self.labels = drawn.position[keep], drawn.protected_group[keep].astype(np.int64)
        self.worth = np.searchsorted(ANSWER_THRESHOLDS, drawn.utility[keep]).astype(np.int8)
        self.random = self.ndcg(np.zeros(len(self.relevance)))

    def ndcg(self, score: Floats) -> Floats:
        return quality.ndcg(Rankings(self.relevance, score, self.group))

    def by_utility(self, score: Floats) -> float:
        """Mean nDCG@5 if relevance were what the client would answer to the true utility, seen or not."""
        return float(np.nanmean(quality.ndcg(Rankings(self.worth, score, self.group))))

    def noise(self, size: int | None = None) -> Floats:
        return self.rng.normal(size=len(self.relevance) if size is None else size)

    def predict(self, model: lgb.Booster) -> Floats:
        return standard(model.predict(self.features))

    def accuracy(self, score: Floats, labels: Labels, *, by_utility: bool = False) -> Floats:
        """A(g) of each group over the whole population; written apart from the library on purpose."""
        better, worse = self._pairs(by_utility)
        ours, theirs = labels[better], labels[worse]
        shared = (labels == labels[self.starts][self.ranking]).all()
        counted = (ours >= 0) & (theirs >= 0) & ((ours != theirs) | shared)
        right = (1 + np.sign(score[better] - score[worse])) / 2
        groups = int(labels.max()) + 1
        key = (self.ranking[better] * groups + ours)[counted]
        pairs = np.bincount(key, minlength=len(self.group) * groups).reshape(-1, groups)
        rights = np.bincount(key, weights=right[counted], minlength=pairs.size).reshape(-1, groups)
        return (rights / np.maximum(pairs, 1)).sum(axis=0) / (pairs > 0).sum(axis=0)

    @cache  # noqa: B019 - populations live as long as the program
    def _pairs(self, by_utility: bool) -> tuple[Labels, Labels]:
        relevance = self.worth if by_utility else self.relevance
        rows = np.flatnonzero(relevance > 0)
        size = self.group[self.ranking[rows]]
        better = np.repeat(rows, size)
        place = np.arange(len(better)) - np.repeat(np.cumsum(size) - size, size)
        worse = self.starts[self.ranking[better]] + place
        differ = relevance[better] > relevance[worse]
        return better[differ], worse[differ]


@dataclass(frozen=True)
class Contest:
    """A challenger, what it is compared with (nDCG@5 of each ranking; None = nothing), and what is true of them."""

    population: Population
    score: Floats
    ndcg: Floats
    champion: Floats | None
    best_recent: Floats | None
    labels: Labels
    delta: tuple[float, float]  # by clicks, by utility
    gap: tuple[float, float]
    latency_ms: float = 2.0
    train_impressions: int = 50_000
    rankings: int | None = None  # in the test window, whatever the column says
    visits: Labels | None = None  # (users, rankings of each) where users come back

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Labels, Labels]:
        """Rankings of a test window, and the user of each."""
        size = self.rankings or size
        if self.visits is None:
            chosen = rng.integers(len(self.population.group), size=size)
            return chosen, self.population.user[chosen]
        users = rng.integers(len(self.visits), size=size // LISTS_EACH)
        return self.visits[users].ravel(), np.repeat(np.arange(len(users)), LISTS_EACH)

    def with_returning_users(self) -> Contest:
        """The same with users who lean to the challenger or to the champion by chance."""
        difference = standard(self.ndcg - (0 if self.champion is None else self.champion))
        lean = np.argsort(difference + np.sqrt(1 / CORRELATION - 1) * self.population.noise(len(difference)))
        users = len(lean) // LISTS_EACH
        return replace(self, visits=lean[: users * LISTS_EACH].reshape(users, LISTS_EACH))


@dataclass(frozen=True)
class Row:
    name: str
    kind: str  # "bad", "good", or "large" (good) and "info": nothing is asked of these
    contests: list[Contest]


def contest(
    population: Population,
    score: Floats,
    champion: Floats | None = None,
    best_recent: Floats | None = None,
    labels: Labels | None = None,
) -> Contest:
    labels = population.labels if labels is None else labels
    ndcg, delta = population.ndcg(score), (np.nan, np.nan)
    others = [None if other is None else population.ndcg(other) for other in (champion, best_recent)]
    if champion is not None:
        by_utility = population.by_utility(score) - population.by_utility(champion)
        delta = (float((ndcg - population.ndcg(champion)).mean()), by_utility)
    gap = tuple(float(np.ptp(population.accuracy(score, labels, by_utility=flag))) for flag in (False, True))
    return Contest(population, score, ndcg, *others, labels, delta, gap)


def standard(score: Floats) -> Floats:
    return (score - score.mean()) / score.std()


def solve(target: float, value: Callable[[float], float], low: float, high: float) -> float:
    """Argument at which a rising function reaches the target."""
    return float(brentq(lambda at: value(at) - target, low, high, xtol=1e-5))


def worse_by(population: Population, score: Floats, spoiler: Floats, loss: float, than: Floats) -> Floats:
    """`score` blended with `spoiler` until its true nDCG@5 is `loss` below that of `than`."""
    score, spoiler, goal = standard(score), standard(spoiler), population.ndcg(than).mean()
    share = solve(loss, lambda at: goal - population.ndcg((1 - at) * score + at * spoiler).mean(), 0.0, 1.5)
    return (1 - share) * score + share * spoiler


def with_gap(population: Population, score: Floats, labels: Labels, gap: float, loser: int) -> Floats:
    """`score` with a malus for the group `loser` until its true accuracy is `gap` below that of the best other."""
    others = [group for group in range(int(labels.max()) + 1) if group != loser]

    def found(malus: float) -> float:
        accuracy = population.accuracy(score - malus * (labels == loser), labels)
        return accuracy[others].max() - accuracy[loser]

    return score - solve(gap, found, -2.0, 2.0) * (labels == loser)


def noisy_for(population: Population, score: Floats, labels: Labels, gap: float) -> Floats:
    """`score` with noise on the rankings of group 1 until their true accuracy is `gap` lower."""
    noise = population.noise() * (labels == 1)

    def found(scale: float) -> float:
        accuracy = population.accuracy(score + scale * noise, labels)
        return accuracy[0] - accuracy[1]

    return score + solve(gap, found, 0.0, 20.0) * noise


def train(
    world: World, seed: int, days: slice = slice(0, TRAINING_DAYS), *, shuffled: bool = False, position: bool = False
) -> lgb.Booster:
    """Model of 28 of a month's days (equal shares of its rankings), debiased unless `position` is a feature."""
    rng = np.random.default_rng(seed)
    drawn = sample(world, TRAINING * DAYS // TRAINING_DAYS, rng)
    day = drawn.ranking * DAYS // len(drawn.group)
    chosen = (day >= days.start) & (day < days.stop)
    group = np.bincount(drawn.ranking[chosen], minlength=len(drawn.group))
    features = np.column_stack([drawn.features, drawn.position]) if position else drawn.features
    relevance = drawn.relevance()[chosen]
    data = lgb.Dataset(
        features[chosen],
        rng.permutation(relevance) if shuffled else relevance,
        group=group[group > 0],
        position=None if position else drawn.position[chosen] - 1,
    )
    return lgb.train(PARAMETERS | {"seed": seed}, data, 70)


class Field:
    """The rankers that rows are made of: four models, and what spoils them."""

    def __init__(self, world: World, size: int, seed: int) -> None:
        self.population = Population(world, size, seed)
        self.models = [self.population.predict(train(world, seed + i)) for i in range(4)]
        weights = [world.legacy_weights.get(name, 0.0) for name in FEATURES]
        legacy = np.nan_to_num(self.population.features) @ np.array(weights)
        worst = -self.population.features[:, FEATURES.index("A")].astype(np.float64)
        self.spoilers = [self.population.noise(), legacy, self.population.noise(), worst]
        self.halves = (self.population.user % 2)[self.population.ranking]  # of the users, unrelated to anything
        self.quarters = self._quarters()

    def _quarters(self) -> Labels:
        """Items dealt to four groups: of some random deals the one that the first model is fairest to."""
        item = self.population.item - self.population.item.min()
        deals = [np.random.default_rng(i).integers(4, size=item.max() + 1)[item] for i in range(20)]
        return min(deals, key=lambda deal: np.ptp(self.population.accuracy(self.models[0], deal)))

    def worse(self, loss: float) -> list[Contest]:
        """Each model, spoiled, against the next as its champion."""
        pairs = zip(self.models, self.models[1:] + self.models[:1], self.spoilers, strict=True)
        return [
            contest(self.population, worse_by(self.population, model, spoiler, loss, champion), champion)
            for model, champion, spoiler in pairs
        ]

    def better(self, gain: float, challengers: list[Floats], labels: Labels | None = None) -> list[Contest]:
        """Each challenger against a champion and another recent version that are truly worse by `gain`."""
        found = []
        for index, challenger in enumerate(challengers):
            spoiler = self.spoilers[index if gain <= 2 * EPSILON else index % 2 * 2]  # noise alone spoils that much
            rivals = [self.models[(index + step) % 4] for step in (1, 2)]
            spoiled = [worse_by(self.population, rival, spoiler, gain, challenger) for rival in rivals]
            found.append(contest(self.population, challenger, *spoiled, labels))
        return found

    def equal(self) -> list[Contest]:
        """Three unrelated rankers, each brought to the same place below the best model."""
        best = max(self.models, key=lambda model: self.population.ndcg(model).mean())
        trios = [[self.models[(index + step) % 4] for step in range(3)] for index in range(4)]
        return [
            contest(self.population, *(worse_by(self.population, r, spoiler, 0.004, best) for r in trio))
            for trio, spoiler in zip(trios, self.spoilers, strict=True)
        ]

    def retrained(self, seed: int) -> list[Contest]:
        """A model against last night's and, as the best recent, that of the night before: nearly the same days."""
        nights = [
            [train(self.population.world, seed + i, slice(d, d + TRAINING_DAYS)) for d in (2, 1, 0)] for i in range(4)
        ]
        return [contest(self.population, *map(self.population.predict, night)) for night in nights]


def rows(seed: int, size: int) -> Iterator[Row]:
    world = World(legacy_weights=load_mapping().legacy_weights, seed=seed)
    field = Field(world, size, seed)
    yield from ranked(field, seed)
    yield from judged_for_fairness(field)
    yield from broken(field, seed)
    yield from other_worlds(world, seed, size)


def fair_models(field: Field, gap: float) -> list[Floats]:
    """The models with the accuracies of the world's two groups brought to a gap, to either's disadvantage."""
    population = field.population
    return [with_gap(population, model, population.labels, gap, i % 2) for i, model in enumerate(field.models)]


def ranked(field: Field, seed: int) -> Iterator[Row]:
    fair = fair_models(field, 0.0)
    yield Row("worse by 2ε = 0.02", "bad", field.worse(2 * EPSILON))
    yield Row("worse by 5ε = 0.05", "bad", field.worse(5 * EPSILON))
    yield Row("better by ε = 0.01, gap 0", "good", field.better(EPSILON, fair))
    yield Row("better by 2ε = 0.02, gap 0", "good", field.better(2 * EPSILON, fair))
    for gain in GAINS:
        yield Row(f"better by {gain:g}, gap 0", "large", field.better(gain, fair))
    retrained = field.retrained(seed + 10)
    yield Row("as good, retrained the next night", "info", retrained)
    yield Row("as good, unrelated", "info", field.equal())
    for name, kind, cases in (
        ("worse by 2ε = 0.02, users come back", "bad", field.worse(2 * EPSILON)),
        ("better by ε = 0.01, gap 0, users come back", "large", field.better(EPSILON, fair)),
        ("as good, retrained the next night, users come back", "info", retrained),
    ):
        yield Row(name, kind, [case.with_returning_users() for case in cases])


def judged_for_fairness(field: Field) -> Iterator[Row]:
    p, models, unfair = field.population, field.models, 2 * LIMIT + 0.001
    four = [with_gap(p, model, field.quarters, unfair, i) for i, model in enumerate(models)]
    users = [noisy_for(p, model, field.halves, unfair) for model in models]
    yield Row("unfair: gap above 0.10, 2 groups of items", "bad", field.better(EPSILON, fair_models(field, unfair)))
    yield Row("unfair: gap above 0.10, 4 groups of items", "bad", field.better(EPSILON, four, field.quarters))
    yield Row("unfair: gap above 0.10, 2 groups of users", "bad", field.better(EPSILON, users, field.halves))
    yield Row("better by ε, 4 fair groups of items", "good", field.better(EPSILON, models, field.quarters))
    yield Row("better by ε, 2 fair groups of users", "good", field.better(EPSILON, models, field.halves))
    yield Row("better by ε, gap 0.025", "info", field.better(EPSILON, fair_models(field, LIMIT / 2)))


def broken(field: Field, seed: int) -> Iterator[Row]:
    p, models = field.population, field.models
    fine = field.better(EPSILON, fair_models(field, 0.0))
    shuffled = [p.predict(train(p.world, seed + 20 + i, shuffled=True)) for i in range(2)]
    knowing = [model + p.relevance for model in models[:2]]
    yield Row("trained on shuffled labels", "bad", [contest(p, score, models[0]) for score in shuffled])
    yield Row("a feature knows the outcome", "bad", [contest(p, score, models[2]) for score in knowing])
    yield Row("better by ε, but slow: p95 16 ms", "bad", [replace(case, latency_ms=16.0) for case in fine])
    yield Row(
        "better by ε, but trained on 99 impressions", "bad", [replace(case, train_impressions=99) for case in fine]
    )
    yield Row("better by ε, but tested on 99 rankings", "bad", [replace(case, rankings=99) for case in fine])


def other_worlds(world: World, seed: int, size: int) -> Iterator[Row]:
    """Short lists, and worlds where the position leaks more or less of the answer."""
    short = Population(world, size, seed + 1, longest=4)
    guess, champion = short.noise(), short.noise()
    yield Row("random order of 2 to 4 items, nothing published", "bad", [contest(short, guess)])
    yield Row("random order of 2 to 4 items, random champion", "bad", [contest(short, guess, champion)])
    for examination, kind in ((1.0, "bad"), (world.examination, "info")):
        biased = Population(msgspec.structs.replace(world, examination=examination), size, seed + 2)
        leaking = train(biased.world, seed + 30, position=True)
        score = leaking.predict(np.column_stack([biased.features, biased.position]))
        case = contest(biased, score, biased.predict(train(biased.world, seed + 31)))
        yield Row(f"position is a feature, examination 1/rank^{examination:g}", kind, [case])


def trial(case: Contest, size: int, rng: np.random.Generator) -> Evidence:
    """One night: a fresh test window through the library's own measurements."""
    p = case.population
    chosen, users = case.draw(size, rng)
    seed = int(rng.integers(2**31))

    def compared(other: Floats, kind: str) -> Comparison:
        delta = quality.paired(case.ndcg[chosen], other[chosen], users)
        return Comparison(version="20250101_0215", kind=kind, delta=delta)

    found = quality.estimate(case.ndcg[chosen], users)
    nothing = Comparison(version=None, kind="none", reason="nothing is published yet")
    return Evidence(
        trees=70,
        train_impressions=case.train_impressions,
        test_queries=len(chosen),
        metrics=Metrics(ndcg_at_5=found, linear_ndcg_at_5=found, mrr=found, hit_at_3=found),
        against_random=quality.paired(case.ndcg[chosen], p.random[chosen], users),
        champion=nothing if case.champion is None else compared(case.champion, "champion"),
        best_recent=None if case.best_recent is None else compared(case.best_recent, "best_recent"),
        fairness=fairness_of(case, chosen, users, seed),
        latency=latency(case.latency_ms),
        landed=Landed(records_read=10_000, records_quarantined=10, impressions=8_000, feedback=2_000),
    )


def fairness_of(case: Contest, chosen: Labels, users: Labels, seed: int) -> Fairness:
    p = case.population
    group = p.group[chosen]
    row = np.repeat(p.starts[chosen] - (np.cumsum(group) - group), group) + np.arange(group.sum())
    labels = pl.Series(["a", "b", "c", "d", None]).gather(case.labels[row])  # -1 is the last
    rankings = Rankings(p.relevance[row], case.score[row], group)
    return fairness.measure(rankings, ProtectedGroups(labels, item=pl.Series(p.item[row])), users, seed)


def latency(p95: float) -> Latency:
    return Latency(
        p50_ms=p95, p95_ms=p95, p99_ms=p95, requests=1000, candidates_p50=9, candidates_max=20, trees=70, cpu="assumed"
    )


VERDICTS = frozenset({"published", "lenient", "fair"})  # what is counted beside the checks
LISTED: list[Row] = []  # filled before the workers fork, so that they share the populations


def batch(task: tuple[int, int, int, int]) -> tuple[int, int, Counter[str]]:
    """Count the verdicts and what blocked, over the trials of a row at a size."""
    number, size, trials, seed = task
    row, found = LISTED[number], Counter()
    for index in range(trials):
        rng = np.random.default_rng([seed, zlib.crc32(row.name.encode()), size, index])
        evidence = trial(row.contests[index % len(row.contests)], size, rng)
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
    parser.add_argument("--population", type=int, default=60_000, help="rankings shown, over which the truth is taken")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    started = time.monotonic()
    LISTED.extend(row for row in rows(options.seed, options.population) if options.only in row.name)
    print(f"{time.monotonic() - started:.0f} s: {len(LISTED)} rows ready", file=sys.stderr)
    tasks = [(number, size, options.trials, options.seed) for size in reversed(SIZES) for number in range(len(LISTED))]
    counts: dict[tuple[int, int], Counter[str]] = {}
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for number, size, found in pool.imap_unordered(batch, tasks):
            counts[number, size] = found
            print(f"{time.monotonic() - started:.0f} s: {LISTED[number].name}, {size}: {dict(found)}", file=sys.stderr)
    print_table(counts, "published", options.trials)
    print("\nWith `ltr_on_inconclusive` = `publish`:\n")
    print_table(counts, "lenient", options.trials)
    print("\nBy the fairness check alone:\n")
    print_table(counts, "fair", options.trials)
    print("\nWhat blocked, in how many of the trials:\n")
    print_blocking(counts, options.trials)
    missed = [row.name for number, row in enumerate(LISTED) if misses(row, counts[number, max(SIZES)], options.trials)]
    print(f"\n{options.trials:,} trials a cell. Missed at {max(SIZES):,} rankings: {', '.join(missed) or 'none'}.")
    return int(bool(missed))


def misses(row: Row, found: Counter[str], trials: int) -> bool:
    share = found["published"] / trials
    return (row.kind == "bad" and share >= 0.02) or (row.kind == "good" and share <= 0.95)


def print_table(counts: dict[tuple[int, int], Counter[str]], verdict: str, trials: int) -> None:
    sizes = " | ".join(f"{size:,} rankings" for size in SIZES)
    print(f"| challenger | true ΔnDCG@5 (by utility) | true gap (by utility) | counted | {sizes} |")
    print("|---|---|---|---|" + "---|" * len(SIZES))
    for number, row in enumerate(LISTED):
        passed = [counts[number, size][verdict] for size in SIZES]
        rates = [rate(trials - count if row.kind in ("good", "large") else count, trials) for count in passed]
        counted = {"bad": "let through", "good": "blocked", "large": "blocked", "info": "published"}[row.kind]
        truths = [truth([case.delta for case in row.contests]), truth([case.gap for case in row.contests])]
        print(f"| {' | '.join([row.name, *truths, counted, *rates])} |")


def print_blocking(counts: dict[tuple[int, int], Counter[str]], trials: int) -> None:
    """The checks that did not pass in more than one trial of a hundred."""
    print(f"| challenger | {' | '.join(f'{size:,} rankings' for size in SIZES)} |")
    print("|---|" + "---|" * len(SIZES))
    for number, row in enumerate(LISTED):
        cells = []
        for size in SIZES:
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


def rate(count: int, trials: int) -> str:
    bounds = binomtest(count, trials).proportion_ci(method="exact")
    return f"{100 * count / trials:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
