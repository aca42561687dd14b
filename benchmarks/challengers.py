"""Challengers of the simulated world whose true difference, or gap, is what a row of a table says.

The simulated lawyers-for-cases world shows a large population of rankings; a metric over all of it is the truth. The
rankers are LightGBM models and blends of them, adjusted until the truth is what the row says. A `Contest` draws test
windows; what the programs beside this file ask is how often the gate is wrong about them.

Where *users come back*, a window draws whole users of ten rankings each, whose differences correlate (intraclass
correlation 0.2): users who like one of the rankers better than others do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import lightgbm as lgb
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from common import PARAMETERS, by_legacy_weights, simulated
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.simulate.draw import ANSWER_THRESHOLDS, sample
from ltr_pipeline.simulate.world import FEATURES, World

EPSILON, LIMIT = Policy().regression_max, Policy().fairness_max
TRAINING = 6000  # rankings: about four weeks of a small team
TRAINING_DAYS, DAYS = 28, 30
GAINS = (0.03, 0.05, 0.07, 0.09, 0.12, 0.15)
AGAIN = ", each list logged ten times"  # how the name of a row ends that has the draws of the row without
LISTS_EACH, CORRELATION = 10, 0.2  # of users who come back

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Population:
    """Eligible rankings of one world, and what is true of a ranker on all of them.

    `longest` cuts the lists to 2 … longest items, `items` leaves so many of the world's.
    """

    def __init__(
        self, world: World, rankings: int, seed: int, longest: int | None = None, items: int | None = None
    ) -> None:
        self.world, self.rng = world, np.random.default_rng(seed)
        drawn = sample(world, rankings, self.rng)
        of, relevance = drawn.ranking, drawn.relevance()
        shown = drawn.position <= (self.rng.integers(2, longest + 1, size=rankings)[of] if longest else np.inf)
        if items:
            shown &= np.isin(drawn.item, np.unique(drawn.item)[:items])
        size = np.bincount(of[shown], minlength=len(drawn.group))
        best, worst = np.zeros(len(size)), np.full(len(size), np.inf)
        np.maximum.at(best, of[shown], relevance[shown])
        np.minimum.at(worst, of[shown], relevance[shown])
        eligible = best > worst
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
        """A(g) of each group over the whole population."""
        return np.nanmean(self.accuracies(score, labels, by_utility=by_utility), axis=0)

    def accuracies(self, score: Floats, labels: Labels, *, by_utility: bool = False) -> Floats:
        """A(q, g) of each ranking and group; written apart from the library on purpose."""
        better, worse = self._pairs(by_utility)
        ours, theirs = labels[better], labels[worse]
        shared = (labels == labels[self.starts][self.ranking]).all()
        counted = (ours >= 0) & (theirs >= 0) & ((ours != theirs) | shared)
        right = (1 + np.sign(score[better] - score[worse])) / 2
        groups = int(labels.max()) + 1
        key = (self.ranking[better] * groups + ours)[counted]
        pairs = np.bincount(key, minlength=len(self.group) * groups).reshape(-1, groups)
        rights = np.bincount(key, weights=right[counted], minlength=pairs.size).reshape(-1, groups)
        return np.where(pairs > 0, rights / np.maximum(pairs, 1), np.nan)

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
    repeats: int = 1  # how often each of them was logged
    users_known: bool = True
    visits: Labels | None = None  # (users, rankings of each) where users come back

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Labels, Labels]:
        """Rankings of a test window, and the user of each."""
        size = self.rankings or size
        if self.visits is None:
            chosen = rng.integers(len(self.population.group), size=size)
            users = self.population.user[chosen] if self.users_known else np.arange(size)
            return np.tile(chosen, self.repeats), np.tile(users, self.repeats)
        users = rng.integers(len(self.visits), size=size // LISTS_EACH)
        return self.visits[users].ravel(), np.repeat(np.arange(len(users)), LISTS_EACH)

    @cached_property
    def accuracies(self) -> Floats:
        """A(q, g) of each ranking and group, NaN where it has no pair."""
        return self.population.accuracies(self.score, self.labels)

    def least_upper(self, chosen: Labels, users: Labels) -> float:
        """A gap that the library's upper bound of a window is above: 1.4 standard errors instead of 1.645 or more."""
        of_window = self.accuracies[chosen]
        has = ~np.isnan(of_window)
        mean = np.nansum(of_window, axis=0) / np.maximum(has.sum(axis=0), 1)
        share = np.where(has, of_window - mean, 0.0) / np.maximum(has.sum(axis=0), 1)
        of_user = np.stack([np.bincount(users, weights=column) for column in share.T], axis=1)
        error = np.sqrt(((of_user[:, :, None] - of_user[:, None, :]) ** 2).sum(axis=0))
        return float((np.abs(mean[:, None] - mean) + 1.4 * error).max())

    def with_returning_users(self) -> Contest:
        """The same with users who lean to the challenger or to the champion by chance."""
        difference = standard(self.ndcg - (0 if self.champion is None else self.champion))
        lean = np.argsort(difference + np.sqrt(1 / CORRELATION - 1) * self.population.noise(len(difference)))
        users = len(lean) // LISTS_EACH
        return replace(self, visits=lean[: users * LISTS_EACH].reshape(users, LISTS_EACH))


