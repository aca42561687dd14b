"""How equally well groups of people are ranked: the pairwise equal-opportunity gap and its noise.

For ranking q and group g, A(q, g) is the share of pairs (i, j) with relevance_i > relevance_j, i in g and j not in g,
that are scored in the right order, ties counting one half; A(g) is its mean over the rankings that have such a pair,
and the gap is max A(g) - min A(g) (Beutel et al. 2019, arXiv 1903.00780). In a *pure* ranking, whose items are all of
one group, all pairs count for it. Which kind a ranking is, is decided for each by itself; pure and *mixed* rankings are
measured apart, as one kind says nothing of the other.

The largest minus the smallest of noisy means is above zero even when every group is served alike, so the gap is also
measured under permuted labels, and the mean square of those is taken off: sqrt(max(0, gap² - mean(null gap²))).

What the data rule out is said by an upper bound: the largest over any two groups of |A(g) - A(h)| + t · s, t being the
95 % quantile of Student's t. A true gap is above its bound in at most 5 % of draws, whatever the number of groups, as
the bound of the two groups that make it has to be wrong (an intersection-union test: Berger 1982, Technometrics 24).
s is the larger of two standard errors: of resampled users, and of permuted labels, which knows the luck of few items.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy.special import stdtrit

from ltr_pipeline.errors import DatasetError
from ltr_pipeline.metrics.groups import OTHER, ProtectedGroups
from ltr_pipeline.metrics.pairs import Accuracy, Pairs, Units, by_items, pure, ratio
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.metrics.resampling import MIN_CLUSTERS, cluster_sums, interval, resample

__all__ = ["MIN_SUPPORT", "PERMUTATIONS", "Fairness", "Gap", "GroupAccuracy", "Kind", "corrected", "measure"]

MIN_SUPPORT: Final = 30
"""Rankings with a pair of a group, below which its accuracy is too noisy to judge."""

PERMUTATIONS: Final = 500
"""Relabellings behind the null: its mean square is then known to about one part in fifteen."""

LEVEL: Final = 0.95
"""Of the one-sided upper bound."""

Kind = Literal["mixed", "pure"]
"""Of rankings: with items of several groups, or of one."""

Random: TypeAlias = np.random.Generator
_CELLS: Final = 2_000_000  # values held at once while relabelling


class GroupAccuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accuracy of one protected group: how often its better items are ranked above worse ones.

    Attributes
    ----------
    protected_group
        Its name.
    kind
        Of the rankings that this is about.
    accuracy
        A(g), in [0, 1]; None when no ranking has a pair of it.
    pairs, rankings
        Pairs compared, and rankings that have one.
    exposure
        Mean position discount of its items, 1.0 = that of the average item of their lists (advisory); in mixed ones.
    ndcg_at_5
        Of the rankings restricted to its items (advisory).
    """

    protected_group: str
    kind: Kind = "mixed"
    accuracy: float | None
    pairs: int
    rankings: int
    exposure: float | None = None
    ndcg_at_5: float | None = None


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fairness gap of one kind of rankings, and what noise alone would make of it.

    Attributes
    ----------
    kind, rankings
        Of which rankings, and how many of them have a pair.
    gap, low, high
        max A(g) - min A(g), in [0, 1], and its cluster-bootstrap 95 % interval; None where it cannot be judged.
    noise
        Root mean square of the gap under permuted group labels: what a fair model shows by chance.
    corrected_gap
        sqrt(max(0, gap² - noise²)): what the gate judges.
    upper
        Gaps above it are ruled out, at 95 %.
    null_p95
        95th percentile of the gap under permuted group labels.
    corrected_p20
        20th percentile of the bootstrap's corrected gaps: at least 80 % of them are above a limit below it.
    """

    kind: Kind = "mixed"
    rankings: int = 0
    gap: float | None = None
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    corrected_gap: float | None = None
    upper: float | None = None
    null_p95: float | None = None
    corrected_p20: float | None = None


class Fairness(Gap, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The larger fairness gap of the two kinds of rankings, and what stands beside it.

    Attributes
    ----------
    configured
        Whether any impression has a protected group.
    evaluable, reason
        Whether every group can be judged, and if not why; the gap of the groups with support may be there even so.
    other
        The gap of the other kind of rankings, where both are judged.
    exposure_gap
        Largest difference of exposure between groups in mixed rankings (advisory).
    groups
        One entry a group and kind of rankings, by kind and name.
    unknown_share
        Share of impressions without a protected group.
    pooled, pooled_share
        Groups too rare to be judged by themselves, and the share of impressions of them.
    """

    configured: bool
    evaluable: bool
    reason: str
    other: Gap | None = None
    exposure_gap: float | None = None
    groups: list[GroupAccuracy] = []
    unknown_share: float = 0.0
    pooled: list[str] = []
    pooled_share: float = 0.0

    @property
    def judged(self) -> list[Gap]:
        """Gaps of the kinds of rankings that can be judged."""
        return [found for found in (self, self.other) if found is not None and found.gap is not None]


