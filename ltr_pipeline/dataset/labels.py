"""From landed impressions and feedback to labelled rankings: a pure function of one hash bucket.

Buckets are by `query_id` and everything here happens within one query, so buckets are independent of each other:
one bucket or eight give the same rows. Every landed record is exactly one of these: used, duplicate, or dropped for
one reason; the reasons are those of `DROPPED_IMPRESSIONS` and `DROPPED_FEEDBACK`, the first that holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.schema import (
    ACTION,
    AVAILABLE,
    EVENT_ID,
    FEEDBACK,
    IMPRESSIONS,
    ITEM_ID,
    ITEM_INDEX,
    LABEL,
    LABELLED,
    MAX_GROUP_ROWS,
    OFFSET,
    PARTITION,
    PLACES,
    QUERY_ID,
    RANKING_ID,
    RATING,
    RATINGS,
    RELEVANCE,
    SHADOW,
    SOURCE,
    TIME,
    USER_ID,
    columns_of,
    feature_column,
)

__all__ = [
    "DROPPED_FEEDBACK",
    "DROPPED_IMPRESSIONS",
    "FEEDBACK_TYPES",
    "SHOWN_AT",
    "Account",
    "Answered",
    "Joined",
    "Labelled",
    "answered_bucket",
    "impression_types",
    "joined",
    "label_bucket",
    "once_each",
    "shown_once",
    "spelling",
]

DROPPED_IMPRESSIONS: Final = {
    "after_cutoff": "event time at or after the end of the window",
    "shadow": "ranked, but not shown",
    "unavailable": "the item was not available: censored demand, not a missing interaction",
    "repeated": "shown before in the same ranking; its interactions count for the first time it was shown",
    "before_window": "the ranking began before the window",
    "immature": "the ranking's attribution window has not closed yet",
    "left_out": "the calendar leaves out the day that the ranking began on",
    "list_too_long": f"more than {MAX_GROUP_ROWS:,} candidates, which LightGBM cannot train on",
    "single_candidate": "nothing to rank: no other candidate is left",
    "unanswered": "nothing that the ranking was answered with arrived lately, and only such rankings are wanted",
}
DROPPED_FEEDBACK: Final = {
    "after_cutoff": "event time at or after the end of the window",
    "unknown_action": "the mapping gives its action no relevance (any more)",
    "rated": "it is a rating and no action with a relevance: ratings tell of satisfaction and never train",
    "no_impression": "the item was never shown for that query, or not in the ranking it names",
    "before_impression": "older than every impression it could belong to",
    "too_late": "the attribution window had closed",
    "impression_dropped": "its impression is not used",
}

_PLACE: Final = (PARTITION, SOURCE, OFFSET, ITEM_INDEX)
_RANKING: Final = (QUERY_ID, RANKING_ID)
_CANDIDATE: Final = (QUERY_ID, RANKING_ID, ITEM_ID)
_UTC: Final = pl.Datetime("us", "UTC")
_REASON: Final = "reason"

SHOWN_AT: Final = "shown_at"
"""When the impression that an interaction belongs to was shown."""


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where landed records went: ``landed = used + duplicates + sum(dropped)``.

    >>> one = Account(landed=3, used=1, duplicates=1, dropped={"shadow": 1})
    >>> one + Account(landed=1, used=0, duplicates=0, dropped={"shadow": 1})
    Account(landed=4, used=1, duplicates=1, dropped={'shadow': 2})
    """

    landed: int = 0
    used: int = 0
    duplicates: int = 0
    dropped: dict[str, int] = {}

    def __add__(self, other: Account) -> Account:
        return Account(
            landed=self.landed + other.landed,
            used=self.used + other.used,
            duplicates=self.duplicates + other.duplicates,
            dropped=dict(Counter(self.dropped) + Counter(other.dropped)),
        )


@dataclass(frozen=True)
class Labelled:
    """One bucket of labelled rankings and what became of every landed record.

    Attributes
    ----------
    table
        One row per candidate; `time` is its ranking's: the earliest impression of it that is used. Rankings are
        contiguous, in order of (time, query_id, ranking_id); inside them rows are in order of item_id, which tells
        nothing about the order they were shown in.
    impressions, feedback
        Accounts of both inputs.
    unseen
        uint64, shape (interactions whose item was never shown for their query,): `spelling` of each.
    skewed
        Interactions that belong to an impression which is newer, by no more than `Windows.skew_seconds`.
    """

    table: pl.DataFrame
    impressions: Account
    feedback: Account
    unseen: pl.Series
    skewed: int


