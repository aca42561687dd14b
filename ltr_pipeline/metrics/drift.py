"""How the values of a day differ from those of its reference days, by how much, and whether chance explains it.

*By how much* is the population stability index (PSI) over bins that are the reference's tenths, with missing values in
a bin of their own, and Kolmogorov and Smirnov's distance of the values that are there. Neither grows with the number of
rows.

*Whether chance explains it* is asked of three differences between the day and a reference: of the share that is
missing, of how high the values lie (the mean ridit: Bross 1958, Biometrics 14; on ten bins nearly Wilcoxon's test), and
of how widely they spread (the mean square of the centred ridit, as in Mood's test). Rows are not independent: what
belongs to the user or the query is the same in all rows of a list. So every standard error is that of sums over
*clusters*, whole lists or all that one user was shown on a day. And days differ by more than the chance of lists: there
is weather. How much they do is learnt from the reference days, each held against those of its own weekday
(*overdispersion*, as in quasi-likelihood: McCullagh and Nelder 1989, chapter 4). With the same matrix the mean that
clusters give PSI where nothing has changed is known, and it is subtracted: the trace of Rao and Scott (1981, Journal
of the American Statistical Association 76), which is (B - 1)(1/n + 1/m) where rows are independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtr, chdtri, stdtr

__all__ = [
    "BINS",
    "Comparison",
    "Difference",
    "Kind",
    "Rows",
    "binned",
    "compare",
    "ks_distance",
    "psi",
    "quantile_edges",
]

BINS: Final = 10

Kind = Literal["missing", "location", "spread"]
KINDS: Final[tuple[Kind, ...]] = ("missing", "location", "spread")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_USUAL: Final = 0.75
"""Share of the reference days that tell how much days differ: the others may be events, outages, or a change."""

_FEWEST_FREEDOM: Final = 7.0
"""Degrees of freedom where fewer days than two weeks tell it: only what is far from usual is told then."""

_LEANING: Final = 1.0
"""Standard errors by which the day itself has to differ for two days in a row to count together."""

_WEEK: Final = 7
_NO_ERROR: Final = 1e-12  # of a share: nothing differs, but for rounding


def quantile_edges(values: NDArray[np.float32], bins: int = BINS) -> NDArray[np.float32]:
    """Return the edges that part values into bins of about equal share, ascending, at most `bins` + 1 of them.

    A bin reaches up to its edge, inclusive; the last is open (`binned`). Each edge is a value, that whose share below
    or equal is nearest to the quantile, so that a value which many rows share ends a bin. Where there are few distinct
    values, each has a bin of its own, and so has what lies below and above all of them.

    Parameters
    ----------
    values
        float32 (n,), NaN = missing.

    Examples
    --------
    >>> quantile_edges(np.arange(1, 101, dtype=np.float32)).tolist()
    [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]
    >>> quantile_edges(np.float32([5, 5, 7, 7, 7])).tolist()
    [4.999999523162842, 5.0, 7.0]
    """
    known = np.sort(values[~np.isnan(values)])
    size = len(known)
    if size == 0:
        return known
    distinct = known[np.concatenate([[True], known[1:] != known[:-1]])]
    if len(distinct) <= bins:
        return np.concatenate([np.nextafter(distinct[:1], np.float32(-np.inf)), distinct])
    levels = np.arange(1, bins) / bins
    at = known[np.ceil(levels * size).astype(np.int64) - 1]
    below, up_to = (np.searchsorted(known, at, side) for side in ("left", "right"))
    lower = levels - below / size < up_to / size - levels  # the value before is nearer
    edges = np.where(lower, known[below - 1], at)[~lower | (below > 0)]
    return np.unique(edges)


def binned(values: NDArray[np.float32], edges: NDArray[np.float32]) -> Ints:
    """Return the bin of each value, 0 to ``len(edges)``, and ``len(edges) + 1`` where it is missing, (n,).

    >>> binned(np.float32([np.nan, 1, 2, 3]), np.float32([1, 2])).tolist()
    [3, 0, 1, 2]
    """
    bins = np.searchsorted(edges, values, side="left")
    return np.where(np.isnan(values), len(edges) + 1, bins)


def psi(reference: Floats | Ints, current: Floats | Ints, null_mean: float | None = None) -> float:
    """Return the population stability index of two histograms, minus the mean that it has where nothing has changed.

    The index is the sum of ``(c - r) * log(c / r)`` over the shares of the bins (Jeffreys' divergence); half a row
    more in each bin keeps it finite.

    Parameters
    ----------
    reference, current
        Rows of each bin, (bins,).
    null_mean
        None: ``(B - 1)(1/n + 1/m)`` for B bins that any row is in, which is right for independent rows.

    Returns
    -------
    About 0 where nothing has changed, or a little below; NaN where either histogram is empty.

    Examples
    --------
    >>> round(psi(np.array([5000, 5000]), np.array([1000, 3000])), 3)
    0.274
    >>> float(round((0.75 - 0.5) * np.log(0.75 / 0.5) + (0.25 - 0.5) * np.log(0.25 / 0.5), 3))
    0.275
    """
    n, m = reference.sum(), current.sum()
    if not n or not m:
        return float("nan")
    some = (reference + current) > 0
    bins = int(some.sum())
    if null_mean is None:
        null_mean = (bins - 1) * (1 / n + 1 / m)
    r, c = (reference[some] + 0.5) / (n + bins / 2), (current[some] + 0.5) / (m + bins / 2)
    return float(((c - r) * np.log(c / r)).sum() - null_mean)


def ks_distance(reference: NDArray[np.floating], current: NDArray[np.floating]) -> float:
    """Return the largest difference of two distributions' shares below or equal a value, in [0, 1].

    Parameters
    ----------
    reference, current
        Values in ascending order without NaN, (n,) and (m,).

    Returns
    -------
    NaN where either is empty.

    Examples
    --------
    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    few, many = (reference, current) if len(reference) < len(current) else (current, reference)
    if not len(few):
        return float("nan")
    steps = np.arange(len(few) + 1) / len(few)
    last = np.concatenate([few[1:] != few[:-1], [True]])  # of those that are equal
    first = np.concatenate([[True], last[:-1]])
    here, before = (np.searchsorted(many, few, side) / len(many) for side in ("right", "left"))
    return float(max(np.abs(here - steps[1:])[last].max(), np.abs(before - steps[:-1])[first].max()))


@dataclass(frozen=True)
class Rows:
    """The days and clusters of n rows.

    Attributes
    ----------
    day
        `date.toordinal` of each row, int64 (n,).
    cluster
        What the row was shown with: the same number for rows of one user, or of one list where the user is unknown,
        int64 (n,). Rows of two days are never of one cluster, whatever their numbers.
    """

    day: Ints
    cluster: Ints

    @cached_property
    def days(self) -> Ints:
        """The days that have rows, ascending."""
        return np.unique(self.day)

    @cached_property
    def code(self) -> Ints:
        """Number of each row's cluster in order of day, (n,)."""
        return self._numbered[0]

    @cached_property
    def clusters(self) -> Ints:
        """Clusters of each of `days`."""
        return self._numbered[1]

    @cached_property
    def _numbered(self) -> tuple[Ints, Ints]:
        low = int(self.cluster.min(initial=0))
        width = int(self.cluster.max(initial=0)) - low + 1
        keys, code = np.unique(self.day * width + (self.cluster - low), return_inverse=True)
        return code, np.bincount(np.searchsorted(self.days, keys // width), minlength=len(self.days))

    def on(self, days: Ints) -> NDArray[np.bool_]:
        """Tell which rows are of some days, bool (n,)."""
        return np.asarray(np.isin(self.day, days))


class Difference(NamedTuple):
    """One of the three differences between a day and its references.

    Attributes
    ----------
    kind
        ``missing``, ``location`` or ``spread``.
    rises
        Whether there is more of it than before.
    p
        Probability that chance, and the ways days differ, make one as large in the same direction in every reference;
        of the day alone or, where that is less, of the day and the one before together. 1 where references disagree.
    """

    kind: Kind
    rises: bool
    p: float


@dataclass(frozen=True)
class Comparison:
    """A column on a day beside its references.

    Attributes
    ----------
    psi, ks
        By the reference's name.
    missing, reference_missing
        Share of the rows without a value; the latter by name.
    differences
        Each `Difference`, the least probable first.
    edges
        Of the bins, float32 (bins - 2,).
    counts, reference_counts
        Rows of each bin, the last of which are missing, float64 (bins,); the latter of the first reference.
    design
        By how much the variance of shares is larger than that of independent rows (Kish's design effect), at least 1.
    """

    psi: dict[str, float]
    ks: dict[str, float]
    missing: float
    reference_missing: dict[str, float]
    differences: list[Difference]
    edges: NDArray[np.float32]
    counts: Floats
    reference_counts: Floats
    design: float

    @property
    def tests(self) -> int:
        """Return how many tests the differences were the least probable of, for a correction."""
        return 2 * len(self.differences)


def compare(values: NDArray[np.float32], rows: Rows, today: int, references: Mapping[str, Sequence[int]]) -> Comparison:
    """Compare a column's values on a day with those of its references.

    Parameters
    ----------
    values
        float32 (n,), NaN = missing.
    rows
        Days and clusters of the values.
    today
        The day, as an ordinal; it has rows.
    references
        Ordinals of each reference's days, which do not include `today`; each has rows. The first one has the days that
        tell how much days differ, and its values make the bins. References whose name is ``weekday`` have days that
        are whole weeks before `today`, and with them two days in a row are looked at together.
    """
    used = {name: np.intersect1d(rows.days, list(days)) for name, days in references.items()}
    main = next(iter(used))
    now = np.sort(_known(values[rows.day == today]))
    of_reference = {name: np.sort(_known(values[rows.on(days)])) for name, days in used.items()}
    edges = quantile_edges(of_reference[main])
    tally = _Tally.of(binned(values, edges), len(edges) + 2, rows)
    places = {name: np.searchsorted(rows.days, days) for name, days in used.items()}
    place = int(np.searchsorted(rows.days, today))
    model = _Model.of(tally, np.union1d(np.concatenate([*places.values()]), [place]))
    counts = {name: tally.counts[days].sum(axis=0) for name, days in places.items()}
    current = tally.counts[place]
    return Comparison(
        psi={
            name: psi(found, current, model.trace * (1 / found.sum() + 1 / current.sum()))
            for name, found in counts.items()
        },
        ks={name: ks_distance(found, now) for name, found in of_reference.items()},
        missing=float(current[-1] / current.sum()),
        reference_missing={name: float(found[-1] / found.sum()) for name, found in counts.items()},
        differences=sorted(_differences(model, rows.days, place, places, places[main]), key=lambda one: one.p),
        edges=edges,
        counts=current,
        reference_counts=counts[main],
        design=model.design,
    )


def _known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[~np.isnan(values)]


class _Tally(NamedTuple):
    """Rows in each bin, float64 (days, bins), and sums over clusters of products of two bins, (days, bins, bins)."""

    counts: Floats
    products: Floats

    @classmethod
    def of(cls, bins: Ints, size: int, rows: Rows) -> _Tally:
        clusters = int(rows.clusters.sum())
        table = np.bincount(rows.code * size + bins, minlength=clusters * size).reshape(clusters, size)
        by_day = np.split(table.astype(np.float64), np.cumsum(rows.clusters)[:-1])
        return cls(np.array([one.sum(axis=0) for one in by_day]), np.array([one.T @ one for one in by_day]))


class _Model(NamedTuple):
    """The variance of shares, all days taken together as if nothing had changed.

    Attributes
    ----------
    counts
        Rows in each bin, float64 (days, bins).
    weights
        What a share of each bin adds to each difference of `KINDS`, float64 (3, bins).
    variances
        Of each difference, per row, float64 (3,): over n rows it is that by n.
    trace
        Null mean of PSI, per row.
    design
        Kish's design effect, at least 1.
    """

    counts: Floats
    weights: Floats
    variances: Floats
    trace: float
    design: float

    @classmethod
    def of(cls, tally: _Tally, days: Ints) -> _Model:
        total, products = tally.counts[days].sum(axis=0), tally.products[days].sum(axis=0)
        share = total / total.sum()
        # The sum over clusters of r r', where r = rows in each bin - rows * share.
        lengths = products.sum(axis=1)
        residuals = (
            products - np.outer(share, lengths) - np.outer(lengths, share) + products.sum() * np.outer(share, share)
        )
        covariance = residuals / total.sum()
        weights = _weights(share)
        some = share > 0
        trace = float((np.diag(covariance)[some] / share[some]).sum())
        return cls(
            counts=tally.counts,
            weights=weights,
            variances=np.einsum("kb,bc,kc->k", weights, covariance, weights),
            trace=trace,
            design=max(1.0, trace / max(int(some.sum()) - 1, 1)),
        )

    def scores(self, days: Sequence[int] | Ints, reference: Sequence[int] | Ints) -> Floats:
        """Return the differences between days and others in standard errors by the chance of clusters, (3,)."""
        now, before = self.counts[days].sum(axis=0), self.counts[reference].sum(axis=0)
        found = self.weights @ (now / now.sum() - before / before.sum())
        error = np.sqrt(np.maximum(self.variances, 0) * (1 / now.sum() + 1 / before.sum()))
        return np.asarray(np.divide(found, error, out=np.zeros_like(found), where=error > _NO_ERROR))


def _weights(share: Floats) -> Floats:
    """Return what bins add to the differences `KINDS`; ridits are of the values that are there."""
    there = share.copy()
    there[-1] = 0.0
    present = max(there.sum(), 1e-300)
    ridit = (np.cumsum(there) - there / 2) / present - 0.5
    square = ridit**2 - (there @ ridit**2) / present
    missing = np.zeros_like(share)
    missing[-1] = 1.0
    found = np.stack([missing, ridit / present, square / present])
    found[1:, -1] = 0.0
    return found


def _differences(
    model: _Model, days: Ints, today: int, references: Mapping[str, Ints], usual: Ints
) -> Iterator[Difference]:
    """Yield each difference; `today`, `references` and `usual` are places in `days`."""
    unlike, freedom = _overdispersion(model, days, usual)
    error = np.sqrt(unlike)
    alone = np.array([model.scores([today], reference) for reference in references.values()]) / error
    together = _together(model, days, today, references, usual)
    p_alone = _in_all(alone, freedom)
    p = p_alone
    if together is not None:
        leaning = np.abs(alone).min(axis=0) >= _LEANING
        p = np.where(leaning, np.minimum(p_alone, _in_all(together / error, freedom)), p_alone)
    for place, kind in enumerate(KINDS):
        yield Difference(kind, bool(alone[0, place] > 0), float(p[place]))


def _in_all(scores: Floats, freedom: float) -> Floats:
    """Return the two-sided p of each difference in the reference where it is largest; 1 where directions differ."""
    p = 2 * stdtr(freedom, -np.abs(scores)).max(axis=0)
    return np.asarray(np.where(np.abs(np.sign(scores).sum(axis=0)) == len(scores), p, 1.0))


def _together(model: _Model, days: Ints, today: int, references: Mapping[str, Ints], usual: Ints) -> Floats | None:
    """Return the scores of the day and the one before, taken together; None where that one is of no use."""
    if "weekday" not in references or today - 1 not in usual or days[today - 1] != days[today] - 1:
        return None
    pair, found = [today - 1, today], []
    for name, reference in references.items():
        if name == "weekday":
            eves = usual[np.isin(days[usual], days[reference] - 1)]
            others = np.concatenate([reference, eves])
        else:
            others = reference[reference != today - 1]
        if not len(others):
            return None
        found.append(model.scores(pair, others))
    return np.array(found)


def _overdispersion(model: _Model, days: Ints, usual: Ints) -> tuple[Floats, float]:
    """Return how many times the variance by chance days of one weekday have, at least 1, (3,); and its freedom.

    The mean of the lower three quarters of squared scores, over what it is where chance is all there is, is as good as
    that of all, and an odd day does not move it.
    """
    found, weekdays = [], set[int]()
    for day in usual:
        mates = usual[(days[usual] - days[day]) % _WEEK == 0]
        if len(mates) > 1:
            found.append(model.scores([day], mates[mates != day]) ** 2)
            weekdays.add(int(days[day]) % _WEEK)
    if not found:
        return np.ones(len(KINDS)), _FEWEST_FREEDOM
    kept = np.sort(np.array(found), axis=0)[: max(int(_USUAL * len(found)), 1)]
    unlike = np.maximum(kept.mean(axis=0) / _MEAN_OF_USUAL, 1.0)
    return unlike, max(len(found) - len(weekdays), _FEWEST_FREEDOM)


_MEAN_OF_USUAL: Final = float(chdtr(3, chdtri(1, 1 - _USUAL)) / _USUAL)
"""Mean of the lower three quarters of chi-squared with one degree of freedom."""
