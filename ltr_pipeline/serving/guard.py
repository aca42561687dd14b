"""Watches new weights for a while: whether they fail more often than is allowed, and are slower than those before.

How long a request takes says little of the model: lists are long, machines busy, clients many. So only the scoring is
compared, once more and apart from the answer, and requests that come at once count once.

What fails or is slow comes in bursts: one client, one kind of list, one busy second. So requests are judged in blocks
of `BLOCK`, and a burst of that length is one witness. A bettor against "at most the allowed share" stakes a part of the
money on each block and gets the block's share over the allowed one times as much back: at most 1 on average while the
model keeps the limit. By Ville's inequality the money ever reaches 1 / ALPHA with a probability of at most ALPHA,
however often one looks (I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", 2024,
doi:10.1093/jrsssb/qkad009); a fixed test that is looked at every second has no such bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

__all__ = ["ALPHA", "BLOCK", "Breach", "Counts", "Guard", "Limits", "Tally", "Traffic", "Watch", "breach", "evidence"]

ALPHA: Final = 0.001
"""Largest probability that a model is blamed although it is as good as it has to be."""

P95_SHARE: Final = 0.05
"""A p95 is over a limit when more than this share of requests is."""

APART_SECONDS: Final = 0.05
"""Requests count when they come at least so long after one that counted."""

BLOCK: Final = 20
"""So many requests are one witness."""

STAKES: Final = (0.1, 0.4, 0.8)
"""Parts of their money that the bettors put on each block: little finds small excesses, much finds large ones soon."""


class Tally:
    """Counts outcomes that come one after the other, each a hit or not, and keeps the hits of each block of them.

    After a block that ends with a hit, no block begins until there is an outcome that is none, for `BLOCK` outcomes at
    most: a burst shall not be a witness twice.

    Attributes
    ----------
    total, hits
        Outcomes, and the hits among them.
    blocks
        How many whole blocks had 0, 1, ... `BLOCK` hits.
    begun
        Hits of the block under way.
    """

    __slots__ = ("_place", "_waits", "begun", "blocks", "hits", "total")

    def __init__(self) -> None:
        self.total = self.hits = self.begun = 0
        self.blocks = [0] * (BLOCK + 1)
        self._place = self._waits = 0

    def add(self, *, hit: bool) -> None:
        """Count one outcome."""
        self.total += 1
        self.hits += hit
        if self._waits:
            self._waits = self._waits - 1 if hit else 0
            return
        self.begun += hit
        self._place += 1
        if self._place == BLOCK:
            self.blocks[self.begun] += 1
            self.begun = self._place = 0
            self._waits = BLOCK * hit

    def __add__(self, other: Tally) -> Tally:
        """Return the counts of this one and a later one."""
        both = Tally()
        both.total, both.hits, both.begun = self.total + other.total, self.hits + other.hits, other.begun
        both.blocks = [mine + theirs for mine, theirs in zip(self.blocks, other.blocks, strict=True)]
        return both


class Counts:
    """Counts of requests by their outcome.

    Attributes
    ----------
    answers
        Requests that count: a hit is one in which the model failed to score, or that ended in an error.
    comparisons
        Requests that the model before it has scored, too: a hit is one that the model scored too slowly.
    """

    __slots__ = ("answers", "comparisons")

    def __init__(self) -> None:
        self.answers, self.comparisons = Tally(), Tally()

    def add(self, *, failed: bool) -> None:
        """Count one request."""
        self.answers.add(hit=failed)

    def compare(self, *, slow: bool) -> None:
        """Count one comparison with the model before."""
        self.comparisons.add(hit=slow)

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of this one and a later one."""
        both = Counts()
        both.answers = self.answers + other.answers
        both.comparisons = self.comparisons + other.comparisons
        return both


