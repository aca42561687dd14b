"""Whether groups of people are ranked equally well: the pairwise equal-opportunity gap and its noise.

For ranking q and group g, A(q, g) is the share of pairs (i, j) with relevance_i > relevance_j, i in g and j not in g,
that are scored in the right order, ties counting one half; A(g) is its mean over the rankings that have such a pair,
and the gap is max A(g) - min A(g) (Beutel et al. 2019, arXiv 1903.00780). Where the group belongs to the ranking (all
its items share one), all pairs of the rankings of that group count.

The largest minus the smallest of noisy means is above zero even when every group is served alike, so the gap is also
measured under permuted labels, and the mean square of those is taken off: sqrt(max(0, gap² - mean(null gap²))).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.resampling import MIN_CLUSTERS, cluster_codes, cluster_sums, interval, resample

__all__ = ["MIN_SUPPORT", "PERMUTATIONS", "Fairness", "GroupAccuracy", "corrected", "measure"]

MIN_SUPPORT: Final = 30
"""Rankings with a pair of a group, below which its accuracy is too noisy to judge."""

PERMUTATIONS: Final = 500
"""Relabellings behind the null: its mean square is then known to about one part in fifteen."""

Random: TypeAlias = np.random.Generator
_MAX_PARTNERS: Final = 200  # items each relevant one is compared with: all, or this many spread over a longer list
_CELLS: Final = 2_000_000  # values held at once while relabelling


class GroupAccuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often one protected group's better items are ranked above worse ones.

    Attributes
    ----------
    protected_group
        Its name.
    accuracy
        A(g), in [0, 1]; None when no ranking has a pair of it.
    pairs, rankings
        Pairs compared, and rankings that have one.
    exposure
        Mean position discount of its items, 1.0 = that of the average item of their lists (advisory).
    ndcg_at_5
        Of the rankings restricted to its items (advisory).
    """

    protected_group: str
    accuracy: float | None
    pairs: int
    rankings: int
    exposure: float | None = None
    ndcg_at_5: float | None = None


