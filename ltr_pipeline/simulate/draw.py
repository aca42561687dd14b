"""Lists drawn column by column: who is shown, in which order, and what the client answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.simulate.world import (
    ACTIONS,
    FEATURES,
    LIST_SIZES,
    Flags,
    Floats,
    Ints,
    Ranker,
    Rows,
    ShownLists,
    World,
    utility,
)

__all__ = ["Answers", "Visits", "answers", "rankings_on", "sample", "visits"]

ANSWER_THRESHOLDS: Final = (0.05, 0.22, 0.46)  # of appeal: declined, accepted, won
MAX_ANSWER_HOURS: Final = 7 * 24.0

_LOST, _DECLINED, _ACCEPTED, _WON = range(len(ACTIONS))
_NONE: Final = -1
_AREAS: Final = 8
_BLOCK: Final = 100  # lawyers that are drawn together
_CHUNK: Final = 10_000  # rankings whose candidates are chosen together: bounds the (rankings, lawyers) matrix
_HOMES, _MOODS, _LAWYERS, _CASES, _SHOWN = range(5)  # streams of random numbers


def sample(
    world: World, rankings: int, rng: np.random.Generator, *, day: date = date(2025, 7, 1), only_available: bool = True
) -> ShownLists:
    """Draw independent lists of the lawyers of `day`, under the same click protocol as the log.

    Hundreds of thousands of lists take seconds, which makes a metric "at infinite sample" affordable. With
    `only_available`, as a dataset is built: without unavailable lawyers.
    """
    cases = _Cases(
        user=_recurring(world, rankings, rng),
        number=np.arange(rankings),
        area=rng.integers(_AREAS, size=rankings),
        urgent=rng.random(rankings) < _urgent_share(world, day),
    )
    drawn = _draw(world, day, cases, rng, noise=False)
    return drawn.only_available() if only_available else drawn


def rankings_on(world: World, day: date, ranker: Ranker | None = None) -> ShownLists:
    """Draw the lists shown on `day`, unavailable lawyers included: a pure function of world, day and ranker.

    Without a ranker the legacy weights order them. Whatever orders them, the same clients are shown the same lawyers.
    """
    rng = world.rng(_SHOWN, day.toordinal())
    user = _recurring(world, int(rng.poisson(world.traffic(day))), rng)
    week = day.toordinal() // 7  # a client has one case a week, and comes back with it
    needs = world.rng(_CASES, week)
    cases = _Cases(
        user=user,
        number=week * world.clients + user.astype(np.int64),
        area=needs.integers(_AREAS, size=world.clients)[user],
        urgent=needs.random(world.clients)[user] < _urgent_share(world, day),
    )
    return _draw(world, day, cases, rng, noise=world.outages.get(day) == "noise", ranker=ranker)


@dataclass(frozen=True)
class Visits:
    """Cases of clients and the lawyers who might be shown for them, in no order; somebody else is to rank them.

    Attributes
    ----------
    group, user, case, item, protected_group, features, utility
        As in `ShownLists`; all lawyers are available.
    appeal
        What the client would think of each lawyer, float64 (n,): `utility` and his taste; -inf where he withdrew.
    """

    group: Ints
    user: Ints
    case: Rows
    item: Ints
    protected_group: NDArray[np.int8]
    features: NDArray[np.float32]
    utility: Floats
    appeal: Floats

    @property
    def relevance(self) -> NDArray[np.int8]:
        """The client's act if he looked at every lawyer, int8 (n,): 0 nothing, else an index into `ACTIONS`."""
        return np.searchsorted(ANSWER_THRESHOLDS, self.appeal).astype(np.int8)


class Answers(NamedTuple):
    """Columns of the same names in `ShownLists`."""

    answer: NDArray[np.int8]
    answer_hours: NDArray[np.float32]
    outcome: NDArray[np.int8]
    outcome_hours: NDArray[np.float32]


