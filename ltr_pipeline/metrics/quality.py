"""How good an order is: nDCG@5 and its companions, with their uncertainty.

All functions take one flat table of impressions, rankings one after the other: `relevance` int (n,), `score` float
(n,) and `group`, the row count of each ranking, int (rankings,). Each per-ranking metric is float64 (rankings,) with
NaN where the ranking is not *eligible*: it needs at least two candidates and one relevance above 0. Tied scores are
averaged over every order of the tied items (the expected value), so that the order of rows, which is often the order
they were shown in, cannot leak into a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ltr_pipeline.metrics.rankings import Rankings, discount_sums
from ltr_pipeline.metrics.resampling import Interval, mean_intervals
from ltr_pipeline.schema import PROTECTED_GROUP

__all__ = ["Delta", "Estimate", "Metrics", "Slice", "estimate", "hit", "measure", "mrr", "ndcg", "paired", "slices"]

Gain = Literal["exponential", "linear"]

DAY_PARTS: Final = ("00-06", "06-12", "12-18", "18-24")
"""Parts of the day, by the hour (UTC) at which a ranking was shown."""


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mean over eligible rankings with its 95 % interval.

    Attributes
    ----------
    value
        The mean; None when no ranking is eligible.
    low, high
        Cluster-bootstrap interval; None with too few clusters to make one.
    n, excluded
        Eligible rankings, and those left out because they are not.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    excluded: int = 0


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is reported of one order of the test rankings."""

    ndcg_at_5: Estimate
    linear_ndcg_at_5: Estimate
    mrr: Estimate
    hit_at_3: Estimate


class Delta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mean difference between two orders of the same `n` eligible rankings, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Slice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """nDCG@5 of a part of the test rankings.

    Attributes
    ----------
    dimension, value
        Which part, such as ``day_part`` and ``06-12``.
    impressions
        Rows in it.
    note
        Why there is no number, when there is none.
    """

    dimension: str
    value: str
    ndcg_at_5: Estimate
    impressions: int
    note: str = ""