def measure(
    rankings: Rankings,
    groups: ProtectedGroups,
    clusters: NDArray[np.int64],
    seed: int,
    *,
    ndcg_at_5: Mapping[str, float | None] | None = None,
    permutations: int = PERMUTATIONS,
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
    permutations
        Relabellings behind the null, which take most of the time.

    Raises
    ------
    DatasetError
        The shapes do not fit.
    """
    _check(rankings, groups, clusters)
    rows = max(1, len(rankings.score))
    pooled_rows = int((groups.of_row == OTHER).sum()) if groups.pooled else 0
    unjudged = Fairness(
        configured=bool(groups.names),
        evaluable=False,
        reason="no impression has a protected group",
        unknown_share=groups.of_row.null_count() / rows,
        pooled=list(groups.pooled),
        pooled_share=pooled_rows / rows,
    )
    if not groups.names:
        return unjudged
    rng = np.random.default_rng(seed)
    parts = [*_parts(rankings, groups, clusters, rng)]
    listed = [entry for part in parts for entry in part.listed(ndcg_at_5 or {})]
    gone = set(groups.names) - {entry.protected_group for entry in listed}
    listed += [GroupAccuracy(protected_group=name, accuracy=None, pairs=0, rankings=0) for name in sorted(gone)]
    gaps = sorted((gap for part in parts if (gap := part.judged(rng, permutations))), key=_size)
    exposures = [entry.exposure for entry in listed if entry.exposure is not None] or [0.0]
    reason = _doubt(groups, parts)
    return replace(
        unjudged,
        evaluable=not reason,
        reason=reason,
        exposure_gap=max(exposures) - min(exposures),
        groups=listed,
        other=gaps[0] if len(gaps) > 1 else None,
        **(msgspec.structs.asdict(gaps[-1]) if gaps else {}),
    )


def _size(gap: Gap) -> tuple[float, float]:
    return gap.corrected_gap or 0.0, gap.upper or 0.0


def _check(rankings: Rankings, groups: ProtectedGroups, clusters: NDArray[np.int64]) -> None:
    rows, labels = len(rankings.score), len(groups.of_row)
    if labels != rows or len(clusters) != len(rankings):
        sizes = f"{labels} protected groups and {len(clusters)} clusters"
        raise DatasetError(f"{rows} rows in {len(rankings)} rankings do not fit {sizes}")


@dataclass(frozen=True)
class _Part:
    """The rankings of one kind.

    Attributes
    ----------
    shown
        Groups that have an item here.
    users
        Of each ranking that has a pair, or might under other labels.
    """

    kind: Kind
    names: list[str]
    shown: set[str]
    units: Units
    pairs: Pairs
    found: Accuracy
    exposure: NDArray[np.float64] | None
    users: NDArray[np.int64]

    @property
    def rankings(self) -> NDArray[np.int64]:
        """Rankings with a pair of each group, int64 (groups,)."""
        counted: NDArray[np.int64] = (self.found.pairs[:, :, 0] > 0).sum(axis=0)
        return counted

    @property
    def supported(self) -> list[int]:
        """Groups that can be compared; none where there are too few users or groups."""
        enough = [int(index) for index in np.flatnonzero(self.rankings >= MIN_SUPPORT)]
        return enough if len(enough) > 1 and len(self.judges) >= MIN_CLUSTERS else []

    @property
    def has_pair(self) -> NDArray[np.bool_]:
        """Whether a ranking has a pair, bool (rankings,)."""
        return np.asarray(self.found.pairs[:, :, 0].any(axis=1))

    @property
    def judges(self) -> NDArray[np.int64]:
        """Users who have a ranking with a pair."""
        return np.unique(self.users[self.has_pair])

    def listed(self, ndcg_at_5: Mapping[str, float | None]) -> list[GroupAccuracy]:
        """Return an entry of each group that has an item here."""
        accuracy, rankings = self.found.mean()[:, 0], self.rankings
        return [
            GroupAccuracy(
                protected_group=name,
                kind=self.kind,
                accuracy=_or_none(accuracy[index]),
                pairs=int(self.found.pairs[:, index].sum()),
                rankings=int(rankings[index]),
                exposure=None if self.exposure is None else _or_none(self.exposure[index]),
                ndcg_at_5=ndcg_at_5.get(name),
            )
            for index, name in enumerate(self.names)
            if name in self.shown
        ]

    def judged(self, rng: Random, permutations: int) -> Gap | None:
        """Measure the gap, its interval, null and upper bound; None where fewer than two groups have support."""
        supported = self.supported
        if not supported:
            return None
        mean = self.found.mean()[supported]
        null = self._null(rng, permutations)[supported]
        draws = self._bootstrap(rng)[supported]
        gap, null_gaps, gaps = float(_gap(mean)[0]), _gap(null), _gap(draws)
        noise, bounds = float(np.sqrt(np.mean(null_gaps**2))), interval(gaps)
        freedom = min(len(self.judges), len(self.units.label)) - 1  # of the fewer: users, or what is labelled
        return Gap(
            kind=self.kind,
            rankings=int(self.has_pair.sum()),
            gap=gap,
            low=bounds.low,
            high=bounds.high,
            noise=noise,
            corrected_gap=corrected(gap, noise),
            upper=_upper(mean[:, 0], [draws, null], float(stdtrit(freedom, LEVEL))),
            null_p95=float(np.quantile(null_gaps, 0.95)),
            corrected_p20=corrected(float(np.quantile(gaps, 0.2)), noise),
        )

    def _null(self, rng: Random, permutations: int) -> NDArray[np.float64]:
        """Return A(g) under shuffled labels, float64 (groups, permutations)."""
        pairs, label, groups = self.pairs, self.units.label, len(self.names)
        widest = max(len(pairs.other), len(pairs.members), len(label), len(pairs.ranking) * groups)
        step, found = max(1, _CELLS // widest), []
        for at in range(0, permutations, step):
            copies = np.tile(label, (min(step, permutations - at), 1))
            shuffled = np.ascontiguousarray(rng.permuted(copies, axis=1).T)
            found.append(pairs.accuracy(shuffled, groups, pure=self.kind == "pure").mean())
        return np.concatenate(found, axis=1)

    def _bootstrap(self, rng: Random) -> NDArray[np.float64]:
        """Return A(g) of resampled users, float64 (groups, draws)."""
        has, found = self.has_pair, self.found
        value, counted = found.value[has, :, 0], (found.pairs[has, :, 0] > 0).astype(np.float64)
        totals = resample(cluster_sums(np.hstack([value, counted]), self.users[has]), rng)
        groups = value.shape[1]
        return ratio(totals[:, :groups], totals[:, groups:]).T


def _parts(rankings: Rankings, groups: ProtectedGroups, clusters: NDArray[np.int64], rng: Random) -> Iterator[_Part]:
    """Part the rankings by kind; a kind that no ranking with a known group is of is left out."""
    alone = pure(rankings, groups)
    known = rankings.count(groups.of_row.is_not_null().to_numpy()) > 0
    mixed, whole = (_only(rankings, groups, chosen) for chosen in (~alone, alone))
    if (~alone).any():
        yield _part("mixed", rankings, mixed, Units.of_items(mixed), clusters, rng)
    if (alone & known).any():
        # Where labels are of items, other labels make other rankings pure, so the null needs all rankings.
        by_item = by_items(rankings, groups)
        units = Units.of_items(groups) if by_item else Units.of_rankings(rankings, whole, clusters)
        yield _part("pure", rankings, whole, units, clusters, rng)


def _only(rankings: Rankings, groups: ProtectedGroups, chosen: NDArray[np.bool_]) -> ProtectedGroups:
    """Return the groups of the chosen rankings; all others are unknown."""
    labels = groups.of_row.set(pl.Series(~chosen[rankings.ranking]), None)
    return dataclasses.replace(groups, of_row=labels, expected=groups.names)


def _part(
    kind: Kind,
    rankings: Rankings,
    groups: ProtectedGroups,
    units: Units,
    clusters: NDArray[np.int64],
    rng: Random,
) -> _Part:
    pairs = Pairs.of(rankings, units, rng)
    found = pairs.accuracy(units.label[:, None], len(groups.names), pure=kind == "pure")
    return _Part(
        kind=kind,
        names=groups.names,
        shown=set(groups.of_row.drop_nulls().unique()),
        units=units,
        pairs=pairs,
        found=found,
        exposure=_exposure(rankings, units, len(groups.names)) if kind == "mixed" else None,
        users=clusters[pairs.ranking],
    )


def _exposure(rankings: Rankings, units: Units, groups: int) -> NDArray[np.float64]:
    """Return the mean position discount of each group's items, in that of their lists' average item; NaN without."""
    discount = rankings.discount(int(rankings.group.max(initial=0)))
    relative = discount / (rankings.total(discount) / np.maximum(rankings.group, 1))[rankings.ranking]
    known = units.of_row >= 0
    code = units.label[units.of_row[known]]
    shown = np.bincount(code, weights=relative[known], minlength=groups).astype(np.float64)
    return ratio(shown, np.bincount(code, minlength=groups))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _doubt(groups: ProtectedGroups, parts: list[_Part]) -> str:
    """Say why not every group can be judged, or nothing."""
    names = groups.names
    if len(names) < 2:
        return f"a gap needs two protected groups; all items are of {names[0]}"
    if not any(part.has_pair.any() for part in parts):
        mixed = any(part.kind == "mixed" for part in parts)
        return f"no ranking has two items of {'different' if mixed else 'known'} groups of which one is more relevant"
    users = len(np.unique(np.concatenate([part.judges for part in parts])))
    if users < MIN_CLUSTERS:
        return f"{users} users are too few for an interval; {MIN_CLUSTERS} are needed"
    judged = {index for part in parts for index in part.supported}
    most = np.max([part.rankings for part in parts], axis=0)
    thin = [
        f"{name} has {most[index]}"
        for index, name in enumerate(names)
        if index not in judged and not (groups.pooled and name == OTHER)
    ]
    needed = f"a group needs {MIN_SUPPORT} rankings with a pair to compare, of a kind that another group has, too"
    return f"{needed}; {', '.join(thin)}" if thin else ""


def corrected(gap: float, noise: float) -> float:
    """Take off the gap what noise alone would show.

    >>> round(corrected(0.05, 0.03), 3), corrected(0.02, 0.03)
    (0.04, 0.0)
    """
    return math.sqrt(max(0.0, gap**2 - noise**2))


def _gap(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest minus the smallest A(g) of each labelling or draw, from (groups, labellings)."""
    spread: NDArray[np.float64] = np.fmax.reduce(accuracy, axis=0) - np.fmin.reduce(accuracy, axis=0)
    return np.nan_to_num(spread)


def _upper(mean: NDArray[np.float64], samples: list[NDArray[np.float64]], quantile: float) -> float:
    """Return the bound of the largest difference of two means (groups,), whose errors the samples (groups, n) show."""
    bounds = [
        abs(mean[one] - mean[two]) + quantile * max(float(np.nanstd(each[one] - each[two])) for each in samples)
        for one, two in combinations(range(len(mean)), 2)
    ]
    return float(max(bounds))