class Fairness(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fairness gap, what noise alone would make of it, and what stands beside it.

    Attributes
    ----------
    configured
        Whether any impression has a protected group.
    evaluable, reason
        Whether the gap can be judged, and if not why; the gap of the groups with support may be there even so.
    gap, low, high
        max A(g) - min A(g), in [0, 1], and its cluster-bootstrap 95 % interval.
    noise
        Root mean square of the gap under permuted group labels: what a fair model shows by chance.
    corrected_gap
        sqrt(max(0, gap² - noise²)): what the gate judges.
    null_p95
        95th percentile of the gap under permuted group labels.
    corrected_p20
        20th percentile of the bootstrap's corrected gaps: at least 80 % of them are above a limit below it.
    exposure_gap
        Largest difference of exposure between groups (advisory).
    groups
        One entry a group, by name.
    unknown_share
        Share of impressions without a protected group; reported, never gated.
    """

    configured: bool
    evaluable: bool
    reason: str
    gap: float | None = None
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    corrected_gap: float | None = None
    null_p95: float | None = None
    corrected_p20: float | None = None
    exposure_gap: float | None = None
    groups: list[GroupAccuracy] = []
    unknown_share: float = 0.0


def measure(
    relevance: ArrayLike,
    score: ArrayLike,
    group: ArrayLike,
    protected_group: pl.Series,
    clusters: NDArray[np.int64],
    seed: int,
    *,
    item: pl.Series | None = None,
    expected_groups: Iterable[str] = (),
    ndcg_at_5: Mapping[str, float | None] | None = None,
) -> Fairness:
    """Fairness gap of one order of the test rankings.

    Labels are permuted where they live: over items where groups meet in one ranking (an item keeps its shuffled label
    in all rankings), else over users where each has one group, else over rankings. In lists longer than 200 each
    relevant item is compared with 200 others, spread evenly over the list.

    Parameters
    ----------
    relevance, score, group
        Flat table: int (n,), float (n,), row count of each ranking (rankings,).
    protected_group
        str (n,), null = unknown: pairs with such an item are left out, and the share of such impressions is reported.
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    item
        Identity of each row's item (n,); without it every row is an item of its own.
    expected_groups
        Groups that training had: one that is gone from the test days has no support, which is never a silent pass.
    ndcg_at_5
        Per-group nDCG@5 to show beside the accuracies.

    Raises
    ------
    RankerError
        A score is NaN.
    DatasetError
        The shapes do not fit.
    """
    table = Rankings(relevance, score, group)
    if len(protected_group) != len(table.score) or len(clusters) != len(table):
        sizes = f"{len(protected_group)} protected groups and {len(clusters)} clusters"
        raise DatasetError(f"{len(table.score)} rows in {len(table)} rankings do not fit {sizes}")
    unknown = protected_group.null_count() / max(1, len(table.score))
    names = sorted({*expected_groups, *protected_group.drop_nulls().unique()})
    if not names:
        reason = "no impression has a protected group"
        return Fairness(configured=False, evaluable=False, reason=reason, unknown_share=unknown)
    rng = np.random.default_rng(seed)
    units = _units(table, protected_group.cast(pl.Enum(names)), item, clusters)
    pairs = _pairs(table, units, rng)
    found = _accuracy(pairs, units.label[:, None], len(names))
    groups = _groups(table, units, names, found, ndcg_at_5 or {})
    exposures = [entry.exposure for entry in groups if entry.exposure is not None] or [0.0]
    unjudged = Fairness(
        configured=True,
        evaluable=False,
        reason="",
        exposure_gap=max(exposures) - min(exposures),
        groups=groups,
        unknown_share=unknown,
    )
    return _judged(unjudged, pairs, units.label, found, clusters[pairs.ranking], rng)


class _Units(NamedTuple):
    """Where labels live.

    `label` int16 (units,) is the group number of each item, user or ranking, which a permutation shuffles; `of_row` int
    (n,) is the unit of each row, -1 = unknown; `shared` says that all items of a ranking have the same group.
    """

    label: NDArray[np.int16]
    of_row: NDArray[np.int64]
    shared: bool


class _Pairs(NamedTuple):
    """Pairs of different relevance in one ranking, sorted by ranking and better row.

    `unit` of each better row and `of_pair`, the better row of each pair; the `other` unit of each pair. Sparse matrices
    add up pairs by better row, `right` with 1 for the right order, 1/2 for a tie and 0 for the wrong one, `count` with
    1 for each, and `rankings` adds up better rows by ranking; `ranking` is the number of each.
    """

    unit: NDArray[np.int64]
    of_pair: NDArray[np.int64]
    other: NDArray[np.int64]
    right: csr_array
    count: csr_array
    rankings: csr_array
    ranking: NDArray[np.int64]
    shared: bool


class _Accuracy(NamedTuple):
    """A(q, g) of rankings with a pair, float64 (rankings, groups, labellings), 0 without one, and how many it has."""

    value: NDArray[np.float64]
    pairs: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """A(g), float64 (groups, labellings), NaN where no ranking has a pair."""
        return _ratio(self.value.sum(axis=0), (self.pairs > 0).sum(axis=0))


def _ratio(total: NDArray[np.float64], count: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(total.shape, np.nan)
    np.divide(total, count, out=ratio, where=count > 0)
    return ratio


def _units(table: Rankings, protected_group: pl.Series, item: pl.Series | None, clusters: NDArray[np.int64]) -> _Units:
    code = protected_group.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    known = code >= 0
    shared = _constant(code, table.ranking, known)
    if shared:
        users = clusters[table.ranking]
        owner = users if _constant(code, users, known) else table.ranking
    else:
        owner = np.arange(len(code)) if item is None else cluster_codes(item)
    groups = int(code.max(initial=0)) + 1
    units, of_known = np.unique(owner[known] * groups + code[known], return_inverse=True)
    of_row = np.full(len(code), -1)
    of_row[known] = of_known
    return _Units((units % groups).astype(np.int16), of_row, shared)


def _constant(code: NDArray[np.int64], owner: NDArray[np.int64], known: NDArray[np.bool_]) -> bool:
    """Whether all known codes of each owner are the same."""
    code, owner = code[known], owner[known]
    highest = np.full(int(owner.max(initial=0)) + 1, -1)
    np.maximum.at(highest, owner, code)
    return bool((highest[owner] == code).all())


def _pairs(table: Rankings, units: _Units, rng: Random) -> _Pairs:
    rows = np.flatnonzero((table.relevance > 0) & (units.of_row >= 0))
    size = table.group[table.ranking[rows]]
    partners = np.minimum(size, _MAX_PARTNERS)
    better = np.repeat(rows, partners)
    step = np.arange(len(better)) - np.repeat(np.cumsum(partners) - partners, partners)
    shift = rng.integers(0, np.maximum(size, 1))  # in a short list every place is taken once, whatever the shift
    place = (step * np.repeat(size, partners) + np.repeat(shift, partners)) // np.repeat(partners, partners)
    other = table.starts[table.ranking[better]] + place
    differ = (table.relevance[better] > table.relevance[other]) & (units.of_row[other] >= 0)
    better, other = better[differ], other[differ]
    first = np.flatnonzero(np.diff(better, prepend=-1))
    ranking = table.ranking[better[first]]
    begin = np.flatnonzero(np.diff(ranking, prepend=-1))
    right = (1.0 + np.sign(table.score[better] - table.score[other])) / 2.0
    return _Pairs(
        unit=units.of_row[better[first]],
        of_pair=np.repeat(np.arange(len(first)), np.diff(first, append=len(better))),
        other=units.of_row[other],
        right=_adder(first, right),
        count=_adder(first, np.ones(len(better))),
        rankings=_adder(begin, np.ones(len(first))),
        ranking=ranking[begin],
        shared=units.shared,
    )


def _adder(first: NDArray[np.int64], weight: NDArray[np.float64]) -> csr_array:
    """Sparse float32 matrix that adds up weighted rows from each `first` to the next."""
    indptr = np.append(first, len(weight))
    return csr_array((weight.astype(np.float32), np.arange(len(weight)), indptr), shape=(len(first), len(weight)))


def _accuracy(pairs: _Pairs, label: NDArray[np.int16], groups: int) -> _Accuracy:
    """A(q, g) under each labelling of the units, int16 (units, labellings)."""
    own = label[pairs.unit]
    counted = ((label[pairs.other] != own[pairs.of_pair]) | pairs.shared).astype(np.float32)
    right, count = pairs.right @ counted, pairs.count @ counted
    shape = (len(pairs.ranking), groups, label.shape[1])
    rights, counts = np.zeros(shape), np.zeros(shape)
    for index in range(groups):
        ours = own == index
        rights[:, index] = pairs.rankings @ (right * ours)
        counts[:, index] = pairs.rankings @ (count * ours)
    return _Accuracy(rights / np.maximum(counts, 1.0), counts)


def _groups(
    table: Rankings, units: _Units, names: list[str], found: _Accuracy, ndcg_at_5: Mapping[str, float | None]
) -> list[GroupAccuracy]:
    discount = table.discount(int(table.group.max()))
    relative = discount / (table.total(discount) / np.maximum(table.group, 1))[table.ranking]
    known = units.of_row >= 0
    code = units.label[units.of_row[known]]
    count = np.bincount(code, minlength=len(names))
    shown = np.bincount(code, weights=relative[known], minlength=len(names)).astype(np.float64)
    exposure = _ratio(shown, count)
    accuracy, rankings = found.mean()[:, 0], (found.pairs[:, :, 0] > 0).sum(axis=0)
    return [
        GroupAccuracy(
            protected_group=name,
            accuracy=_or_none(accuracy[index]),
            pairs=int(found.pairs[:, index].sum()),
            rankings=int(rankings[index]),
            exposure=_or_none(exposure[index]),
            ndcg_at_5=ndcg_at_5.get(name),
        )
        for index, name in enumerate(names)
    ]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _judged(
    unjudged: Fairness, pairs: _Pairs, label: NDArray[np.int16], found: _Accuracy, users: NDArray[np.int64], rng: Random
) -> Fairness:
    """Add the gap, its interval and its null where two groups have support; `users` (rankings with a pair,)."""
    groups = unjudged.groups
    supported = [index for index, entry in enumerate(groups) if entry.rankings >= MIN_SUPPORT]
    reason = _doubt(groups, len(np.unique(users)), shared=pairs.shared)
    if len(supported) < 2 or len(np.unique(users)) < MIN_CLUSTERS:
        return replace(unjudged, reason=reason)
    gap = float(_gap(found.mean(), supported)[0])
    null = _null_gaps(pairs, label, len(groups), supported, rng)
    noise = float(np.sqrt(np.mean(null**2)))
    draws = _bootstrap_gaps(found, users, supported, rng)
    bounds = interval(draws)
    return replace(
        unjudged,
        evaluable=not reason,
        reason=reason,
        gap=gap,
        low=bounds.low,
        high=bounds.high,
        noise=noise,
        corrected_gap=corrected(gap, noise),
        null_p95=float(np.quantile(null, 0.95)),
        corrected_p20=corrected(float(np.quantile(draws, 0.2)), noise),
    )


def _doubt(groups: list[GroupAccuracy], users: int, *, shared: bool) -> str:
    """Why the gap cannot be judged, or nothing."""
    if len(groups) < 2:
        return f"a gap needs two protected groups; all items are of {groups[0].protected_group}"
    if not any(entry.pairs for entry in groups):
        return f"no ranking has two items of {'known' if shared else 'different'} groups of which one is more relevant"
    if users < MIN_CLUSTERS:
        return f"{users} users are too few for an interval; {MIN_CLUSTERS} are needed"
    thin = [f"{entry.protected_group} has {entry.rankings}" for entry in groups if entry.rankings < MIN_SUPPORT]
    return f"a group needs {MIN_SUPPORT} rankings with a pair to compare; {', '.join(thin)}" if thin else ""


def corrected(gap: float, noise: float) -> float:
    """Gap after taking off what noise alone would show.

    >>> round(corrected(0.05, 0.03), 3), corrected(0.02, 0.03)
    (0.04, 0.0)
    """
    return math.sqrt(max(0.0, gap**2 - noise**2))


def _gap(accuracy: NDArray[np.float64], supported: list[int]) -> NDArray[np.float64]:
    """Largest minus smallest A(g) of each labelling or draw, from (groups, labellings)."""
    chosen = accuracy[supported]
    spread: NDArray[np.float64] = np.fmax.reduce(chosen, axis=0) - np.fmin.reduce(chosen, axis=0)
    return np.nan_to_num(spread)


def _null_gaps(
    pairs: _Pairs, label: NDArray[np.int16], groups: int, supported: list[int], rng: Random
) -> NDArray[np.float64]:
    """Gaps under shuffled labels, float64 (PERMUTATIONS,)."""
    step = max(1, _CELLS // max(len(pairs.other), len(label), len(pairs.ranking) * groups))
    gaps = []
    for at in range(0, PERMUTATIONS, step):
        copies = np.tile(label, (min(step, PERMUTATIONS - at), 1))
        shuffled = np.ascontiguousarray(rng.permuted(copies, axis=1).T)
        gaps.append(_gap(_accuracy(pairs, shuffled, groups).mean(), supported))
    return np.concatenate(gaps)


def _bootstrap_gaps(
    found: _Accuracy, clusters: NDArray[np.int64], supported: list[int], rng: Random
) -> NDArray[np.float64]:
    """Gaps of resampled users, float64 (draws,)."""
    value, counted = found.value[:, :, 0], (found.pairs[:, :, 0] > 0).astype(np.float64)
    totals = resample(cluster_sums(np.hstack([value, counted]), clusters), rng)
    groups = value.shape[1]
    return _gap(_ratio(totals[:, :groups], totals[:, groups:]).T, supported)