@dataclass(frozen=True)
class Row:
    """Contests of one kind, made when they are first looked at, since that takes a while."""

    name: str
    kind: str  # "bad", "good", or "large" (good), "unfair" (bad) and "info": nothing is asked of these
    make: Callable[[], list[Contest]]

    @cached_property
    def contests(self) -> list[Contest]:
        return self.make()


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
    return float(brentq(lambda at: value(at) - target, low, high, xtol=1e-4))


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
        legacy = by_legacy_weights(self.population.features)
        worst = -self.population.features[:, FEATURES.index("A")].astype(np.float64)
        self.spoilers = [self.population.noise(), legacy, self.population.noise(), worst]
        self.halves = (self.population.user % 2)[self.population.ranking]  # of the users, unrelated to anything
        self.quarters = self._quarters()

    def _quarters(self) -> Labels:
        """Items dealt to four groups: of some random deals the one that the first model is fairest to."""
        item = self.population.item - self.population.item.min()
        deals = [np.random.default_rng(i).integers(4, size=item.max() + 1)[item] for i in range(20)]
        return min(deals, key=lambda deal: np.ptp(self.population.accuracy(self.models[0], deal)))

    @cache  # noqa: B019 - fields live as long as the program
    def fair(self, gap: float = 0.0) -> list[Floats]:
        """The models with the accuracies of the world's two groups brought to a gap, to either's disadvantage."""
        p = self.population
        return [with_gap(p, model, p.labels, gap, i % 2) for i, model in enumerate(self.models)]

    @cache  # noqa: B019
    def worse(self, loss: float) -> list[Contest]:
        """Each model, spoiled, against the next as its champion."""
        pairs = zip(self.models, self.models[1:] + self.models[:1], self.spoilers, strict=True)
        return [
            contest(self.population, worse_by(self.population, model, spoiler, loss, champion), champion)
            for model, champion, spoiler in pairs
        ]

    @cache  # noqa: B019
    def fairly_better(self, gain: float = EPSILON) -> list[Contest]:
        return self.better(gain, self.fair())

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

    @cache  # noqa: B019
    def retrained(self) -> list[Contest]:
        """A model against last night's and, as the best recent, that of the night before: nearly the same days."""
        world, seeds = self.population.world, range(self.population.world.seed + 10, self.population.world.seed + 14)
        nights = [[train(world, seed, slice(d, d + TRAINING_DAYS)) for d in (2, 1, 0)] for seed in seeds]
        return [contest(self.population, *map(self.population.predict, night)) for night in nights]


def rows(seed: int, size: int) -> Iterator[Row]:
    world = simulated(seed)
    field = Field(world, size, seed)
    yield from ranked(field)
    yield from judged_for_fairness(field)
    yield from few_items(world, seed, size)
    yield from logged_again(field)
    yield from broken(field)
    yield from other_worlds(world, seed, size)


def ranked(field: Field) -> Iterator[Row]:
    worse, better, retrained = partial(field.worse, 2 * EPSILON), field.fairly_better, field.retrained
    yield Row("worse by 2ε = 0.02", "bad", worse)
    yield Row("worse by 5ε = 0.05", "bad", partial(field.worse, 5 * EPSILON))
    yield Row("better by ε = 0.01, gap 0", "good", better)
    yield Row("better by 2ε = 0.02, gap 0", "good", partial(better, 2 * EPSILON))
    for gain in GAINS:
        yield Row(f"better by {gain:g}, gap 0", "large", partial(better, gain))
    yield Row("as good, retrained the next night", "info", retrained)
    yield Row("as good, unrelated", "info", field.equal)
    for name, kind, make in (
        ("worse by 2ε = 0.02, users come back", "bad", worse),
        ("better by ε = 0.01, gap 0, users come back", "large", better),
        ("as good, retrained the next night, users come back", "info", retrained),
    ):
        yield Row(name, kind, partial(with_returning_users, make))


def with_returning_users(make: Callable[[], list[Contest]]) -> list[Contest]:
    return [case.with_returning_users() for case in make()]