def visits(world: World, rankings: int, rng: np.random.Generator, *, day: date) -> Visits:
    """Draw visits of clients to the lawyers of `day`, with the candidates of each in random order."""
    cases = _Cases(
        user=_recurring(world, rankings, rng),
        number=np.arange(rankings),
        area=rng.integers(_AREAS, size=rankings),
        urgent=rng.random(rankings) < _urgent_share(world, day),
    )
    lawyers, size = _lawyers(world, day), _sizes(rankings, rng)
    ranking = np.repeat(np.arange(rankings), size)
    chosen = _candidates(lawyers, cases.area, size, rng)[np.lexsort((rng.random(len(ranking)), ranking))]
    complete = _features(world, lawyers, cases, ranking, chosen, rng)
    worth, group = utility(complete), lawyers.group[chosen]
    liked = _sought(world, day, worth) - world.group_effect * (group == 1) + world.taste * rng.normal(size=len(chosen))
    return Visits(
        group=size,
        user=cases.user,
        case=cases.number,
        item=lawyers.item[chosen],
        protected_group=group,
        features=_with_gaps(complete, world.missing_share, rng),
        utility=worth,
        appeal=liked + _moods(world, cases.user, rng)[ranking],
    )


def answers(world: World, seen: Visits, position: Ints, rng: np.random.Generator) -> Answers:
    """Draw the answers of the clients of `seen` to lists with its rows at these positions, 1-based, 0 = not shown."""
    examined = rng.random(len(position)) < np.maximum(position, 1).astype(np.float64) ** -world.examination
    return Answers(**_answers(seen.appeal, examined & (position > 0), rng))


class _Cases(NamedTuple):
    user: Ints
    number: Rows
    area: Rows  # field of law
    urgent: Flags


class _Lawyers(NamedTuple):
    item: Ints
    area: Rows  # (lawyers, 2): first and second field of law
    home: Floats  # (lawyers, 2)
    traits: Floats  # (lawyers, 5): T, Q, R, C, U
    group: NDArray[np.int8]


def _urgent_share(world: World, day: date) -> float:
    return 0.35 if world.is_event_day(day) else 0.25


def _recurring(world: World, rankings: int, rng: np.random.Generator) -> Ints:
    """Draw the clients of the lists; some come often."""
    return (world.clients * rng.random(rankings) ** 1.5).astype(np.int32)


