"""Column names, declared once, and the limits every table obeys.

One spelling each; a table anywhere in the package uses these names. Times are UTC with microseconds
(``Datetime("us", "UTC")``), features float32 with NaN for "missing", positions and ranks 1-based.
"""

from __future__ import annotations

from typing import Final

QUERY_ID: Final = "query_id"  # str: what was asked
RANKING_ID: Final = "ranking_id"  # str: one list shown for it; the unit of groups, metrics and the gate
ITEM_ID: Final = "item_id"  # str: a candidate
USER_ID: Final = "user_id"  # str or null: who asked; the cluster of the bootstrap
EVENT_ID: Final = "event_id"  # str or null: the producer's identity of the event
TIME: Final = "time"  # datetime: when it happened (event time)
POSITION: Final = "position"  # int32 or null: where the item was shown, 1-based; never a feature
PROTECTED_GROUP: Final = "protected_group"  # str or null: the fairness attribute
AVAILABLE: Final = "available"  # bool: false = censored demand, dropped from the list
POLICY: Final = "policy"  # str or null: which ranking policy showed the list
PROPENSITY: Final = "propensity"  # float32 or null: probability of showing it there
TEAM: Final = "team"  # str or null
SHADOW: Final = "shadow"  # bool: ranked but not shown
ACTION: Final = "action"  # str: what the user did
LABEL: Final = "label"  # int8 or null: relevance that an older flat message was logged with
RELEVANCE: Final = "relevance"  # int8: graded judgment, 0 = none
SCORE: Final = "score"  # float64: model output
RANK: Final = "rank"  # int32: computed from scores, 1-based

SOURCE: Final = "source"  # str: the file (later: topic) a record came from
PARTITION: Final = "partition"  # int32: the source's partition; 0 for files
OFFSET: Final = "offset"  # int64: byte offset of the line (later: message offset)
ITEM_INDEX: Final = "item_index"  # int32: place inside a list message, else 0

FEATURE_PREFIX: Final = "feature_"

MAX_GROUP_ROWS: Final = 10_000
"""LightGBM dies on a query of more rows; a longer list is quarantined."""


def feature_column(name: str) -> str:
    """Column of the feature `name`.

    >>> feature_column("A")
    'feature_A'
    """
    return FEATURE_PREFIX + name


IMPRESSIONS: Final = "impressions"  # landed table: one item shown for one query
FEEDBACK: Final = "feedback"  # landed table: one interaction
LABELLED: Final = "labelled"  # built table: impressions with relevance


def table_key(folder: str, table: str, bucket: int) -> str:
    """Storage key of one hash bucket of a table in `folder`.

    >>> table_key("events/date=2025-07-15", IMPRESSIONS, 3)
    'events/date=2025-07-15/impressions-003.parquet'
    """
    return f"{folder}/{table}-{bucket:03d}.parquet"
