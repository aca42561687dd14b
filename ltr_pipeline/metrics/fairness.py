"""How equally well groups of people are ranked: the pairwise equal-opportunity gap and its noise.

For ranking q and group g, A(q, g) is the share of pairs (i, j) with relevance_i > relevance_j, i in g and j not in g,
that are scored in the right order, ties counting one half; A(g) is its mean over the rankings that have such a pair,
and the gap is max A(g) - min A(g) (Beutel et al. 2019, arXiv 1903.00780). Where the group belongs to the ranking (all
its items share one), all pairs of the rankings of that group count.

The largest minus the smallest of noisy means is above zero even when every group is served alike, so the gap is also
measured under permuted labels, and the mean square of those is taken off: sqrt(max(0, gap² - mean(null gap²))).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.pairs import Accuracy, Pairs, Units, ratio
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.resampling import MIN_CLUSTERS, cluster_sums, interval, resample

__all__ = ["MIN_SUPPORT", "PERMUTATIONS", "Fairness", "GroupAccuracy", "corrected", "measure"]

MIN_SUPPORT: Final = 30
"""Rankings with a pair of a group, below which its accuracy is too noisy to judge."""

PERMUTATIONS: Final = 500
"""Relabellings behind the null: its mean square is then known to about one part in fifteen."""

Random: TypeAlias = np.random.Generator
_CELLS: Final = 2_000_000  # values held at once while relabelling


class GroupAccuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accuracy of one protected group: how often its better items are ranked above worse ones.

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
    rankings: Rankings,
    groups: ProtectedGroups,
    clusters: NDArray[np.int64],
    seed: int,
    *,
    ndcg_at_5: Mapping[str, float | None] | None = None,
) -> Fairness:
    """Measure the fairness gap of one order of the test rankings.

    Labels are permuted where they live: over items where groups meet in one ranking (an item keeps its shuffled label
    in all rankings), else over users where each has one group, else over rankings. In lists longer than 200 each
    relevant item is compared with 200 others, spread evenly over the list.

    Parameters
    ----------
    groups
        Pairs with an item of an unknown group are left out, and the share of such impressions is reported. An expected
        group without an item has no support, which is never a silent pass.
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    seed
        Of the sampled pairs, the permutations and the bootstrap.
    ndcg_at_5
        Per-group nDCG@5 to show beside the accuracies.

    Raises
    ------
    DatasetError
        The shapes do not fit.
    """
    _check(rankings, groups, clusters)
    unknown = groups.of_row.null_count() / max(1, len(rankings.score))
    names = groups.names
    if not names:
        reason = "no impression has a protected group"
        return Fairness(configured=False, evaluable=False, reason=reason, unknown_share=unknown)
    rng = np.random.default_rng(seed)
    units = Units.of(rankings, groups, clusters)
    pairs = Pairs.of(rankings, units, rng)
    found = pairs.accuracy(units.label[:, None], len(names))
    listed = _listed(names, found, _exposure(rankings, units, len(names)), ndcg_at_5 or {})
    exposures = [entry.exposure for entry in listed if entry.exposure is not None] or [0.0]
    unjudged = Fairness(
        configured=True,
        evaluable=False,
        reason="",
        exposure_gap=max(exposures) - min(exposures),
        groups=listed,
        unknown_share=unknown,
    )
    return _judged(unjudged, pairs, units.label, found, clusters[pairs.ranking], rng)


def _check(rankings: Rankings, groups: ProtectedGroups, clusters: NDArray[np.int64]) -> None:
    rows, labels = len(rankings.score), len(groups.of_row)
    if labels != rows or len(clusters) != len(rankings):
        sizes = f"{labels} protected groups and {len(clusters)} clusters"
        raise DatasetError(f"{rows} rows in {len(rankings)} rankings do not fit {sizes}")


def _exposure(rankings: Rankings, units: Units, groups: int) -> NDArray[np.float64]:
    """Return the mean position discount of each group's items, in that of their lists' average item; NaN without."""
    discount = rankings.discount(int(rankings.group.max(initial=0)))
    relative = discount / (rankings.total(discount) / np.maximum(rankings.group, 1))[rankings.ranking]
    known = units.of_row >= 0
    code = units.label[units.of_row[known]]
    shown = np.bincount(code, weights=relative[known], minlength=groups).astype(np.float64)
    return ratio(shown, np.bincount(code, minlength=groups))


def _listed(
    names: list[str], found: Accuracy, exposure: NDArray[np.float64], ndcg_at_5: Mapping[str, float | None]
) -> list[GroupAccuracy]:
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
    unjudged: Fairness, pairs: Pairs, label: NDArray[np.int16], found: Accuracy, users: NDArray[np.int64], rng: Random
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
    """Say why the gap cannot be judged, or nothing."""
    if len(groups) < 2:
        return f"a gap needs two protected groups; all items are of {groups[0].protected_group}"
    if not any(entry.pairs for entry in groups):
        return f"no ranking has two items of {'known' if shared else 'different'} groups of which one is more relevant"
    if users < MIN_CLUSTERS:
        return f"{users} users are too few for an interval; {MIN_CLUSTERS} are needed"
    thin = [f"{entry.protected_group} has {entry.rankings}" for entry in groups if entry.rankings < MIN_SUPPORT]
    return f"a group needs {MIN_SUPPORT} rankings with a pair to compare; {', '.join(thin)}" if thin else ""


def corrected(gap: float, noise: float) -> float:
    """Take off the gap what noise alone would show.

    >>> round(corrected(0.05, 0.03), 3), corrected(0.02, 0.03)
    (0.04, 0.0)
    """
    return math.sqrt(max(0.0, gap**2 - noise**2))


def _gap(accuracy: NDArray[np.float64], supported: list[int]) -> NDArray[np.float64]:
    """Return the largest minus the smallest A(g) of each labelling or draw, from (groups, labellings)."""
    chosen = accuracy[supported]
    spread: NDArray[np.float64] = np.fmax.reduce(chosen, axis=0) - np.fmin.reduce(chosen, axis=0)
    return np.nan_to_num(spread)


def _null_gaps(
    pairs: Pairs, label: NDArray[np.int16], groups: int, supported: list[int], rng: Random
) -> NDArray[np.float64]:
    """Return the gaps under shuffled labels, float64 (PERMUTATIONS,)."""
    step = max(1, _CELLS // max(len(pairs.other), len(label), len(pairs.ranking) * groups))
    gaps = []
    for at in range(0, PERMUTATIONS, step):
        copies = np.tile(label, (min(step, PERMUTATIONS - at), 1))
        shuffled = np.ascontiguousarray(rng.permuted(copies, axis=1).T)
        gaps.append(_gap(pairs.accuracy(shuffled, groups).mean(), supported))
    return np.concatenate(gaps)


def _bootstrap_gaps(
    found: Accuracy, clusters: NDArray[np.int64], supported: list[int], rng: Random
) -> NDArray[np.float64]:
    """Return the gaps of resampled users, float64 (draws,)."""
    value, counted = found.value[:, :, 0], (found.pairs[:, :, 0] > 0).astype(np.float64)
    totals = resample(cluster_sums(np.hstack([value, counted]), clusters), rng)
    groups = value.shape[1]
    return _gap(ratio(totals[:, :groups], totals[:, groups:]).T, supported)
