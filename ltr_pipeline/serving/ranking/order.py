"""The shown order: that of the scores, mixed with another model's order, or swapped by chance."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import structlog

from ltr_pipeline.errors import RequestError
from ltr_pipeline.metrics.interleaving import policy_of, team_draft
from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.scoring.scorer import descending
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.weights.models import Loaded
from ltr_pipeline.serving.weights.variants import Variants

__all__ = ["Interleaver", "Mixed", "chosen", "explore", "plain"]

_chance = random.Random()  # noqa: S311 - nobody gains by guessing it

log = structlog.get_logger(__name__)


class Mixed(NamedTuple):
    """The order that is shown.

    Attributes
    ----------
    order
        Rows of the candidates, best first.
    policy
        What decided the order: a version, or how two orders were mixed.
    teams
        For an interleaved order, the version that picked each item; else None.
    propensities
        For a randomised order, the probability of each item's place; else None.
    """

    order: Sequence[int]
    policy: str
    teams: Sequence[str] | None = None
    propensities: Sequence[float] | None = None


def plain(order: Sequence[int], version: str) -> Mixed:
    """Return the order of the scores as it is."""
    return Mixed(order=order, policy=version)


def explore(order: Sequence[int], version: str, chance: random.Random = _chance) -> Mixed:
    """Swap neighbours at random, so that users' reactions to them are free of position bias.

    FairPairs (Radlinski and Joachims 2006, "Minimally invasive randomization for collecting unbiased preferences from
    clickthrough logs"): with equal chance the pairs are ranks 1-2, 3-4, … or 2-3, 4-5, …, and each pair is swapped with
    probability 1/2, whatever became of the others. So no item moves by more than one rank.

    Propensities are those given the pairs: 1/2 for either order of a pair, 1 for an item without a partner.

    Parameters
    ----------
    order
        Rows of the shown candidates, best first.
    """
    shown = list(order)
    propensities = [1.0] * len(shown)
    for first in range(chance.randrange(2), len(shown) - 1, 2):
        propensities[first] = propensities[first + 1] = 0.5
        if chance.randrange(2):
            shown[first], shown[first + 1] = shown[first + 1], shown[first]
    return Mixed(order=shown, policy=f"{version}+explore", propensities=propensities)


def chosen(request_id: str, share: float, purpose: str) -> bool:
    """Return whether a request belongs to the share of traffic for a purpose; always the same for one id."""
    if share <= 0:
        return False
    digest = hashlib.blake2b(f"{purpose}:{request_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) < share * 2**32


class Interleaver:
    """Mixes the served order with that of a second version, for a share of traffic.

    Parameters
    ----------
    variants, name
        The variants that have the second model, and its name there; empty = never mix.
    share
        Share of the requests to mix.
    seconds
        Longest time that scoring a request a second time may be expected to take; else it is not mixed.
    """

    def __init__(self, variants: Variants, name: str, share: float, seconds: float) -> None:
        self._variants = variants
        self._name = name
        self._share = share if name else 0.0
        self._seconds = seconds

    def mix(
        self, candidates: Sequence[Candidate], served: Loaded, order: Sequence[int], k: int | None, request_id: str
    ) -> Mixed:
        """Draft the first `k` from both orders, or take the served order's where there is nothing to mix it with.

        Parameters
        ----------
        order
            Rows of the candidates as the served model orders them, best first.
        """
        shown = len(order) if k is None else min(k, len(order))
        if shown < 2 or not chosen(request_id, self._share, "interleave"):
            return plain(order[:shown], served.version)
        outcome, other = self._order(candidates, served)
        prometheus.INTERLEAVED.labels(outcome).inc()
        if other is None:
            return plain(order[:shown], served.version)
        second, theirs = other
        drafted = team_draft(order, theirs, shown, request_id)
        return Mixed(
            order=drafted.order,
            policy=policy_of(served.version, second),
            teams=[served.version if mine else second for mine in drafted.from_first],
        )

    def _order(self, candidates: Sequence[Candidate], served: Loaded) -> tuple[str, tuple[str, list[int]] | None]:
        """Return the outcome, and the second version with its order where it has one."""
        model = self._variants.get(self._name)
        if model is None:
            return "not_loaded", None
        if model.version == served.version:
            return "same", None
        if len(candidates) * model.seconds_a_row > self._seconds:
            return "slow", None
        try:
            scores = model.scorer.score(model.scorer.read(candidates).matrix)
        except RequestError as error:  # the served model has no such feature
            log.info("a list is not one for the version to interleave", version=model.version, error=str(error))
            return "failed", None
        except Exception:  # the served order is always there
            log.warning("scoring for interleaving failed", version=model.version, exc_info=True)
            return "failed", None
        return ("mixed", (model.version, descending(scores))) if np.isfinite(scores).all() else ("failed", None)
