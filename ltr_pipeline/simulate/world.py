"""The simulated world, the columns it is drawn into, and the true worth of a lawyer for a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.errors import SettingsError

__all__ = ["ACTIONS", "FEATURES", "GROUPS", "Outage", "Ranker", "ShownLists", "World", "utility"]

FEATURES: Final = ("A", "S", "T", "G", "Q", "U", "R", "C")
"""Area match, similar cases, track record, nearness, qualification, unoccupied time, reviews, communication."""

GROUPS: Final = ("a", "b")

ACTIONS: Final = ("lost", "declined", "accepted", "won")
"""In order of worth: an action's index is its relevance in the default mapping."""

LIST_SIZES: Final = (5, 20)
WEEKDAYS: Final = (1.10, 1.10, 1.05, 1.05, 1.00, 0.65, 0.55)  # traffic, Monday first
EVENT_DAY_TRAFFIC: Final = 2.5

Outage: TypeAlias = Literal["silent", "no_feedback", "noise", "malformed"]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int32]
Rows: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


class Ranker(NamedTuple):
    """A ranker that shows the lists of a day in place of the legacy one.

    Attributes
    ----------
    version
        Its name, for the log.
    score
        Scores, float64 (n,), of features, float32 (n, 8) in the order of `FEATURES`, NaN = missing.
    """

    version: str
    score: Callable[[NDArray[np.float32]], NDArray[np.float64]]


class World(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A simulated world. Equal worlds give equal events, byte for byte.

    Attributes
    ----------
    legacy_weights
        Weights by feature of the linear ranker that shows the lists; a missing feature counts 0.
    lawyers, clients
        How many of each there are at a time; every day two lawyers retire and two join.
    rankings_per_day
        Lists shown on an average weekday; see `WEEKDAYS`.
    event_day
        Day of the month that is the declared event day: `EVENT_DAY_TRAFFIC` times the lists, more of them urgent.
    event_effect
        How much another way clients answer on that day, from 0 to 1. They hunt for bargains, and the best are dear: at
        1 the lawyer who is worth most appeals least, at 0.5 worth plays no part.
    examination
        A client examines position p with probability p ** -examination.
    exploration
        Standard deviation of the noise that the shown order adds to the legacy score.
    taste
        Standard deviation of what a client likes beyond `utility`.
    group_effect
        By how much less a lawyer of group "b" appeals than his equal in group "a", in units of utility. The default
        is mild; models trained on the answers have a true fairness gap of about 0.06 at 0.3, 0.12 at 0.5, 0.2 at 0.8.
    explored_share
        Share of lists in which neighbours are swapped by a coin (FairPairs), as the service does with
        ``LTR_EXPLORE_SHARE``.
    rated_share
        Share of answered impressions whose client also says how content he is, 1 to 5, by `utility`.
    withdrawn_share
        Share of lists that get no answer at all.
    unavailable_share, missing_share
        Share of impressions whose lawyer is unavailable; of values of T and of R that are missing.
    duplicate_share, late_share, malformed_share, unrelated_share
        Share of messages that are delivered twice; hours to days late; of broken and unrelated ones on top.
    start
        First day with lists. None: the world is older than every log, so that a log begins with feedback on lists
        that were shown before it.
    outages
        Bad days. "silent": nothing is shown and nothing arrives. "no_feedback": the feedback that would arrive that
        day is lost. "noise": answers to that day's lists have nothing to do with utility. "malformed": one message
        in twenty of that day is broken.
    halved
        Features that are logged as half of what they are from a day on, such as a price in another currency. What a
        lawyer is worth does not change by that.
    """

    legacy_weights: dict[str, float]
    seed: int = 7
    lawyers: int = 400
    clients: int = 1500
    rankings_per_day: int = 480
    event_day: int = 18
    event_effect: float = 0.0
    examination: float = 0.35
    exploration: float = 0.12
    taste: float = 0.4
    group_effect: float = 0.02
    explored_share: float = 0.0
    rated_share: float = 0.2
    withdrawn_share: float = 0.15
    unavailable_share: float = 0.03
    missing_share: float = 0.04
    duplicate_share: float = 0.004
    late_share: float = 0.01
    malformed_share: float = 0.0004
    unrelated_share: float = 0.01
    start: date | None = None
    outages: dict[date, Outage] = {}
    halved: dict[str, date] = {}

    def __post_init__(self) -> None:
        if self.lawyers < LIST_SIZES[1] or self.clients < 1 or self.rankings_per_day < 0:
            raise SettingsError(f"a simulated world needs {LIST_SIZES[1]} lawyers and a client at least")
        for name in (f for f in self.__struct_fields__ if f.endswith("_share")):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name}={getattr(self, name)} of the simulated world: give a share from 0 to 1")
        if not 0 <= self.event_effect <= 1:
            raise SettingsError(f"event_effect={self.event_effect} of the simulated world: give one from 0 to 1")
        if unknown := sorted(set(self.halved) - set(FEATURES)):
            raise SettingsError(f"halved of the simulated world names {unknown[0]}; its features are {FEATURES}")

    def rng(self, *stream: int) -> np.random.Generator:
        """Make an independent generator of one stream of random numbers."""
        return np.random.default_rng([self.seed, *stream])

    def is_event_day(self, day: date) -> bool:
        """Tell whether `day` is the declared event day of its month."""
        return day.day == self.event_day

    def traffic(self, day: date) -> float:
        """Return the expected number of lists shown on `day`."""
        if (self.start and day < self.start) or self.outages.get(day) == "silent":
            return 0.0
        event = EVENT_DAY_TRAFFIC if self.is_event_day(day) else 1.0
        return self.rankings_per_day * WEEKDAYS[day.weekday()] * event


@dataclass(frozen=True)
class ShownLists:
    """Shown lists as columns; the n rows of impressions stand by ranking, in shown order.

    Attributes
    ----------
    group
        Row counts per ranking, int32 (rankings,), as LightGBM takes them.
    user, case
        Number of the client, int32 (rankings,), and of his case, int64 (rankings,).
    item
        Number of the lawyer, int32 (n,).
    protected_group
        Index into `GROUPS`, int8 (n,); -1 = not declared.
    features
        float32 (n, 8) in the order of `FEATURES`, three decimals, NaN = missing.
    utility
        float64 (n,), of the complete features; see `utility`.
    position
        Where the item was shown, 1-based, int32 (n,).
    propensity
        Probability of that place, given the pairs that were swapped, float32 (n,); NaN in lists not explored.
    available
        bool (n,); an unavailable lawyer gets no answer.
    answer, outcome
        Index into `ACTIONS` of what the client did first and in the end, int8 (n,); -1 = nothing.
    answer_hours, outcome_hours
        How long after the list was shown, float32 (n,); without meaning where nothing was done.
    """

    group: Ints
    user: Ints
    case: Rows
    item: Ints
    protected_group: NDArray[np.int8]
    features: NDArray[np.float32]
    utility: Floats
    position: Ints
    propensity: NDArray[np.float32]
    available: Flags
    answer: NDArray[np.int8]
    answer_hours: NDArray[np.float32]
    outcome: NDArray[np.int8]
    outcome_hours: NDArray[np.float32]

    @property
    def ranking(self) -> Rows:
        """Index of each row's ranking, int64 (n,)."""
        return np.repeat(np.arange(len(self.group)), self.group)

    def relevance(self, attribution_days: float = 3.0) -> NDArray[np.int8]:
        """Return the best action inside the attribution window as relevance, int8 (n,); 0 = none."""
        hours = 24 * attribution_days
        answer = np.where(self.answer_hours < hours, self.answer, -1)
        outcome = np.where(self.outcome_hours < hours, self.outcome, -1)
        best: NDArray[np.int8] = np.maximum(answer, outcome).clip(min=0).astype(np.int8)
        return best

    def only_available(self) -> ShownLists:
        """Return the lists without unavailable lawyers: positions keep their gaps, empty lists are left out."""
        keep = self.available
        group = np.bincount(self.ranking[keep], minlength=len(self.group)).astype(np.int32)
        some = group > 0
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)} | {"group": group}
        kept = {name: c[some if name in ("group", "user", "case") else keep] for name, c in columns.items()}
        return ShownLists(**kept)


