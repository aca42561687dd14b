"""Watches new weights for a while: do more requests fail, or take long, than may and than did before.

How sure it has to be is Wald's sequential test (A. Wald, "Sequential tests of statistical hypotheses", 1945,
doi:10.1214/aoms/1177731118): the log-likelihood ratio of "twice the allowed share" against "the allowed share" is
compared with ``log(1 / ALPHA)``. By Ville's inequality a model within what is allowed is blamed with a probability of
at most ALPHA, however often one looks, as far as requests are independent; a fixed test that is looked at every second
has no such bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

__all__ = ["ALPHA", "Counts", "Guard", "Limits", "Traffic", "Watch", "breach", "evidence"]

ALPHA: Final = 0.001
"""Probability, at most, that a model is blamed that is as good as it has to be."""

P95_SHARE: Final = 0.05
"""A p95 is over a limit when more than this share of requests is."""


class Counts:
    """What became of requests.

    Attributes
    ----------
    requests
        All of them.
    failed
        Those that the model did not score although there was one, and those that ended in an error.
    slow
        Those that took longer than the p95 may be.
    """

    __slots__ = ("failed", "requests", "slow")

    def __init__(self, requests: int = 0, failed: int = 0, slow: int = 0) -> None:
        self.requests, self.failed, self.slow = requests, failed, slow

    def add(self, *, failed: bool, slow: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.failed += failed
        self.slow += slow

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.requests + other.requests, self.failed + other.failed, self.slow + other.slow)


class Traffic:
    """Requests that one model has answered. Counted in the event loop's thread, read and turned in another.

    Attributes
    ----------
    now
        Counts since the last `turn`; look it up for each request.
    """

    __slots__ = ("_before", "now")

    def __init__(self) -> None:
        self.now = Counts()
        self._before = Counts()

    @property
    def recent(self) -> Counts:
        """Counts since the last but one `turn`."""
        return self._before + self.now

    def turn(self) -> None:
        """Forget what was before the last turn."""
        self._before, self.now = self.now, Counts()


class Limits(NamedTuple):
    """What new weights are held to.

    Attributes
    ----------
    seconds
        How long they are watched; 0 = not at all.
    requests
        How many there must be to judge.
    failed_share
        Share of requests that may fail.
    p95_ms
        Of the time from a whole request to its answer.
    """

    seconds: float
    requests: int
    failed_share: float
    p95_ms: float


class Watch(msgspec.Struct, kw_only=True):
    """What the guard sees; times are seconds since 1970.

    Attributes
    ----------
    state
        ``off``; ``watching``; ``passed``; ``too few requests``: nothing was wrong, but little was seen; ``breach``.
    version, sha256
        Of the weights that are or were watched last.
    reason
        What the breach was.
    rollback
        What became of rolling `latest` back after it: ``due``, ``done``, ``needless`` (it is elsewhere by now, or
        somebody has pinned it), or ``given up`` and why; null where it was not asked for.
    """

    state: Literal["off", "watching", "passed", "too few requests", "breach"] = "off"
    version: str | None = None
    sha256: str | None = None
    since: float | None = None
    until: float | None = None
    requests: int = 0
    failed: int = 0
    slow: int = 0
    reason: str | None = None
    rollback: str | None = None


class Guard:
    """Judges one model at a time. All but counting happens in the thread that brings new weights.

    Parameters
    ----------
    limits
        What a model is held to.
    clock
        Monotonic seconds.
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
        """Whether a model is being watched."""
        return self.watch.state == "watching"

    def begin(self, version: str, sha256: str, traffic: Traffic, former: Traffic | None) -> None:
        """Watch a model from now on; `former` is what the one before it did, None = nothing to go back to, no watch."""
        self._traffic, self._end = traffic, self._clock() + self._limits.seconds
        if former is None or not self._limits.seconds:
            self.watch = Watch(version=version, sha256=sha256)
            return
        self._former, now = former.recent, time.time()
        self.watch = Watch(
            state="watching", version=version, sha256=sha256, since=now, until=now + self._limits.seconds
        )

    def step_back(self, traffic: Traffic, reason: str) -> None:
        """Note that the watched model was bad, by whosever word, and whose requests count from now on."""
        self._traffic, self._end = traffic, self._clock() + self._limits.seconds
        self.watch.state, self.watch.reason = "breach", reason

    def look(self) -> str | None:
        """Judge the model that is watched; the reason when it is bad. The watch ends by that, or when it is over."""
        over = self._clock() >= self._end
        if not self.watching:
            if over:  # of the model in use, the last one to two watches' time is kept, to compare the next one with
                self._traffic.turn()
                self._end = self._clock() + (self._limits.seconds or math.inf)
            return None
        seen, watch = self._traffic.recent, self.watch
        watch.requests, watch.failed, watch.slow = seen.requests, seen.failed, seen.slow
        enough = seen.requests >= self._limits.requests
        watch.reason = breach(seen, self._former, self._limits) if enough else None
        if watch.reason:
            watch.state = "breach"
        elif over:
            watch.state = "passed" if enough else "too few requests"
        return watch.reason


def breach(seen: Counts, former: Counts, limits: Limits) -> str | None:
    """What is clearly worse than it may be; None when nothing is.

    A model may be as bad as the limits, or as the model before it was where that answered enough requests.
    """
    known = former if former.requests >= limits.requests else Counts(1)
    failed = max(limits.failed_share, known.failed / known.requests)
    slow = max(P95_SHARE, known.slow / known.requests)
    if evidence(seen.failed, seen.requests, failed) >= math.log(1 / ALPHA):
        return f"{seen.failed} of {seen.requests} requests failed or fell back; {failed:.2%} may"
    if evidence(seen.slow, seen.requests, slow) >= math.log(1 / ALPHA):
        return f"{seen.slow} of {seen.requests} requests took longer than {limits.p95_ms:g} ms; {slow:.2%} may"
    return None


def evidence(hits: int, requests: int, allowed: float) -> float:
    """Log-likelihood ratio of twice the `allowed` share against it, given `hits` among `requests`.

    Twice a share above 2/3 would be no share: there the alternative is halfway between it and 1.

    >>> round(evidence(1, 100, 0.001), 3), round(evidence(12, 100, 0.001), 3)
    (0.594, 8.23)
    """
    if allowed >= 1 or not hits:
        return -math.inf
    if allowed <= 0:
        return math.inf
    twice = min(2 * allowed, (1 + allowed) / 2)
    return hits * math.log(twice / allowed) + (requests - hits) * math.log((1 - twice) / (1 - allowed))