def ndcg(
    relevance: ArrayLike, score: ArrayLike, group: ArrayLike, k: int = 5, gain: Gain = "exponential"
) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain of each ranking, in [0, 1].

    DCG@k = Σ gain(relevance) / log2(rank + 1) over ranks 1…k, divided by the DCG@k of the best order (Järvelin and
    Kekäläinen 2002). The gain is 2^relevance − 1, or the relevance itself when linear. Ties are averaged (McSherry and
    Najork 2008); with all scores tied this is the exact expectation under random order.

    Raises
    ------
    RankerError
        A score is NaN.
    DatasetError
        The shapes do not fit, or a relevance is negative.

    Examples
    --------
    A relevant item at rank 2 earns 1 / log2(3); three tied items earn the mean of the first three discounts; an
    all-zero ranking is not eligible.

    >>> ndcg([0, 1, 0, 1, 0, 0, 0], [3, 2, 1, 5, 5, 5, 1], [3, 3, 1]).round(4).tolist()
    [0.6309, 0.7103, nan]
    """
    return _ndcg(Rankings(relevance, score, group), k, gain)


def _ndcg(table: Rankings, k: int = 5, gain: Gain = "exponential") -> NDArray[np.float64]:
    grades = table.relevance.astype(np.float64)
    gains = np.exp2(grades) - 1.0 if gain == "exponential" else grades
    found = table.total(gains * table.discount(k))
    per_ranking = np.full(len(table), np.nan)
    np.divide(found, _ideal(table, gains, k), out=per_ranking, where=table.eligible)
    return per_ranking


def _ideal(table: Rankings, gains: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """DCG@k of the best order, grade by grade from the highest: no sorting needed."""
    sums, ideal = discount_sums(k), np.zeros(len(table))
    above = np.zeros(len(table), dtype=np.int64)
    for grade in np.unique(gains[gains > 0])[::-1]:
        upto = above + table.count(gains == grade)
        ideal += grade * (sums[np.minimum(upto, k)] - sums[np.minimum(above, k)])
        above = upto
    return ideal


def mrr(relevance: ArrayLike, score: ArrayLike, group: ArrayLike) -> NDArray[np.float64]:
    """Reciprocal rank of the first relevant item of each ranking, in (0, 1]; expected value under ties.

    Examples
    --------
    Rank 2 gives 1/2; one relevant among two tied items gives (1 + 1/2) / 2.

    >>> mrr([0, 1, 0, 1], [2, 1, 7, 7], [2, 2]).tolist()
    [0.5, 0.75]
    """
    return _mrr(Rankings(relevance, score, group))


def _mrr(table: Rankings) -> NDArray[np.float64]:
    first, size, relevant = _first_relevant_block(table)
    longest = np.argsort(relevant - size)  # so that those with steps left are always in front
    first, size, relevant = first[longest], size[longest], relevant[longest]
    last_step = size - relevant
    value, alive = np.zeros(len(first)), (relevant > 0).astype(np.float64)
    for step in range(int(last_step.max(initial=-1)) + 1):  # the first relevant one sits `step` into its block
        n = np.searchsorted(-last_step, -step, side="right")
        found = alive[:n] * relevant[:n] / np.maximum(size[:n] - step, 1)
        value[:n] += found / (first[:n] + step)
        alive[:n] -= found
    per_ranking = np.empty_like(value)
    per_ranking[longest] = value
    return np.where(table.eligible, per_ranking, np.nan)


def hit(relevance: ArrayLike, score: ArrayLike, group: ArrayLike, k: int = 3) -> NDArray[np.float64]:
    """1 where a relevant item is among the first `k` of its ranking, else 0; under ties the probability of it.

    Examples
    --------
    One relevant item in a tie of four is among the first three in 3 of 4 orders.

    >>> hit([0, 0, 0, 1], [1, 1, 1, 1], [4]).tolist()
    [0.75]
    """
    return _hit(Rankings(relevance, score, group), k)


def _hit(table: Rankings, k: int = 3) -> NDArray[np.float64]:
    first, size, relevant = _first_relevant_block(table)
    missed = np.ones(len(first))
    for step in range(k):
        chance = np.clip(relevant / np.maximum(size - step, 1), 0.0, 1.0)
        missed *= np.where(first + step <= k, 1.0 - chance, 1.0)
    return np.where(table.eligible, 1.0 - missed, np.nan)


def _first_relevant_block(table: Rankings) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First rank, size and relevant items of the first block of ties that holds a relevant item; 1, 0, 0 if none."""
    order, first, _ = table.ties
    relevant = table.relevance[order] > 0
    begin = np.full(len(table), np.iinfo(np.int64).max)
    np.minimum.at(begin, table.ranking[relevant], first[relevant])
    inside = first == begin[table.ranking]
    count = table.count(inside & relevant)
    return np.where(count > 0, begin, 1), table.count(inside), count


def estimate(per_ranking: NDArray[np.float64], clusters: NDArray[np.int64], seed: int) -> Estimate:
    """Mean of a per-ranking metric over the eligible rankings, with its cluster-bootstrap interval.

    Parameters
    ----------
    per_ranking
        float64 (rankings,), NaN where not eligible.
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    """
    return _estimates(per_ranking[:, None], clusters, seed)[0]


def _estimates(metrics: NDArray[np.float64], clusters: NDArray[np.int64], seed: int) -> list[Estimate]:
    """Estimates of several metrics, one a column, that are NaN for the same rankings."""
    eligible = ~np.isnan(metrics[:, 0])
    n, excluded = int(eligible.sum()), int((~eligible).sum())
    if n == 0:
        return [Estimate(value=None, low=None, high=None, n=0, excluded=excluded)] * metrics.shape[1]
    values = metrics[eligible]
    bounds: Sequence[Interval | None] = mean_intervals(values, clusters[eligible], seed) or [None] * metrics.shape[1]
    return [
        Estimate(
            value=float(column.mean()),
            low=found.low if found else None,
            high=found.high if found else None,
            n=n,
            excluded=excluded,
        )
        for column, found in zip(values.T, bounds, strict=True)
    ]