def label_bucket(
    impressions: pl.DataFrame,
    feedback: pl.DataFrame,
    *,
    relevance: Mapping[str, int],
    features: Sequence[str],
    windows: Windows,
    session_gap: timedelta | None = None,
    lately: pl.DataFrame | None = None,
) -> Labelled:
    """Label the rankings of one bucket.

    Duplicates go first: the same `event_id` for the same candidate, else the same parsed fields; the first (partition,
    source, offset, item_index) stays, then the first row. Feedback that names a ranking belongs to the latest
    impression of its item in that ranking that is not newer than the feedback, other feedback to the latest such
    impression of that item for that query. Where there is none, the first one that is newer by no more than
    `Windows.skew_seconds` takes its place. The relevance of a candidate is the largest of: its interactions not later
    than `attribution_days` after the impression they belong to, the label it was logged with, 0.

    Parameters
    ----------
    impressions, feedback
        Landed tables, rows in any order; columns that are missing are taken as null.
    relevance
        Relevance of each action.
    features
        Names of the features to keep, in model order; null becomes NaN.
    session_gap
        Where no ranking was named, what a user was shown for a query without a longer gap is one, and feedback of a
        user that names none belongs to an impression of that user; None leaves it at the pair (query, UTC day).
    lately
        The part of `feedback` that arrived lately: only rankings that some of it counts for are wanted, and it alone is
        accounted for. None: all rankings are, and all of it is.
    """
    met = _met(impressions, feedback, features, windows, session_gap)
    candidates, reasons = met.once.filter(pl.col(_REASON).is_null()), met.reasons
    judged = _meaning(_feedback_reasons(met.joined, candidates, windows), relevance)
    table = _with_relevance(candidates, judged.filter(pl.col(_REASON).is_null()))
    if lately is not None:
        judged = judged.join(_typed(lately, FEEDBACK_TYPES), on=_PLACE, how="semi", nulls_equal=True)
        wanted = table.join(judged.filter(pl.col(_REASON).is_null()), on=_RANKING, how="semi", nulls_equal=True)
        unanswered = pl.repeat("unanswered", table.height - wanted.height, dtype=pl.String, eager=True)
        reasons, table = pl.concat([reasons.drop_nulls(), unanswered, wanted[_REASON]]), wanted
    return Labelled(
        table=table.select(*_LABELLED_COLUMNS, *map(feature_column, features)).sort(TIME, *_CANDIDATE),
        impressions=_account(impressions.height, reasons),
        feedback=_account(feedback.height if lately is None else lately.height, judged[_REASON]),
        unseen=judged.filter(pl.col(_REASON) == "no_impression")
        .join(met.seen, on=[QUERY_ID, ITEM_ID], how="anti")
        .select(spelling())
        .to_series(),
        skewed=int((met.joined["shown_at"] > met.joined[TIME]).sum()),
    )


@dataclass(frozen=True)
class Answered:
    """One bucket of lists that people saw, and what they made of them inside the attribution window.

    Attributes
    ----------
    lists
        As `Labelled.table`, without features; lists of one candidate are there, too.
    ratings
        The latest rating of each item of a list that was rated: `QUERY_ID`, `RANKING_ID`, `ITEM_ID` and `RATING`.
    """

    lists: pl.DataFrame
    ratings: pl.DataFrame


def answered_bucket(
    impressions: pl.DataFrame,
    feedback: pl.DataFrame,
    *,
    relevance: Mapping[str, int],
    windows: Windows,
    session_gap: timedelta | None = None,
) -> Answered:
    """Return the lists of one bucket with their answers: which impressions and interactions count, `label_bucket` says.

    Ratings count as interactions do, whatever the action beside them.

    Parameters
    ----------
    impressions, feedback, relevance, windows, session_gap
        As `label_bucket` takes them.
    """
    met = _met(impressions, feedback, (), windows, session_gap)
    shown = met.once.filter(pl.col(_REASON).is_null() | (pl.col(_REASON) == "single_candidate"))
    counted = _feedback_reasons(met.joined, shown, windows).filter(pl.col(_REASON).is_null())
    table = _with_relevance(shown, _meaning(counted, relevance))
    rated = counted.filter(pl.col(RATING).is_between(*RATINGS)).sort(TIME, maintain_order=True)
    return Answered(
        lists=table.select(_LABELLED_COLUMNS).sort(TIME, *_CANDIDATE),
        ratings=rated.group_by(_CANDIDATE, maintain_order=True).agg(pl.col(RATING).last()).sort(_CANDIDATE),
    )


