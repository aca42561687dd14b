"""A new segmentation against the former one, both applied to the same rows."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ltr_pipeline.segments.model import SegmentModel

__all__ = ["ARI_MIN", "Comparison", "adjusted_rand", "compare", "old_to_new"]

ARI_MIN: Final = 0.8
"""Agreement with the former model below which that one stays in use."""

Ints = NDArray[np.int64]


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a new model puts the same rows together as the former one.

    Attributes
    ----------
    former
        Version of the former model.
    ari
        Adjusted Rand index, 1 for the same segments and about 0 for unrelated ones; None where they cannot be
        compared.
    kept_label
        Share of the rows whose label stays; None likewise.
    old_to_new
        Centroid of the new model that takes the place of each of the former one; none where it has fewer.
    reason
        Why the new model is not taken; empty where it is.
    """

    former: int
    ari: float | None = None
    kept_label: float | None = None
    old_to_new: dict[int, int] = {}
    reason: str = ""


def compare(engagement: pl.DataFrame, new: SegmentModel, former: SegmentModel, version: int) -> Comparison:
    """Compare a new model with the former one, of that version, on the rows the new one was trained on."""
    if new.granularity != former.granularity:
        why = f"it counts by {new.granularity} and the former one by {former.granularity}, which cannot be compared"
        return Comparison(former=version, reason=why)
    now, before = new.assign(engagement), former.assign(engagement)
    counts = contingency(before, now, former.k, new.k)
    ari = adjusted_rand(counts)
    reason = f"its agreement with the former one (ARI) is {ari:.3f}, below {ARI_MIN}" if ari < ARI_MIN else ""
    return Comparison(
        former=version,
        ari=ari,
        kept_label=_kept_label(counts, former, new),
        old_to_new=old_to_new(counts),
        reason=reason,
    )


def contingency(before: Ints, now: Ints, old: int, new: int) -> Ints:
    """Count the rows in each pair of segments: int64 (old, new)."""
    return np.bincount(before * new + now, minlength=old * new).reshape(old, new)


def adjusted_rand(counts: Ints) -> float:
    """Return the adjusted Rand index of two partitions (Hubert and Arabie 1985).

    The share of pairs of rows that both put together, beyond what chance would, over the most there could be. Two
    partitions that leave nothing to agree on, such as all in one, count as the same.

    Parameters
    ----------
    counts
        Rows in each pair of segments, int64 (old, new).

    Examples
    --------
    >>> adjusted_rand(np.array([[3, 0], [0, 2]]))
    1.0
    >>> round(adjusted_rand(np.array([[2, 1], [1, 2]])), 4)
    -0.1111
    """
    together = _pairs(counts).sum()
    old, new = _pairs(counts.sum(axis=1)).sum(), _pairs(counts.sum(axis=0)).sum()
    total = _pairs(counts.sum())
    by_chance = old * new / total if total else 0.0
    most = (old + new) / 2
    return 1.0 if most == by_chance else float((together - by_chance) / (most - by_chance))


def old_to_new(counts: Ints) -> dict[int, int]:
    """Match old and new segments one to one so that most rows stay (the Hungarian method, Kuhn 1955).

    >>> old_to_new(np.array([[0, 9], [8, 1], [2, 0]]))
    {0: 1, 1: 0}
    """
    old, new = linear_sum_assignment(counts, maximize=True)
    return dict(zip(old.tolist(), new.tolist(), strict=True))


def _kept_label(counts: Ints, former: SegmentModel, new: SegmentModel) -> float | None:
    """Return the share of the rows whose label is the same word, in a language that both have."""
    both = next((language for language in new.labels if language in former.labels), None)
    if both is None:
        return None
    same = np.array(former.labels[both])[:, None] == np.array(new.labels[both])[None, :]
    return float(counts[same].sum() / counts.sum())


def _pairs(counts: NDArray[np.int64] | np.int64) -> NDArray[np.float64]:
    exact = np.asarray(counts, dtype=np.float64)
    return exact * (exact - 1) / 2
