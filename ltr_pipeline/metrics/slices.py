"""How good an order is for parts of the test rankings: protected groups, days, parts of the day, new items, segments.

`by_group`, `by_day`, `by_day_part`, `by_novelty` and `by_user_segment` say which rows are in which part, and `measure`
gives the nDCG@5 of each.
"""

from __future__ import annotations

import datetime as dt
from typing import Final, TypeAlias

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Estimate, estimate, ndcg
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.schema import PROTECTED_GROUP

__all__ = [
    "DAY_PARTS",
    "RowSets",
    "SegmentsBefore",
    "Slice",
    "UserSegments",
    "by_day",
    "by_day_part",
    "by_group",
    "by_novelty",
    "by_user_segment",
    "measure",
]

DAY_PARTS: Final = ("00-06", "06-12", "12-18", "18-24")
"""Parts of the day, by the hour (UTC) at which a ranking was shown."""

RowSets: TypeAlias = dict[tuple[str, str], NDArray[np.bool_]]
"""Rows of each part, bool (n,), by dimension and value, such as ``day_part`` and ``06-12``."""


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


class UserSegments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How engaged users were in a period before the test days.

    They say for whom an order is good. They are no protected groups, which the gate judges, and no features.

    Attributes
    ----------
    period
        Its first day.
    labels
        The segments, the most engaged first.
    of_user
        Segment of each user that was classified.
    """

    period: dt.date
    labels: list[str]
    of_user: dict[str, str]


class SegmentsBefore(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The segments of its users that a night knew when it was evaluated first.

    Attributes
    ----------
    segments
        None where nothing was classified before the test days, or the database was away.
    """

    segments: UserSegments | None


def by_group(groups: ProtectedGroups) -> RowSets:
    """Part the rows by protected group, and those of an unknown one.

    Rankings are thereby *restricted to the items of a group*: how well they are ordered among themselves (for a group
    of queries that is the whole ranking).
    """
    label = groups.of_row
    parts = {(PROTECTED_GROUP, name): (label == name).fill_null(value=False).to_numpy() for name in groups.names}
    if label.null_count():
        parts[PROTECTED_GROUP, "unknown"] = label.is_null().to_numpy()
    return parts


def by_day(rankings: Rankings, time: pl.Series) -> RowSets:
    """Part the rankings by day, from the UTC datetime of each, (rankings,)."""
    day = time.dt.date()
    of_row = day.to_numpy()[rankings.ranking]
    return {("day", str(one)): of_row == np.datetime64(one) for one in sorted(day.unique())}


def by_day_part(rankings: Rankings, time: pl.Series) -> RowSets:
    """Part the rankings by `DAY_PARTS`, from the UTC datetime of each, (rankings,)."""
    part = time.dt.hour().to_numpy()[rankings.ranking] // 6
    return {("day_part", name): part == index for index, name in enumerate(DAY_PARTS)}


def by_novelty(rankings: Rankings, new_item: NDArray[np.bool_]) -> RowSets:
    """Part the rankings into ``new``, those with an item unseen in training, bool (n,), and ``known``, all others."""
    new = (rankings.count(new_item) > 0)[rankings.ranking]
    return {("items", "known"): ~new, ("items", "new"): new}


def by_user_segment(rankings: Rankings, users: pl.Series, segments: UserSegments) -> RowSets:
    """Part the rankings by the segment of who asked, and those of users without one, from each user, (rankings,)."""
    segment = users.replace_strict(segments.of_user, default=None, return_dtype=pl.String)
    of_row = segment.fill_null("unknown").to_numpy()[rankings.ranking]
    known = [*segments.labels, *(["unknown"] if segment.null_count() else [])]
    return {("user_segment", label): of_row == label for label in known}


def measure(rankings: Rankings, parts: RowSets, clusters: NDArray[np.int64]) -> list[Slice]:
    """Measure the nDCG@5 of each part; one that is empty is listed and says so.

    Parameters
    ----------
    clusters
        User of each ranking as numbered by `resampling.cluster_codes`, int (rankings,).
    """
    return [_slice(dimension, value, rankings.restricted(rows), clusters) for (dimension, value), rows in parts.items()]


def _slice(dimension: str, value: str, part: Rankings, clusters: NDArray[np.int64]) -> Slice:
    found = estimate(ndcg(part), clusters)
    found = msgspec.structs.replace(found, excluded=int((part.group > 0).sum()) - found.n)
    impressions = len(part.score)
    missing = "none of its rankings is eligible" if impressions else "no test ranking is in this slice"
    note = missing if found.value is None else ""
    return Slice(dimension=dimension, value=value, ndcg_at_5=found, impressions=impressions, note=note)