def _lawyers(world: World, day: date) -> _Lawyers:
    """Return the numbers of the lawyers of `day`, which move up by two a day."""
    first = 2 * day.toordinal()
    blocks = range(first // _BLOCK, (first + world.lawyers - 1) // _BLOCK + 1)
    columns = zip(*(_block(world, block) for block in blocks), strict=True)
    start = first - blocks.start * _BLOCK
    return _Lawyers(*(np.concatenate(column)[start : start + world.lawyers] for column in columns))


def _block(world: World, block: int) -> _Lawyers:
    rng = world.rng(_LAWYERS, block)
    area = rng.integers(_AREAS, size=_BLOCK)
    second = (area + rng.integers(1, _AREAS, size=_BLOCK)) % _AREAS
    load = np.array([0.7, 0.6, 0.5, 0.2, 0.0])  # how much of T, Q, R, C, U is one common skill
    skill, own = rng.normal(size=(_BLOCK, 1)), rng.normal(size=(_BLOCK, 5))
    traits = np.array([0.55, 0.55, 0.55, 0.55, 0.6]) + 0.15 * (load * skill + np.sqrt(1 - load**2) * own)
    group = _balanced_groups(traits.clip(0, 1), rng)
    traits[:, 2] += np.where(group == 1, -0.18, 0.12)
    return _Lawyers(
        item=(block * _BLOCK + np.arange(_BLOCK)).astype(np.int32),
        area=np.stack([area, second], axis=1),
        home=rng.random((_BLOCK, 2)),
        traits=traits.clip(0, 1),
        group=group,
    )


def _balanced_groups(traits: Floats, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw the groups of a block of lawyers: of each five of similar worth three "a" and two "b"; one in 60 unknown.

    Drawn independently, groups of some hundred lawyers would differ by chance, and so would a fair model's accuracy.
    """
    track, qualified, reviews, speaks, free = traits.T
    match, similar, near = np.full_like(track, 0.75), np.full_like(track, 0.55), np.full_like(track, 0.45)
    order = np.argsort(utility(np.stack([match, similar, track, near, qualified, free, reviews, speaks], axis=1)))
    fives = np.tile(np.array([0, 0, 0, 1, 1], dtype=np.int8), (_BLOCK // 5, 1))
    group = np.empty(_BLOCK, dtype=np.int8)
    group[order] = rng.permuted(fives, axis=1).ravel()
    return np.where(rng.random(_BLOCK) < 1 / 60, np.int8(-1), group)


def _draw(
    world: World, day: date, cases: _Cases, rng: np.random.Generator, *, noise: bool, ranker: Ranker | None = None
) -> ShownLists:
    lawyers, size = _lawyers(world, day), _sizes(len(cases.user), rng)
    chosen = _candidates(lawyers, cases.area, size, rng)
    ranking = np.repeat(np.arange(len(size)), size)
    complete = _features(world, lawyers, cases, ranking, chosen, rng)
    features = _as_logged(world, day, _with_gaps(complete, world.missing_share, rng))
    order, propensity = _explored(world, _shown_order(world, features, ranking, rng, ranker), size, rng)
    chosen, features, worth = chosen[order], features[order], utility(complete)[order]
    position = (np.arange(len(chosen)) - np.repeat(np.cumsum(size) - size, size) + 1).astype(np.int32)
    group, available = lawyers.group[chosen], rng.random(len(chosen)) >= world.unavailable_share
    appeal = rng.permutation(worth) if noise else _sought(world, day, worth) - world.group_effect * (group == 1)
    appeal = appeal + _moods(world, cases.user, rng)[ranking] + world.taste * rng.normal(size=len(chosen))
    examined = rng.random(len(chosen)) < position.astype(np.float64) ** -world.examination
    return ShownLists(
        group=size,
        user=cases.user,
        case=cases.number,
        item=lawyers.item[chosen],
        protected_group=group,
        features=features,
        utility=worth,
        position=position,
        propensity=propensity,
        available=available,
        **_answers(appeal, examined & available, rng),
    )


def _sought(world: World, day: date, worth: Floats) -> Floats:
    """Return how much lawyers of this worth appeal on a day: on an event day turned around their mean."""
    if not len(worth) or not world.is_event_day(day):
        return worth
    turned: Floats = 2 * world.event_effect * (worth.mean() - worth)
    return worth + turned


def _sizes(rankings: int, rng: np.random.Generator) -> Ints:
    """Draw the number of lawyers of each list."""
    least, most = LIST_SIZES
    return (least + (most - least + 1) * rng.random(rankings) ** 1.8).astype(np.int32)


def _candidates(lawyers: _Lawyers, area: Rows, size: Ints, rng: np.random.Generator) -> Rows:
    """Draw the lawyers of each list, flat: without replacement, those of the field of law preferred.

    Weighted sampling as the first of exponential clocks (Efraimidis and Spirakis 2006).
    """
    everyone, most = np.arange(len(lawyers.item)), LIST_SIZES[1]
    rate = np.ones((_AREAS, len(everyone)), dtype=np.float32)
    rate[lawyers.area[:, 1], everyone] = 3
    rate[lawyers.area[:, 0], everyone] = 9
    chosen = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(area), _CHUNK):
        part = slice(start, start + _CHUNK)
        clocks = rng.standard_exponential((len(area[part]), len(everyone)), dtype=np.float32) / rate[area[part]]
        first = np.argpartition(clocks, most - 1, axis=1)[:, :most]
        order = np.argsort(np.take_along_axis(clocks, first, axis=1), axis=1)
        chosen.append(np.take_along_axis(first, order, axis=1)[np.arange(most) < size[part, None]])
    return np.concatenate(chosen)


def _features(
    world: World, lawyers: _Lawyers, cases: _Cases, ranking: Rows, chosen: Rows, rng: np.random.Generator
) -> Floats:
    """Draw complete features (n, 8) in [0, 1], three decimals, in the order of `FEATURES`.

    What is stable about a lawyer is blurred for every list, or a model would know him by his digits.
    """
    noise = rng.normal(size=(len(chosen), 7))
    first, second = (lawyers.area[chosen] == cases.area[ranking, None]).T
    match = np.where(first, 0.92, np.where(second, 0.62, 0.22)) + 0.09 * noise[:, 0]
    similar = 0.15 + 0.55 * match + 0.2 * noise[:, 1]
    home = world.rng(_HOMES).random((world.clients, 2))[cases.user][ranking]
    near = np.exp(-np.linalg.norm(lawyers.home[chosen] - home, axis=1) / 0.45)
    traits = lawyers.traits[chosen] + np.array([0.13, 0.13, 0.05, 0.13, 0.22]) * noise[:, 2:]
    track, qualified, reviews, speaks, free = traits.T
    free = free - 0.15 * cases.urgent[ranking]
    columns = [match, similar, track, near, qualified, free, reviews, speaks]
    return np.stack(columns, axis=1).clip(0, 1).round(3)


def _with_gaps(complete: Floats, share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    features = complete.astype(np.float32)
    for name in ("T", "R"):  # what a newcomer does not have yet
        features[rng.random(len(features)) < share, FEATURES.index(name)] = np.nan
    return features


def _as_logged(world: World, day: date, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve the features that are logged so by then."""
    for name, since in world.halved.items():
        if day >= since:
            features[:, FEATURES.index(name)] /= 2
    return features


def _shown_order(
    world: World, features: NDArray[np.float32], ranking: Rows, rng: np.random.Generator, ranker: Ranker | None
) -> Rows:
    """Order the rows by ranking and, inside, by score with exploration noise, best first.

    Other scores than the legacy ones, which have a scale of their own, are given their spread.
    """
    weights = np.array([world.legacy_weights.get(name, 0.0) for name in FEATURES])
    score = np.nan_to_num(features) @ weights
    if ranker:
        own = ranker.score(features)
        score = own * (score.std() / (own.std() or 1.0))
    return np.lexsort((-(score + world.exploration * rng.normal(size=len(features))), ranking))


def _explored(world: World, order: Rows, size: Ints, rng: np.random.Generator) -> tuple[Rows, NDArray[np.float32]]:
    """Swap neighbours of a share of the lists as the service does (`serving.ranking.order.explore`).

    Returns
    -------
    The order, and the propensity of each row in it. The coins are of a stream of their own: the rest of the world is
    the same without exploration.
    """
    (coins,) = rng.spawn(1)
    explored = coins.random(len(size)) < world.explored_share
    begin, cut = np.cumsum(size) - size, coins.integers(2, size=len(size))
    rank = np.arange(len(order)) - np.repeat(begin + cut, size)  # from where the pairs begin
    room = np.repeat(size - cut, size)
    paired = (rank >= 0) & (rank < room - room % 2)
    first = np.flatnonzero(paired & (rank % 2 == 0) & np.repeat(explored, size))
    swapped = first[coins.random(len(first)) < 0.5]
    shown = order.copy()
    shown[swapped], shown[swapped + 1] = order[swapped + 1], order[swapped]
    propensity = np.where(paired, 0.5, 1.0)
    propensity[~np.repeat(explored, size)] = np.nan
    return shown, propensity.astype(np.float32)


def _moods(world: World, user: Ints, rng: np.random.Generator) -> Floats:
    """Draw how easily each list's client is pleased, which adds to every appeal; nothing pleases who withdrew."""
    easy = 0.08 * world.rng(_MOODS).normal(size=world.clients)[user]
    return np.where(rng.random(len(user)) < world.withdrawn_share, -np.inf, easy)


def _answers(appeal: Floats, examined: Flags, rng: np.random.Generator) -> dict[str, Any]:
    """Draw the columns `answer`, `answer_hours`, `outcome` and `outcome_hours`.

    As his appeal passes one threshold after another, an examined lawyer is declined, accepted, accepted and won.
    Half of the accepted who do not win lose in the end; a few of the unappealing lose without an offer.
    """
    passed, luck = np.searchsorted(ANSWER_THRESHOLDS, appeal), rng.random(len(appeal))
    answer = np.choose(passed, [np.where(luck < 0.03, _LOST, _NONE), _DECLINED, _ACCEPTED, _ACCEPTED])
    answer = np.where(examined & np.isfinite(appeal), answer, _NONE)
    outcome = np.where(passed == _WON, _WON, np.where(luck < 0.5, _LOST, _NONE))
    first = 0.5 + 12 * rng.standard_exponential(len(appeal))
    then = first + 2 + 12 * rng.standard_exponential(len(appeal))
    return {
        "answer": answer.astype(np.int8),
        "answer_hours": first.clip(max=MAX_ANSWER_HOURS).astype(np.float32),
        "outcome": np.where(answer == _ACCEPTED, outcome, _NONE).astype(np.int8),
        "outcome_hours": then.clip(max=MAX_ANSWER_HOURS).astype(np.float32),
    }