@dataclass(frozen=True)
class _Met:
    """Impressions and feedback of a bucket, each once, and which belongs to which.

    Attributes
    ----------
    seen
        Impressions that feedback may belong to.
    once
        Each candidate that was shown, with the reason why its ranking is not used.
    reasons
        Why each distinct impression is not used, null where it is.
    joined
        Feedback with the ranking it belongs to.
    """

    seen: pl.DataFrame
    once: pl.DataFrame
    reasons: pl.Series
    joined: pl.DataFrame


def _met(
    impressions: pl.DataFrame,
    feedback: pl.DataFrame,
    features: Sequence[str],
    windows: Windows,
    session_gap: timedelta | None,
) -> _Met:
    distinct = _deduplicated(_typed(impressions, impression_types(features)))
    shown = _shown(_in_sessions(distinct, session_gap) if session_gap else distinct, windows.cutoff)
    live = shown.filter(pl.col(_REASON).is_null())
    once = _whole_rankings(_first_of(live, _CANDIDATE), windows)
    seen = shown.filter(pl.col(_REASON).is_null() | (pl.col(_REASON) == "unavailable"))
    answers = _deduplicated(_typed(feedback, FEEDBACK_TYPES))
    repeated = pl.repeat("repeated", live.height - once.height, dtype=pl.String, eager=True)
    return _Met(
        seen=seen,
        once=once,
        reasons=pl.concat([shown[_REASON].drop_nulls(), repeated, once[_REASON]]),
        joined=_with_impression(answers, seen, windows.skew_seconds, by_user=session_gap is not None),
    )


_POLARS: Final[dict[str, Any]] = {
    "text": pl.String,
    "time": _UTC,
    "flag": pl.Boolean,
    "int8": pl.Int8,
    "int32": pl.Int32,
    "int64": pl.Int64,
    "float32": pl.Float32,
}


def _types(table: str) -> dict[str, Any]:
    return {column.name: _POLARS[column.landed] for column in (*columns_of(table), *PLACES)}


FEEDBACK_TYPES: Final = _types(FEEDBACK)
"""Columns that are read of landed feedback, with their polars types."""

_LABELLED_COLUMNS: Final = (*(column.name for column in columns_of(LABELLED)), RELEVANCE)


