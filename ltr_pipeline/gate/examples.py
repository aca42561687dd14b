"""Three rankings of the test days, for people to look at: one that got better, a typical one, one that got worse.

They are chosen by their figures, so that a repeated run shows the same ones. The gate does not judge them.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from ltr_pipeline.dataset.load import UNKNOWN_POSITION
from ltr_pipeline.gate.measure import Contest
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.schema import ITEM_ID, QUERY_ID

__all__ = ["NONE", "Example", "Examples", "Kind", "Place", "choose"]

MOST_PLACES: Final = 8
"""Rows of an example: the first five places, which are judged, and what else turned out to be relevant."""

JUDGED: Final = 5
LONGEST_ID: Final = 80  # characters

Kind = Literal["better", "typical", "worse"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Against = Literal["champion", "legacy_linear", "logged_order", "none"]


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item of an example, and where each order puts it, 1-based.

    Attributes
    ----------
    rank
        In this model's order.
    shown
        Where users saw it; None where that was not logged.
    rival
        In the order compared with; None without one.
    """

    item_id: str
    rank: int
    shown: int | None
    rival: int | None
    relevance: int


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ranking of the test days: the places worth a look, in this model's order.

    Attributes
    ----------
    time
        When it was shown.
    candidates
        How many items it has.
    ndcg_at_5, rival_ndcg_at_5
        Of this model's order and of the order compared with; the latter is None without one.
    """

    kind: Kind
    query_id: str
    time: dt.datetime
    candidates: int
    ndcg_at_5: float
    rival_ndcg_at_5: float | None
    places: list[Place]


class Examples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Examples, and the order that they are compared with.

    Attributes
    ----------
    against, version
        The kind of that order, and of a champion its version.
    """

    against: Against
    version: str | None
    examples: list[Example]


NONE: Final = Examples(against="none", version=None, examples=[])


class _Rival(NamedTuple):
    """The order compared with, and its nDCG@5 of each ranking; NaN where it does not count."""

    against: Against
    version: str | None
    order: Rankings | None
    ndcg: NDArray[np.float64]


def choose(contest: Contest) -> Examples:
    """Choose the ranking that gained most against a rival order, one near the mean, and the one that lost most.

    The rival order is the champion's, where it can rank rankings that it was not trained on; else that of the legacy
    weights, else the order that was shown.
    """
    rival = _rival_of(contest)
    chosen = _chosen(contest.ndcg, rival.ndcg)
    examples = [_example(contest, rival, kind, chosen[kind]) for kind in KINDS if kind in chosen]
    return Examples(against=rival.against, version=rival.version, examples=examples)


def _rival_of(contest: Contest) -> _Rival:
    nothing = np.full(len(contest.ndcg), np.nan)
    champion = contest.rivals.champion
    if champion:
        order = contest.order_of(champion)
        ndcg = np.where(contest.unseen(champion), quality.ndcg(order), np.nan)
        if np.isfinite(ndcg).any():
            return _Rival("champion", champion.version, order, ndcg)
    kinds: tuple[Against, ...] = ("legacy_linear", "logged_order")
    for kind in kinds:
        if found := contest.baselines.get(kind):
            return _Rival(kind, None, found, quality.ndcg(found))
    return _Rival("none", None, None, nothing)


def _chosen(own: NDArray[np.float64], rival: NDArray[np.float64]) -> dict[Kind, int]:
    """Return a ranking of each kind, as far as there is one; of equal ones the first."""
    if not np.isfinite(own).any():
        return {}
    chosen: dict[Kind, int] = {}
    gain = np.nan_to_num(own - rival)
    if gain.max() > 0:
        chosen["better"] = int(gain.argmax())
    if gain.min() < 0:
        chosen["worse"] = int(gain.argmin())
    from_mean = np.abs(own - np.nanmean(own))
    from_mean[[*chosen.values()]] = np.nan
    if np.isfinite(from_mean).any():
        chosen["typical"] = int(np.nanargmin(from_mean))
    return chosen


def _example(contest: Contest, rival: _Rival, kind: Kind, ranking: int) -> Example:
    start, size = int(contest.rankings.starts[ranking]), int(contest.rankings.group[ranking])
    rows = slice(start, start + size)
    rank = _ranks(contest.rankings.score[rows])
    before = _ranks(rival.order.score[rows]) if rival.order else None
    relevance = contest.data.relevance[rows]
    shown = None if contest.data.position is None else contest.data.position[rows]
    items = contest.data.ids[ITEM_ID].slice(start, size).to_list()
    places = [
        Place(
            item_id=_short(items[row]),
            rank=int(rank[row]),
            shown=None if shown is None or shown[row] == UNKNOWN_POSITION else int(shown[row]),
            rival=None if before is None else int(before[row]),
            relevance=int(relevance[row]),
        )
        for row in np.argsort(rank)
        if rank[row] <= JUDGED or relevance[row] > 0
    ]
    was = rival.ndcg[ranking]
    return Example(
        kind=kind,
        query_id=_short(contest.data.ids[QUERY_ID][start]),
        time=contest.times[ranking],
        candidates=size,
        ndcg_at_5=float(contest.ndcg[ranking]),
        rival_ndcg_at_5=float(was) if np.isfinite(was) else None,
        places=places[:MOST_PLACES],
    )


def _ranks(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the place of each item, the highest score first; of equal scores in their order, as the service does."""
    ranks = np.empty(len(score), dtype=np.int64)
    ranks[np.argsort(-score, kind="stable")] = np.arange(1, len(score) + 1)
    return ranks


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_ID else f"{name[: LONGEST_ID - 1]}…"
