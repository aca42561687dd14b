"""Watches new weights for a while: whether they fail more often than is allowed, and are slower than those before.

How long a request takes says little of the model: lists are long, machines busy, clients many. So only the scoring is
compared, once more and apart from the answer, and requests that come at once count once.

Wald's sequential test (A. Wald, "Sequential tests of statistical hypotheses", 1945, doi:10.1214/aoms/1177731118)
decides when there is enough evidence: the log-likelihood ratio of "twice the allowed share" against "the allowed share"
is compared with ``log(1 / ALPHA)``. By Ville's inequality a model that keeps to the allowed share is blamed with a
probability of at most ALPHA, however often one looks, as far as requests are independent; a fixed test that is looked
at every second has no such bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

__all__ = ["ALPHA", "Breach", "Counts", "Guard", "Limits", "Traffic", "Watch", "breach", "evidence"]

ALPHA: Final = 0.001
"""Largest probability that a model is blamed although it is as good as it has to be."""

P95_SHARE: Final = 0.05
"""A p95 is over a limit when more than this share of requests is."""

APART_SECONDS: Final = 0.05
"""Requests count when they come at least so long after one that counted: a burst is not as many witnesses."""


class Counts:
    """Counts of requests by their outcome.

    Attributes
    ----------
    requests
        Requests that count.
    failed
        Those of them in which the model failed to score, or that ended in an error.
    compared
        Requests that the model before it has scored, too.
    slow
        Those of them that the model scored too slowly.
    """

    __slots__ = ("compared", "failed", "requests", "slow")

    def __init__(self, requests: int = 0, failed: int = 0, compared: int = 0, slow: int = 0) -> None:
        self.requests, self.failed, self.compared, self.slow = requests, failed, compared, slow

    def add(self, *, failed: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.failed += failed

    def compare(self, *, slow: bool) -> None:
        """Count one comparison with the model before."""
        self.compared += 1
        self.slow += slow

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.requests + other.requests,
            self.failed + other.failed,
            self.compared + other.compared,
            self.slow + other.slow,
        )


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
        watch.requests, watch.failed, watch.compared, watch.slow = seen.requests, seen.failed, seen.compared, seen.slow
        found = breach(seen, self._former, self._limits)
        if found:
            watch.state, watch.reason = "breach", found.reason
        elif over:
            watch.state = "passed" if seen.requests >= self._limits.requests else "too few requests"
        return found


def breach(seen: Counts, former: Counts, limits: Limits) -> Breach | None:
    """Say which limit is clearly broken; None when none is, or too few requests have counted.

    A model may fail as often as the limit, or as the model before it did, if that one answered enough requests.
    """
    known = former if former.requests >= limits.requests else Counts(1)
    failed = max(limits.failed_share, known.failed / known.requests)
    if _clearly(seen.failed, seen.requests, failed, limits):
        return Breach("failures", f"{seen.failed} of {seen.requests} requests failed; allowed: {failed:.2%}")
    if _clearly(seen.slow, seen.compared, P95_SHARE, limits):
        return Breach(
            "latency",
            f"{seen.slow} of {seen.compared} requests took more than {limits.p95_ms:g} ms to score, and more than "
            f"twice as long as by the model before; allowed: {P95_SHARE:.2%}",
        )
    return None


def _clearly(hits: int, requests: int, allowed: float, limits: Limits) -> bool:
    return requests >= limits.requests and evidence(hits, requests, allowed) >= math.log(1 / ALPHA)


def evidence(hits: int, requests: int, allowed: float) -> float:
    """Return the log-likelihood ratio of twice the `allowed` share against it, given `hits` among `requests`.

    Twice a large share would pass 1: above a third the alternative is halfway between the share and 1.

    >>> round(evidence(1, 100, 0.001), 3), round(evidence(12, 100, 0.001), 3)
    (0.594, 8.23)
    """
    if allowed >= 1 or not hits:
        return -math.inf
    if allowed <= 0:
        return math.inf
    twice = min(2 * allowed, (1 + allowed) / 2)
    return hits * math.log(twice / allowed) + (requests - hits) * math.log((1 - twice) / (1 - allowed))