def paired(
    challenger: NDArray[np.float64], other: NDArray[np.float64], clusters: NDArray[np.int64], seed: int
) -> Delta | None:
    """Mean of challenger minus other over the rankings eligible in both; None with too few clusters for an interval."""
    difference = challenger - other
    eligible = ~np.isnan(difference)
    if not eligible.any():
        return None
    bounds = mean_intervals(difference[eligible, None], clusters[eligible], seed)
    if bounds is None:
        return None
    value = float(difference[eligible].mean())
    return Delta(value=value, low=bounds[0].low, high=bounds[0].high, n=int(eligible.sum()))


def measure(
    relevance: ArrayLike, score: ArrayLike, group: ArrayLike, clusters: NDArray[np.int64], seed: int
) -> Metrics:
    """All metrics of one order of the test rankings; pass zeros as scores for the exact expectation at random."""
    table = Rankings(relevance, score, group)
    columns = np.column_stack([_ndcg(table), _ndcg(table, gain="linear"), _mrr(table), _hit(table)])
    found = _estimates(columns, clusters, seed)
    return Metrics(ndcg_at_5=found[0], linear_ndcg_at_5=found[1], mrr=found[2], hit_at_3=found[3])


def slices(
    relevance: ArrayLike,
    score: ArrayLike,
    group: ArrayLike,
    clusters: NDArray[np.int64],
    seed: int,
    *,
    protected_group: pl.Series | None = None,
    time: pl.Series | None = None,
    new_item: NDArray[np.bool_] | None = None,
    expected_groups: tuple[str, ...] = (),
) -> list[Slice]:
    """NDCG@5 per part of the test rankings; a part that is asked for and empty is listed and says so.

    Parameters
    ----------
    protected_group
        str (n,), null = unknown. Each value's slice holds the rankings *restricted to the items of that group*: how
        well they are ordered among themselves (for a group of queries that is the whole ranking).
    time
        UTC datetime (rankings,): one slice for each of `DAY_PARTS`.
    new_item
        bool (n,), item unseen in training: rankings with at least one are ``new``, all others ``known``.
    expected_groups
        Protected groups that must be listed even when no test item has them.
    """
    table = Rankings(relevance, score, group)
    chosen: dict[tuple[str, str], NDArray[np.bool_]] = {}
    if protected_group is not None:
        for name in sorted({*expected_groups, *protected_group.drop_nulls()}):
            chosen[PROTECTED_GROUP, name] = (protected_group == name).fill_null(value=False).to_numpy()
        if protected_group.null_count():
            chosen[PROTECTED_GROUP, "unknown"] = protected_group.is_null().to_numpy()
    if time is not None:
        part = time.dt.hour().to_numpy()[table.ranking] // 6
        chosen |= {("day_part", name): part == index for index, name in enumerate(DAY_PARTS)}
    if new_item is not None:
        new = (table.count(new_item) > 0)[table.ranking]
        chosen |= {("items", "known"): ~new, ("items", "new"): new}
    return [_slice(table, *key, rows, clusters, seed) for key, rows in chosen.items()]


def _slice(
    table: Rankings, dimension: str, value: str, rows: NDArray[np.bool_], clusters: NDArray[np.int64], seed: int
) -> Slice:
    left = table.count(rows)
    found = estimate(ndcg(table.relevance[rows], table.score[rows], left), clusters, seed)
    found = msgspec.structs.replace(found, excluded=int((left > 0).sum()) - found.n)
    missing = "none of its rankings is eligible" if rows.any() else "no test ranking is in this slice"
    note = missing if found.value is None else ""
    return Slice(dimension=dimension, value=value, ndcg_at_5=found, impressions=int(rows.sum()), note=note)