def utility(features: NDArray[np.floating]) -> Floats:
    """Return the worth of a lawyer for a case, float64 (n,), from complete features (n, 8) in [0, 1].

    No linear function of the features comes close: expertise saturates, a track record counts only in similar
    cases, nearness and similarity replace each other, the over-qualified are as wrong as the under-qualified (more
    similar cases ask for more), and too little time (the more, the farther away) or poor communication disqualifies
    below a threshold. Reviews (R) are worth nothing; they only let a model guess the group.

    Examples
    --------
    >>> fits = [1.0, 0.8, 0.8, 0.7, 0.8, 0.9, 0.5, 0.8]
    >>> busy = [1.0, 0.8, 0.8, 0.7, 0.8, 0.1, 0.5, 0.8]
    >>> utility(np.array([fits, busy])).round(2)
    array([1.28, 0.87])
    """
    a, s, t, g, q, u, _, c = features.astype(np.float64).T
    suits = 0.32 * _step(a - 0.5) + 0.75 * s * t + 0.25 * _step(np.maximum(g, s) - 0.6) + 0.3 * c
    fails = 0.3 * np.square((q - 0.15 - 0.8 * s) / 0.3) + 0.45 * _step(0.67 - 0.6 * g - u) + 0.3 * _step(0.45 - c)
    worth: Floats = suits - fails
    return worth


def _step(margin: Floats) -> Floats:
    """Return a threshold with a soft edge: 0 below, 1 above."""
    soft: Floats = 1 / (1 + np.exp(-16 * margin))
    return soft
