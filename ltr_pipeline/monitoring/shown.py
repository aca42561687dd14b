"""The lists that each version showed on a day, and what people made of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.interleaving import PAIR
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.schema import POLICY, POSITION, QUERY_ID, RANKING_ID, RATING, RELEVANCE, USER_ID

__all__ = ["INTERLEAVED", "OTHER", "UNKNOWN", "Shown", "shown"]

UNKNOWN: Final = "unknown"  # nothing was logged
INTERLEAVED: Final = "interleaved"  # two versions picked its items
OTHER: Final = "other"  # the rest of many policies

MOST_VERSIONS: Final = 20
"""More policies than this on one day are no versions, but something that differs from list to list."""

_LIST: Final = [QUERY_ID, RANKING_ID]
_OF_VERSION: Final = r"^(.+)\+(?:explore|linear|request)$"
_FALLBACK: Final = r"\+(?:linear|request)$"


@dataclass(frozen=True)
class Shown:
    """The lists that one version showed, n of them, and m ratings of their items.

    Attributes
    ----------
    version
        As `records.Outcomes` has it.
    asker
        Who asked for a list: a number for each user, or query where the user is unknown, int64 (n,).
    fallback
        Whether a version's fallback had to rank it, bool (n,).
    placed
        Whether all its positions are known, bool (n,).
    ndcg_at_5, hit_at_3
        Of the shown order, float64 (n,); NaN where the list has not two different grades, or no positions.
    converted
        Whether something had the highest relevance, bool (n,).
    rating, rater
        Ratings, float64 (m,), and of whom, int64 (m,), as `asker`.
    """

    version: str
    asker: NDArray[np.int64]
    fallback: NDArray[np.bool_]
    placed: NDArray[np.bool_]
    ndcg_at_5: NDArray[np.float64]
    hit_at_3: NDArray[np.float64]
    converted: NDArray[np.bool_]
    rating: NDArray[np.float64]
    rater: NDArray[np.int64]


def shown(lists: pl.DataFrame, ratings: pl.DataFrame, highest: int) -> list[Shown]:
    """Measure every list, by the version that ranked it, most lists first.

    Parameters
    ----------
    lists, ratings
        As `dataset.labels.Answered` has them, of all buckets.
    highest
        The highest relevance that an answer can have.
    """
    if lists.is_empty():
        return []
    rows = lists.sort(_LIST, maintain_order=True)
    per_list = _measured(rows, highest).with_columns(_asker(), _version().alias("version"), _fallback())
    versions = _by_lists(per_list)
    if len(versions) > MOST_VERSIONS:
        versions = [*versions[: MOST_VERSIONS - 1], OTHER]
        kept = pl.col("version").is_in(versions)
        per_list = per_list.with_columns(pl.when(kept).then("version").otherwise(pl.lit(OTHER)).alias("version"))
    by_list = per_list.select(*_LIST, "asker", "version")
    rated = ratings.join(by_list, on=_LIST, how="inner").sort(*_LIST, maintain_order=True)
    return [_of_version(one, per_list.filter(version=one), rated.filter(version=one)) for one in versions]


def _by_lists(per_list: pl.DataFrame) -> list[str]:
    """Return the versions, the one with most lists first."""
    counts = per_list["version"].value_counts().sort("count", "version", descending=[True, False])
    return counts["version"].to_list()


def _measured(rows: pl.DataFrame, highest: int) -> pl.DataFrame:
    """Return a row for each list; `rows` are contiguous by list."""
    per_list = rows.group_by(_LIST, maintain_order=True).agg(
        pl.len().alias("size"),
        pl.col(USER_ID).drop_nulls().first(),
        pl.col(POLICY).drop_nulls().first(),
        pl.col(POSITION).is_not_null().all().alias("placed"),
        (pl.col(RELEVANCE).max() >= highest).alias("converted"),
    )
    order = Rankings(
        rows[RELEVANCE].to_numpy(),
        -rows[POSITION].fill_null(0).to_numpy().astype(np.float64),
        per_list["size"].to_numpy(),
    )
    placed = per_list["placed"].to_numpy()
    figures = {"ndcg_at_5": quality.ndcg(order), "hit_at_3": quality.hit(order)}
    return per_list.with_columns(pl.Series(name, np.where(placed, found, np.nan)) for name, found in figures.items())


def _asker() -> pl.Expr:
    user = pl.struct(pl.col(USER_ID).alias("user"), pl.lit(None, pl.String).alias("query"))
    query = pl.struct(pl.lit(None, pl.String).alias("user"), pl.col(QUERY_ID).alias("query"))
    return pl.when(pl.col(USER_ID).is_null()).then(query).otherwise(user).rank("dense").cast(pl.Int64).alias("asker")


def _version() -> pl.Expr:
    """Return the version that ranked a list, by the policy that was logged."""
    policy = pl.col(POLICY)
    return (
        pl.when(policy.is_null())
        .then(pl.lit(UNKNOWN))
        .when(policy.str.contains(PAIR))
        .then(pl.lit(INTERLEAVED))
        .otherwise(pl.coalesce(policy.str.extract(_OF_VERSION, 1), policy))
    )


def _fallback() -> pl.Expr:
    return pl.col(POLICY).str.contains(_FALLBACK).fill_null(value=False).alias("fallback")


def _of_version(version: str, lists: pl.DataFrame, ratings: pl.DataFrame) -> Shown:
    return Shown(
        version=version,
        asker=lists["asker"].to_numpy(),
        fallback=lists["fallback"].to_numpy(),
        placed=lists["placed"].to_numpy(),
        ndcg_at_5=lists["ndcg_at_5"].to_numpy(),
        hit_at_3=lists["hit_at_3"].to_numpy(),
        converted=lists["converted"].to_numpy(),
        rating=ratings[RATING].cast(pl.Float64).to_numpy(),
        rater=ratings["asker"].to_numpy(),
    )
