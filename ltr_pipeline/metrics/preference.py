"""Which of two interleaved rankers users prefer, and how sure that is."""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binomtest

from ltr_pipeline.metrics.interleaving import PAIR
from ltr_pipeline.metrics.resampling import cluster_codes, cluster_sums, mean_intervals
from ltr_pipeline.schema import POLICY, QUERY_ID, RANKING_ID, RELEVANCE, TEAM, USER_ID

__all__ = ["Preference", "drafted_lists", "preference", "preferences"]

LEVEL: Final = 0.05
"""Equal rankers are told apart in at most this share of reports."""

SERVED: Final = "served"
"""In place of a version: all that were served."""

_Z: Final = 1.96 + 0.84  # two-sided 5 %, power 80 %


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """Users' preference for one of two rankers, `first` and `second`.

    Attributes
    ----------
    rankings, users
        Lists that were shown, and the users who preferred one of the rankers.
    wins, losses, ties
        Lists in which `first` earned more credit than `second`, less, or as much; most ties are lists without any.
    share
        Wins among wins and losses: 0.5 = no difference; None without any.
    low, high
        95 % interval of the share, users resampled as a whole; None with too few of them.
    p_value
        Of the sign test over users: as many would prefer the one ranker, or more, if users were indifferent.
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
    p_value: float
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
    One row per list: str `first`, `second` (the versions) and `user_id`, int64 `net`: items credited to the first minus
    items credited to the second.
    """
    versions = pl.col(POLICY).str.extract_groups(PAIR)
    rows = table.with_columns(versions.struct.unnest()).filter(pl.col("first").is_not_null())
    side = (pl.col(TEAM) == pl.col("first")).cast(pl.Int64) - (pl.col(TEAM) == pl.col("second")).cast(pl.Int64)
    lists = rows.group_by(QUERY_ID, RANKING_ID, "first", "second", maintain_order=True).agg(
        pl.col(USER_ID).first(), net=pl.when(pl.col(RELEVANCE) >= least).then(side).sum()
    )
    return lists.select("first", "second", USER_ID, "net")


def preferences(lists: pl.DataFrame) -> list[Preference]:
    """Compare each pair of versions in `drafted_lists` and, where several were served, all of them together.

    Served versions that met the same second one are taken together as ``served``: the served version changes every
    night, and a night alone seldom tells.
    """
    found = []
    for (second,), against in lists.sort("second").group_by(["second"], maintain_order=True):
        pairs = against.sort("first").partition_by("first", maintain_order=True)
        if len(pairs) > 1:
            found.append(_preference(SERVED, str(second), against))
        found += [_preference(pair["first"][0], str(second), pair) for pair in pairs]
    return found


def _preference(first: str, second: str, lists: pl.DataFrame) -> Preference:
    return preference(first, second, lists["net"].to_numpy(), cluster_codes(lists[USER_ID]))


def preference(first: str, second: str, net: NDArray[np.int64], clusters: NDArray[np.int64]) -> Preference:
    """Compare two rankers by the lists that both of them drafted.

    A list is won by the ranker whose picks earned more credit (Radlinski, Kurup and Joachims 2008); what ties tell
    about neither of them is left out of the share. A winner needs both an interval without 0.5 and a sign test over
    users at 5 %: one user's many lists are not independent, and the interval of few users is wide.

    Parameters
    ----------
    first, second
        The versions.
    net
        Credit of the first minus credit of the second in each list, int (rankings,).
    clusters
        User of each list, int (rankings,).
    """
    sign = np.sign(net)
    wins, losses = int((sign > 0).sum()), int((sign < 0).sum())
    decided = sign != 0
    sided = np.sign(cluster_sums(sign[:, None].astype(np.float64), clusters)) if len(sign) else np.empty((0, 1))
    for_first, for_second = int((sided > 0).sum()), int((sided < 0).sum())
    p_value = float(binomtest(for_first, for_first + for_second).pvalue) if for_first + for_second else 1.0
    ends = mean_intervals((sign[decided, None] > 0).astype(np.float64), clusters[decided]) if wins + losses else None
    share = wins / (wins + losses) if wins + losses else None
    low, high = (ends[0].low, ends[0].high) if ends else (None, None)
    winner = _winner(low, high, p_value)
    return Preference(
        first=first,
        second=second,
        rankings=len(net),
        wins=wins,
        losses=losses,
        ties=len(net) - wins - losses,
        users=for_first + for_second,
        share=share,
        low=low,
        high=high,
        p_value=p_value,
        winner={1: first, -1: second}.get(winner),
        further=0 if winner else _further(len(net), share, low, high),
    )


def _winner(low: float | None, high: float | None, p_value: float) -> int:
    """Return 1 for the first, -1 for the second, 0 when it cannot be told."""
    if low is None or high is None or p_value > LEVEL:
        return 0
    return 1 if low > 0.5 else -1 if high < 0.5 else 0


def _further(rankings: int, share: float | None, low: float | None, high: float | None) -> int | None:
    """Return how many more lists tell such a share apart from a half four times in five, to two digits."""
    if share is None or low is None or high is None or share == 0.5 or high == low:
        return None
    error = (high - low) / (2 * 1.96)
    needed = rankings * (_Z * error / (share - 0.5)) ** 2
    lacking = max(needed - rankings, rankings * 0.1, 10.0)
    return int(_two_digits(lacking))


def _two_digits(value: float) -> float:
    """Round to two significant digits.

    >>> _two_digits(12345.0)
    12000.0
    """
    return round(value, 1 - math.floor(math.log10(value)))
