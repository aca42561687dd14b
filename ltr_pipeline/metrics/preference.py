"""Which of two interleaved rankers users prefer, and how sure that is, whenever one looks and over all lines at once.

The evidence against "users prefer neither" is an *e-process*: the money of somebody who bets on wins and losses as they
come, at odds that are fair if it is so, and who began with 1. By Ville's inequality (1939) it ever reaches 1/α with a
probability of at most α, so a report may be read every day until it names a winner.

Each user is one bet, of a size that the user's own lists set. With Y(u), the wins minus losses of a user, S their sum
and Q the sum of their squares, the bettor of strength λ has exp(λS - λ²Q/2): at most 1 on average for any users that
prefer neither, be they few, uneven or erratic (de la Peña 1999, "A general class of exponential inequalities for
martingales and ratios", doi:10.1214/aop/1022677549). Strengths are mixed over a normal distribution (Robbins 1970,
"Statistical methods related to the law of the iterated logarithm", doi:10.1214/aoms/1177696786; Howard, Ramdas,
McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", doi:10.1214/20-AOS1991).
The shares that the evidence does not rule out are a *confidence sequence*: an interval that holds at all times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq

from ltr_pipeline.metrics.interleaving import PAIR
from ltr_pipeline.metrics.resampling import cluster_codes, cluster_sums
from ltr_pipeline.schema import POLICY, QUERY_ID, RANKING_ID, RELEVANCE, TEAM, TIME, USER_ID

__all__ = ["LEVEL", "Preference", "drafted_lists", "preference", "preferences"]

LEVEL: Final = 0.05
"""Equal rankers are told apart with at most this probability, by any line, however often reports are read."""

SERVED: Final = "served"
"""In place of a version: all that were served."""

FIRST_SHARE: Final = 0.8
"""Share of `LEVEL` that the first line gets; those after it share the rest."""

_PRIOR: Final = 20.0  # precision of the normal that mixes strengths: best for differences seen in a few hundred lists
_POWER: Final = 0.84  # standard errors: enough lists four times in five
_MOST: Final = 690.0  # of the logarithm of the evidence: above, a float is infinite
_FAR: Final = 1e9  # times as many lists as there are: nothing useful is said beyond


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """Users' preference for one of two rankers, `first` and `second`.

    Attributes
    ----------
    rankings, users
        Lists that were shown, and the users who had one that was won.
    wins, losses, ties
        Lists in which `first` earned more credit than `second`, less, or as much; most ties are lists without any.
    share
        Wins among wins and losses: 0.5 = no difference; None without any.
    low, high
        Confidence sequence of the share: holds at all times, and in all lines of a report, with 95 %.
    evidence
        What a bettor against "no difference" has made of 1.
    needed
        Evidence from which on there is a winner.
    winner
        The preferred version; None when it cannot be told yet.
    further
        About how many more lists it takes to tell, if the share stays as it is; None when nothing can be said.
    """

    first: str
    second: str
    rankings: int
    wins: int
    losses: int
    ties: int
    users: int
    share: float | None
    low: float | None
    high: float | None
    evidence: float
    needed: float
    winner: str | None
    further: int | None


def drafted_lists(table: pl.DataFrame, least: int = 1) -> pl.DataFrame:
    """Count the credit of each interleaved list in a table of labelled candidates.

    Parameters
    ----------
    table
        One row per candidate (`labels.Labelled.table`).
    least
        Relevance from which on an item is credited to the ranker that picked it.

    Returns
    -------
    One row per list: `time`, str `first`, `second` (the versions) and `cluster` (its user, else its query), int64
    `net`: items credited to the first minus items credited to the second.
    """
    versions = pl.col(POLICY).str.extract_groups(PAIR)
    rows = table.with_columns(versions.struct.unnest()).filter(pl.col("first").is_not_null())
    side = (pl.col(TEAM) == pl.col("first")).cast(pl.Int64) - (pl.col(TEAM) == pl.col("second")).cast(pl.Int64)
    lists = rows.group_by(QUERY_ID, RANKING_ID, "first", "second", maintain_order=True).agg(
        pl.col(TIME).first(), pl.col(USER_ID).first(), net=pl.when(pl.col(RELEVANCE) >= least).then(side).sum()
    )
    cluster = pl.coalesce(pl.format("user {}", USER_ID), pl.format("query {}", QUERY_ID))
    return lists.select(TIME, "first", "second", cluster.alias("cluster"), "net")


def preferences(lists: pl.DataFrame) -> list[Preference]:
    """Compare each pair of versions in `drafted_lists` and, where several were served, all of them together.

    Served versions that met the same second one are taken together as ``served``: the served version changes every
    night, and a night alone seldom tells.
    """
    lines = sorted(_lines(lists), key=lambda line: (line.began, line.first != SERVED, line.second, line.first))
    found = [_compared(line, LEVEL * _share_of_level(place)) for place, line in enumerate(lines)]
    return sorted(found, key=lambda one: (one.second, one.first != SERVED, one.first))


class _Line(NamedTuple):
    """Lists that are compared together; `began` orders lines by when they were first seen, which stays as it is."""

    began: object
    first: str
    second: str
    lists: pl.DataFrame


def _lines(lists: pl.DataFrame) -> Iterator[_Line]:
    for (second,), against in lists.group_by(["second"], maintain_order=True):
        pairs = against.partition_by("first", as_dict=True, maintain_order=True)
        began = {str(first): pair[TIME].min() for (first,), pair in pairs.items()}
        alone = len(pairs) == 1
        yield _Line(against[TIME].min(), next(iter(began)) if alone else SERVED, str(second), against)
        if not alone:  # a pair is a line of its own from when a second version is served
            apart = sorted(began.values())[1]  # type: ignore[type-var]
            for (first,), pair in pairs.items():
                yield _Line(max(began[str(first)], apart), str(first), str(second), pair)  # type: ignore[type-var]


def _share_of_level(place: int) -> float:
    """Return the share of the level that a line gets by its place: of however many lines, the sum is at most 1.

    >>> [round(_share_of_level(place), 3) for place in range(4)]
    [0.8, 0.1, 0.033, 0.017]
    """
    return FIRST_SHARE if place == 0 else (1 - FIRST_SHARE) / (place * (place + 1))


def _compared(line: _Line, level: float) -> Preference:
    net, clusters = line.lists["net"].to_numpy(), cluster_codes(line.lists["cluster"])
    return preference(line.first, line.second, net, clusters, level=level)


def preference(
    first: str, second: str, net: NDArray[np.int64], clusters: NDArray[np.int64], *, level: float = LEVEL
) -> Preference:
    """Compare two rankers by the lists that both of them drafted.

    A list is won by the ranker whose picks earned more credit (Radlinski, Kurup and Joachims 2008); what ties tell
    about neither of them is left out.

    Parameters
    ----------
    first, second
        The versions.
    net
        Credit of the first minus credit of the second in each list, int (rankings,).
    clusters
        User of each list, int (rankings,): one user's many lists are not independent.
    level
        Probability with which a winner may be named, ever, between equal rankers.
    """
    users = _Users.of(np.sign(net), clusters)
    wins, losses, goal = int(users.wins.sum()), int(users.losses.sum()), math.log(1 / level)
    evidence = users.log_evidence(0.5)
    low, high = users.interval(goal) if wins + losses else (None, None)
    told = evidence >= goal
    return Preference(
        first=first,
        second=second,
        rankings=len(net),
        wins=wins,
        losses=losses,
        ties=len(net) - wins - losses,
        users=len(users.wins),
        share=wins / (wins + losses) if wins + losses else None,
        low=low,
        high=high,
        evidence=math.exp(min(evidence, _MOST)),
        needed=1 / level,
        winner=(first if wins > losses else second) if told else None,
        further=0 if told else users.further(len(net), goal),
    )


class _Users(NamedTuple):
    """Lists won and lost by the first ranker, float64 (users,), of the users with any."""

    wins: NDArray[np.float64]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, sign: NDArray[np.int64], clusters: NDArray[np.int64]) -> _Users:
        decided = sign != 0
        if not decided.any():
            return cls(np.empty(0), np.empty(0))
        sides = np.column_stack([sign[decided] > 0, sign[decided] < 0]).astype(np.float64)
        sums = cluster_sums(sides, clusters[decided])
        return cls(sums[:, 0], sums[:, 1])

    def log_evidence(self, share: float) -> float:
        """Return the logarithm of the evidence against a share; at 0.5 it is Y = wins - losses of each user."""
        surplus = 2 * ((1 - share) * self.wins - share * self.losses)
        return _log_mixture(float(surplus.sum()), float(surplus @ surplus))

    def interval(self, goal: float) -> tuple[float, float]:
        """Return the ends of the shares against which the evidence is below the goal."""
        share = float(self.wins.sum() / (self.wins.sum() + self.losses.sum()))
        low, high = (self._end(share, end, goal) for end in (0.0, 1.0))
        return low, high

    def _end(self, inside: float, end: float, goal: float) -> float:
        if self.log_evidence(end) < goal:
            return end
        return float(brentq(lambda at: self.log_evidence(at) - goal, inside, end))

    def further(self, rankings: int, goal: float) -> int | None:
        """Return how many more such lists reach the goal four times in five, to two digits."""
        surplus = self.wins - self.losses
        total, squares = abs(float(surplus.sum())), float(surplus @ surplus)
        if not total:
            return None

        def lacking(times: float) -> float:
            unlucky = times * total - _POWER * math.sqrt(times * squares)
            return goal - _log_mixture(max(unlucky, 0.0), times * squares)

        if lacking(_FAR) > 0:
            return None
        times = float(brentq(lacking, 1.0, _FAR)) if lacking(1.0) > 0 else 1.0
        return int(_two_digits(max(rankings * (times - 1), rankings * 0.1, 10.0)))


def _log_mixture(total: float, squares: float) -> float:
    """Return the logarithm of exp(λ total - λ² squares / 2), averaged over the bettors' normal strengths λ.

    >>> round(math.exp(_log_mixture(32, 40)), 1)  # 36 users of 40 prefer the first
    2933.7
    """
    return total * total / (2 * (squares + _PRIOR)) - math.log1p(squares / _PRIOR) / 2


def _two_digits(value: float) -> float:
    """Round to two significant digits.

    >>> _two_digits(12345.0)
    12000.0
    """
    return round(value, 1 - math.floor(math.log10(value)))