def judged_for_fairness(field: Field) -> Iterator[Row]:
    p, models, unfair = field.population, field.models, 2 * LIMIT + 0.001

    def four() -> list[Contest]:
        spoiled = [with_gap(p, model, field.quarters, unfair, i) for i, model in enumerate(models)]
        return field.better(EPSILON, spoiled, field.quarters)

    def users() -> list[Contest]:
        spoiled = [noisy_for(p, model, field.halves, unfair) for model in models]
        return field.better(EPSILON, spoiled, field.halves)

    yield Row("unfair: gap above 0.10, 2 groups of items", "bad", lambda: field.better(EPSILON, field.fair(unfair)))
    yield Row("unfair: gap above 0.10, 4 groups of items", "bad", four)
    yield Row("unfair: gap above 0.10, 2 groups of users", "bad", users)
    yield Row("better by ε, 4 fair groups of items", "good", partial(field.better, EPSILON, models, field.quarters))
    yield Row("better by ε, 2 fair groups of users", "good", partial(field.better, EPSILON, models, field.halves))
    yield Row("better by ε, gap 0.025", "info", lambda: field.better(EPSILON, field.fair(LIMIT / 2)))


def few_items(world: World, seed: int, size: int) -> Iterator[Row]:
    """Twelve items that recur in all lists, dealt to two groups: by luck a fair model has a gap, or none."""

    def deal(*, large: bool) -> list[Contest]:
        few = Population(msgspec.structs.replace(world, lawyers=20), size, seed + 3, items=12)
        model = few.predict(train(world, seed))
        champion = worse_by(few, model, few.noise(), EPSILON, model)
        item = np.unique(few.item, return_inverse=True)[1]
        rng = np.random.default_rng(seed)
        deals = [rng.permutation(np.arange(12) % 2)[item] for _ in range(100)]
        gaps = np.array([np.ptp(few.accuracy(model, labels)) for labels in deals])
        order = np.argsort(np.where(gaps > 2 * LIMIT, gaps, np.inf) if large else gaps)
        return [contest(few, model, champion, labels=deals[index]) for index in order[:4]]

    yield Row("12 items that recur, gap above 0.10", "unfair", partial(deal, large=True))
    yield Row("12 items that recur, gap near 0", "info", partial(deal, large=False))


def logged_again(field: Field) -> Iterator[Row]:
    """Lists of unknown users, logged once and ten times; without groups, which cost time and change nothing here."""

    def logged(make: Callable[[], list[Contest]], repeats: int) -> list[Contest]:
        unknown = np.full(len(field.population.relevance), -1)
        return [replace(case, labels=unknown, repeats=repeats, users_known=False) for case in make()]

    for name, kind, make in (
        ("worse by 2ε = 0.02, users unknown", "bad", partial(field.worse, 2 * EPSILON)),
        ("better by ε = 0.01, users unknown", "good", field.fairly_better),
    ):
        yield Row(name, kind, partial(logged, make, 1))
        yield Row(name + AGAIN, kind, partial(logged, make, 10))


def broken(field: Field) -> Iterator[Row]:
    p, models, seed = field.population, field.models, field.population.world.seed

    def shuffled() -> list[Contest]:
        scores = [p.predict(train(p.world, seed + 20 + i, shuffled=True)) for i in range(2)]
        return [contest(p, score, models[0]) for score in scores]

    def but(**changes: float) -> list[Contest]:
        return [replace(case, **changes) for case in field.fairly_better()]

    yield Row("trained on shuffled labels", "bad", shuffled)
    yield Row(
        "a feature knows the outcome",
        "bad",
        lambda: [contest(p, model + p.relevance, models[2]) for model in models[:2]],
    )
    yield Row("better by ε, but slow: p95 16 ms", "bad", partial(but, latency_ms=16.0))
    yield Row("better by ε, but trained on 99 impressions", "bad", partial(but, train_impressions=99))
    yield Row("better by ε, but tested on 99 rankings", "bad", partial(but, rankings=99))


def other_worlds(world: World, seed: int, size: int) -> Iterator[Row]:
    """Short lists, and worlds where the position leaks more or less of the answer."""

    def random_order(*, against: bool) -> list[Contest]:
        short = Population(world, size, seed + 1, longest=4)
        return [contest(short, short.noise(), short.noise() if against else None)]

    def leaking(examination: float) -> list[Contest]:
        biased = Population(msgspec.structs.replace(world, examination=examination), size, seed + 2)
        columns = np.column_stack([biased.features, biased.position])
        score = train(biased.world, seed + 30, position=True).predict(columns)
        return [contest(biased, standard(score), biased.predict(train(biased.world, seed + 31)))]

    yield Row("random order of 2 to 4 items, nothing published", "bad", partial(random_order, against=False))
    yield Row("random order of 2 to 4 items, random champion", "bad", partial(random_order, against=True))
    for examination, kind in ((1.0, "bad"), (world.examination, "info")):
        yield Row(f"position is a feature, examination 1/rank^{examination:g}", kind, partial(leaking, examination))