def once_each(
    impressions: pl.DataFrame, feedback: pl.DataFrame, session_gap: timedelta | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the impressions of a bucket that people saw, and its interactions, each event once and in order of time.

    Duplicates go, and so does what was ranked but not shown, or not available. Without labels nothing has to be mature.

    Parameters
    ----------
    impressions, feedback, session_gap
        As `label_bucket` takes them.
    """
    shown = shown_once(impressions, (), session_gap).filter(pl.col(AVAILABLE).fill_null(value=True))
    return shown, _deduplicated(_typed(feedback, FEEDBACK_TYPES))


class Joined(NamedTuple):
    """One bucket of impressions that people saw and of interactions, each event once and in order of time.

    Attributes
    ----------
    shown
        Impressions, unavailable items (`AVAILABLE`) included.
    answers
        Interactions; their `RANKING_ID` is that of the impression they belong to, and `SHOWN_AT` its time: null where
        there is none.
    """

    shown: pl.DataFrame
    answers: pl.DataFrame


def joined(
    impressions: pl.DataFrame, feedback: pl.DataFrame, session_gap: timedelta | None = None, skew_seconds: float = 0.0
) -> Joined:
    """Find the impression that each interaction of a bucket belongs to, whenever either happened.

    Parameters
    ----------
    impressions, feedback, session_gap
        As `label_bucket` takes them.
    skew_seconds
        As in `Windows`.
    """
    shown = shown_once(impressions, (), session_gap)
    answers = _deduplicated(_typed(feedback, FEEDBACK_TYPES))
    return Joined(shown, _with_impression(answers, shown, skew_seconds, by_user=session_gap is not None))


def shown_once(
    impressions: pl.DataFrame, features: Sequence[str], session_gap: timedelta | None = None
) -> pl.DataFrame:
    """Return the impressions of a bucket that people saw, each event once and in order of time, with some features.

    Unavailable items are among them.
    """
    distinct = _deduplicated(_typed(impressions, impression_types(features)))
    distinct = _in_sessions(distinct, session_gap) if session_gap else distinct
    return distinct.filter(~pl.col(SHADOW).fill_null(value=False))


def impression_types(features: Sequence[str]) -> dict[str, Any]:
    """Return the columns that are read of landed impressions, with their polars types."""
    return _types(IMPRESSIONS) | {feature_column(name): pl.Float32 for name in features}


def _typed(table: pl.DataFrame, types: Mapping[str, Any]) -> pl.DataFrame:
    """Give `table` exactly these columns, null where it has none."""
    columns = [
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in types.items()
    ]
    return table.select(columns).with_columns(pl.col(pl.Float32).fill_null(float("nan")))


def _deduplicated(table: pl.DataFrame) -> pl.DataFrame:
    """Keep the first of each event, in order of time; within one moment in order of place."""
    ordered = table.sort(_PLACE, maintain_order=True)
    named = ordered.filter(pl.col(EVENT_ID).is_not_null())
    nameless = ordered.filter(pl.col(EVENT_ID).is_null())
    parsed = [name for name in table.columns if name not in _PLACE]
    events = [_first_of(named, [QUERY_ID, ITEM_ID, EVENT_ID]), _first_of(nameless, parsed)]
    return pl.concat(events).sort(TIME, *_PLACE, maintain_order=True)


def _first_of(table: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Keep the first row of each key, in order, as `unique` does, but copy other columns only if any row goes."""
    kept = table.select(*keys, pl.row_index("row")).unique(keys, keep="first")["row"]
    return table if len(kept) == table.height else table[kept.sort()]


def _in_sessions(impressions: pl.DataFrame, gap: timedelta) -> pl.DataFrame:
    """Give what a user was shown for a query, in rankings that nobody named, rankings by its gaps.

    Such a ranking has the id that landing made of the query and the day. That of a session is made of the query, the
    user and the time it began, so it does not depend on what else is in the window.
    """
    made = pl.concat_str(QUERY_ID, pl.lit("|"), pl.col(TIME).dt.strftime("%Y-%m-%d"))
    unnamed = (pl.col(RANKING_ID) == made) & pl.col(USER_ID).is_not_null()
    keys = [QUERY_ID, USER_ID]
    begins = (pl.col(TIME).diff() > gap).fill_null(value=True).over(keys)
    began = pl.when(begins).then(TIME).forward_fill().over(keys)
    ranking = pl.concat_str(QUERY_ID, pl.lit("|"), USER_ID, pl.lit("|"), began.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    sessions = impressions.filter(unnamed).with_columns(ranking.alias(RANKING_ID))
    return pl.concat([impressions.filter(~unnamed), sessions]).sort(TIME, *_PLACE, maintain_order=True)


def _shown(impressions: pl.DataFrame, cutoff: datetime) -> pl.DataFrame:
    """Add to impressions the reason why they are no candidates, null where they are."""
    return impressions.with_columns(
        pl.when(pl.col(TIME) >= cutoff)
        .then(pl.lit("after_cutoff"))
        .when(pl.col(SHADOW).fill_null(value=False))
        .then(pl.lit("shadow"))
        .when(~pl.col(AVAILABLE).fill_null(value=True))
        .then(pl.lit("unavailable"))
        .alias(_REASON)
    )


def _whole_rankings(candidates: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    """Add to `candidates` their ranking's time and the reason to drop the ranking as a whole.

    A ranking's time is that of its earliest candidate, and it is mature when its latest is.
    """
    rankings = candidates.group_by(_RANKING).agg(
        pl.col(TIME).min().alias("began"), pl.col(TIME).max().alias("ended"), pl.len().alias("size")
    )
    reason = (
        pl.when(pl.col("began") < windows.start)
        .then(pl.lit("before_window"))
        .when(pl.col("ended") >= windows.mature_end)
        .then(pl.lit("immature"))
        .when(pl.col("began").dt.date().is_in(windows.left_out))
        .then(pl.lit("left_out"))
        .when(pl.col("size") > MAX_GROUP_ROWS)
        .then(pl.lit("list_too_long"))
        .when(pl.col("size") == 1)
        .then(pl.lit("single_candidate"))
    )
    whole = rankings.select(*_RANKING, pl.col("began").alias(TIME), reason.alias(_REASON))
    return candidates.drop(TIME, _REASON).join(whole, on=_RANKING, how="left")


def _feedback_reasons(joined: pl.DataFrame, candidates: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    """Add the reason to drop an interaction, whatever it says; null where there is none."""
    used = candidates.select(_CANDIDATE).with_columns(used=True)
    return joined.join(used, on=_CANDIDATE, how="left").with_columns(
        pl.when(pl.col(TIME) >= windows.cutoff)
        .then(pl.lit("after_cutoff"))
        .when(pl.col("shown_at").is_null() & pl.col("shown_later_at").is_null())
        .then(pl.lit("no_impression"))
        .when(pl.col("shown_at").is_null())
        .then(pl.lit("before_impression"))
        .when(pl.col(TIME) - pl.col("shown_at") > timedelta(days=windows.attribution_days))
        .then(pl.lit("too_late"))
        .when(pl.col("used").is_null())
        .then(pl.lit("impression_dropped"))
        .alias(_REASON),
    )


def _meaning(feedback: pl.DataFrame, relevance: Mapping[str, int]) -> pl.DataFrame:
    """Add the relevance of each interaction; one without any is dropped for that, if it is not after the cutoff."""
    value = pl.col(ACTION).replace_strict(dict(relevance), default=None, return_dtype=pl.Int8)
    nothing = pl.when(pl.col(RATING).is_null()).then(pl.lit("unknown_action")).otherwise(pl.lit("rated"))
    means_nothing = value.is_null() & (pl.col(_REASON).fill_null("") != "after_cutoff")
    return feedback.with_columns(
        value.alias(RELEVANCE), pl.when(means_nothing).then(nothing).otherwise(_REASON).alias(_REASON)
    )


def _with_impression(feedback: pl.DataFrame, seen: pl.DataFrame, skew_seconds: float, *, by_user: bool) -> pl.DataFrame:
    """Add to feedback the ranking it belongs to and the times of the impressions just before and after it."""
    names_ranking = pl.col(RANKING_ID).is_not_null()
    of_user = ~names_ranking & pl.col(USER_ID).is_not_null() & by_user
    nearest = pl.concat(
        [
            _nearest(feedback.filter(names_ranking), seen, [*_CANDIDATE]),
            _nearest(feedback.filter(of_user).drop(RANKING_ID), seen, [QUERY_ID, ITEM_ID, USER_ID]),
            _nearest(feedback.filter(~names_ranking & ~of_user).drop(RANKING_ID), seen, [QUERY_ID, ITEM_ID]),
        ],
        how="diagonal",
    )
    skewed = pl.col("shown_at").is_null() & (pl.col("shown_later_at") - pl.col(TIME) <= timedelta(seconds=skew_seconds))
    return nearest.with_columns(
        pl.when(skewed).then("shown_later_at").otherwise("shown_at").alias("shown_at"),
        pl.when(skewed).then("ranking_later").otherwise(RANKING_ID).alias(RANKING_ID),
    )


def _nearest(feedback: pl.DataFrame, seen: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    shown = seen.join(feedback, on=keys, how="semi", maintain_order="left") if len(feedback) else seen.clear()
    before = shown.select(*dict.fromkeys((*_CANDIDATE, *keys)), TIME, pl.col(TIME).alias("shown_at"))
    after = shown.select(*keys, TIME, pl.col(TIME).alias("shown_later_at"), pl.col(RANKING_ID).alias("ranking_later"))
    return feedback.join_asof(before, on=TIME, by=keys, strategy="backward", check_sortedness=False).join_asof(
        after, on=TIME, by=keys, strategy="forward", check_sortedness=False
    )


def spelling() -> pl.Expr:
    """Return a hash of query and item that is the same for ids which differ in case and white space around them."""
    alike = (pl.col(name).str.strip_chars().str.to_lowercase() for name in (QUERY_ID, ITEM_ID))
    return pl.concat_str(*alike, separator="\0").hash()


def _with_relevance(candidates: pl.DataFrame, interactions: pl.DataFrame) -> pl.DataFrame:
    """Give candidates the largest relevance that an interaction or their own label has; 0 without any."""
    best = interactions.group_by(_CANDIDATE).agg(pl.col(RELEVANCE).max())
    return candidates.join(best, on=_CANDIDATE, how="left").with_columns(
        pl.max_horizontal(RELEVANCE, LABEL, pl.lit(0, pl.Int8)).alias(RELEVANCE)
    )


def _account(landed: int, reasons: pl.Series) -> Account:
    """Count the `reasons` of every record but the duplicates."""
    counts = dict(reasons.value_counts().iter_rows())
    used = counts.pop(None, 0)
    return Account(landed=landed, used=used, duplicates=landed - len(reasons), dropped=dict(sorted(counts.items())))