class Traffic:
    """Counts of the requests that one model has answered: the event loop's thread adds, another reads and turns.

    Attributes
    ----------
    now
        Counts since the last `turn`; look the attribute up anew for each request.
    """

    __slots__ = ("_before", "_next", "now")

    def __init__(self) -> None:
        self.now = Counts()
        self._before = Counts()
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Return whether a request that ends at this time, in monotonic seconds, counts."""
        if now < self._next:
            return False
        self._next = now + APART_SECONDS
        return True

    def rest(self, until: float) -> None:
        """Count no request before this time: what was done with the last one took long."""
        self._next = max(self._next, until)

    @property
    def recent(self) -> Counts:
        """Counts since the last but one `turn`."""
        return self._before + self.now

    def turn(self) -> None:
        """Begin new counts, and forget those before the last turn."""
        self._before, self.now = self.now, Counts()


class Limits(NamedTuple):
    """The limits that new weights must keep.

    Attributes
    ----------
    seconds
        How long new weights are watched; 0 = not at all.
    requests
        Fewest requests for a verdict.
    failed_share
        Share of requests that may fail.
    p95_ms
        Largest p95 of scoring one request, where the model before it takes less than half as long.
    """

    seconds: float
    requests: int
    failed_share: float
    p95_ms: float


class Watch(msgspec.Struct, kw_only=True):
    """The state of the guard; times are seconds since 1970.

    Attributes
    ----------
    state
        ``off``; ``watching``; ``passed``; ``too few requests``: nothing was wrong, but too few requests came to judge;
        ``breach``: the weights broke a limit.
    version, sha256
        Version and hash of the weights that are watched now, or were watched last.
    since, until
        When the trial began, and when it ends.
    requests, failed
        Requests that count among those the weights have answered in the trial, and those of them that failed.
    compared, slow
        Requests that the weights before have scored, too, and those of them that these scored too slowly.
    reason
        Which limit was broken, and how.
    rollback
        Outcome of rolling `latest` back after the breach: ``due``, ``done``, ``needless`` (`latest` has moved since, or
        somebody has pinned it), or ``given up`` and why; null where no rollback was asked for, and for slow weights.
    """

    state: Literal["off", "watching", "passed", "too few requests", "breach"] = "off"
    version: str | None = None
    sha256: str | None = None
    since: float | None = None
    until: float | None = None
    requests: int = 0
    failed: int = 0
    compared: int = 0
    slow: int = 0
    reason: str | None = None
    rollback: str | None = None


class Breach(NamedTuple):
    """A limit that was clearly broken.

    Attributes
    ----------
    by
        What broke it.
    reason
        Which limit it was, and how far it was broken.
    """

    by: Literal["failures", "latency"]
    reason: str


class Guard:
    """Judges one model at a time. All but the counting happens in the thread that brings new weights.

    Parameters
    ----------
    limits
        Limits that a model must keep.
    clock
        Returns monotonic seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._traffic = Traffic()
        self._former = Counts()
        self._end = 0.0
        self.watch = Watch()

    @property
    def watching(self) -> bool:
        """Return whether a model is being watched."""
        return self.watch.state == "watching"

    def begin(self, version: str, sha256: str, traffic: Traffic, former: Traffic | None) -> None:
        """Watch a model from now on.

        `former` has the counts of the model before it; without one there is nothing to go back to, and no watch.
        """
        self._traffic, self._end = traffic, self._clock() + self._limits.seconds
        if former is None or not self._limits.seconds:
            self.watch = Watch(version=version, sha256=sha256)
            return
        self._former, now = former.recent, time.time()
        self.watch = Watch(
            state="watching", version=version, sha256=sha256, since=now, until=now + self._limits.seconds
        )

    def step_back(self, traffic: Traffic, reason: str) -> None:
        """Note that the watched model was bad, and count the requests of the model before it from now on."""
        self._traffic, self._end = traffic, self._clock() + self._limits.seconds
        self.watch.state, self.watch.reason = "breach", reason

    def look(self) -> Breach | None:
        """Judge the watched model and return what it broke, if anything; that or the end of its time ends the watch."""
        over = self._clock() >= self._end
        if not self.watching:
            if over:  # keep the counts of the last one to two trial times, to compare the next model with
                self._traffic.turn()
                self._end = self._clock() + (self._limits.seconds or math.inf)
            return None
        seen, watch = self._traffic.recent, self.watch
        watch.requests, watch.failed = seen.answers.total, seen.answers.hits
        watch.compared, watch.slow = seen.comparisons.total, seen.comparisons.hits
        found = breach(seen, self._former, self._limits)
        if found:
            watch.state, watch.reason = "breach", found.reason
        elif over:
            watch.state = "passed" if watch.requests >= self._limits.requests else "too few requests"
        return found


def breach(seen: Counts, former: Counts, limits: Limits) -> Breach | None:
    """Say which limit is clearly broken; None when none is, or too few requests have counted.

    A model may fail as often as the limit, or as the model before it did, if that one answered enough requests.
    """
    known = former.answers
    before = known.hits / known.total if known.total >= limits.requests else 0.0
    allowed = max(limits.failed_share, before)
    if _clearly(answers := seen.answers, allowed, limits):
        return Breach("failures", f"{answers.hits} of {answers.total} requests failed; allowed: {allowed:.2%}")
    if _clearly(compared := seen.comparisons, P95_SHARE, limits):
        return Breach(
            "latency",
            f"{compared.hits} of {compared.total} requests took more than {limits.p95_ms:g} ms to score, and more than "
            f"twice as long as by the model before; allowed: {P95_SHARE:.2%}",
        )
    return None


def _clearly(seen: Tally, allowed: float, limits: Limits) -> bool:
    """Say whether the evidence is enough, even if the block under way has no more hits: it can only have more."""
    if seen.total < limits.requests:
        return False
    begun = [*seen.blocks]
    begun[seen.begun] += 1
    return max(evidence(seen.blocks, allowed), evidence(begun, allowed)) >= math.log(1 / ALPHA)


def evidence(blocks: Sequence[int], allowed: float) -> float:
    """Return the logarithm of what the bettors have, who began with 1, given how many blocks had 0, 1, ... hits.

    >>> one_of_five = [4, *[0] * 19, 1]  # whole blocks are slow: five times the allowed share, and no proof yet
    >>> round(evidence(one_of_five, 0.05), 2), round(evidence([0] * 20 + [4], 0.05), 2)
    (0.01, 10.12)
    """
    hits = any(blocks[1:])
    if allowed >= 1 or not hits:
        return -math.inf
    if allowed <= 0:
        return math.inf
    made = [
        sum(count * math.log1p(stake * (share / BLOCK / allowed - 1)) for share, count in enumerate(blocks) if count)
        for stake in STAKES
    ]
    most = max(made)
    return most + math.log(sum(math.exp(each - most) for each in made) / len(made))
