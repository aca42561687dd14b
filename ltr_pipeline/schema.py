"""Columns, declared once, and the limits every table obeys.

A column's name, its type on the wire, its type when landed and the tables that have it stand in `COLUMNS`; whoever
reads, checks, lands, labels or writes events takes them from there. A column that no code treats in its own way needs a
line there, its paths in the mapping and, where the service sends it, a field in `serving.wire`. Times are UTC with
microseconds, features float32 with NaN for "missing", positions and ranks 1-based.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

QUERY_ID: Final = "query_id"  # what was asked
RANKING_ID: Final = "ranking_id"  # one list shown for it; the unit of groups, metrics and the gate
ITEM_ID: Final = "item_id"  # a candidate
USER_ID: Final = "user_id"  # who asked; intervals are by users
EVENT_ID: Final = "event_id"  # the producer's identity of the event
TIME: Final = "time"  # when it happened (event time)
ACTION: Final = "action"  # the user's act
RATING: Final = "rating"  # how content the user was, one of RATINGS; it never trains
POSITION: Final = "position"  # where the item was shown, 1-based; never a feature
PROTECTED_GROUP: Final = "protected_group"  # the fairness attribute
AVAILABLE: Final = "available"  # false = censored demand, dropped from the list
POLICY: Final = "policy"  # which ranking policy showed the list
PROPENSITY: Final = "propensity"  # probability of showing it there
TEAM: Final = "team"  # the version that an interleaved item is of
SHADOW: Final = "shadow"  # ranked but not shown
AS_SERVED: Final = "as_served"  # the features are those that the service ranked by, written when it answered
LABEL: Final = "label"  # relevance that an older flat message was logged with

SOURCE: Final = "source"  # the file or the topic a record came from
PARTITION: Final = "partition"  # the source's partition; 0 for files
OFFSET: Final = "offset"  # byte offset of the line, or the message's offset
ITEM_INDEX: Final = "item_index"  # place inside a list message, else 0

RELEVANCE: Final = "relevance"  # int8, of labelled rows: graded judgment, 0 = none

IMPRESSIONS: Final = "impressions"  # landed table: one item shown for one query
FEEDBACK: Final = "feedback"  # landed table: one interaction
LABELLED: Final = "labelled"  # built table: impressions with relevance

WireType = Literal["text", "whole", "number", "flag"]
LandedType = Literal["text", "time", "flag", "int8", "int32", "int64", "float32"]
Level = Literal["list", "item"]


class Column(NamedTuple):
    """A column of events.

    Attributes
    ----------
    wire
        Its type in JSON, where ``whole`` is a number without a fraction; None when it is no field of a message but
        tells where the record came from.
    landed
        Its type in landed tables; ``time`` is UTC with microseconds.
    tables
        `IMPRESSIONS` and `FEEDBACK` land it, `LABELLED` keeps it beside the relevance.
    needed
        The mapping must say where it is.
    inherited
        In a message that shows a whole list, an item without it takes it from its message.
    written
        Where the service writes it in such a message, once for the ``list`` or with each ``item``; None when it never
        does.
    absent
        A flag's value where a message has none; None leaves it null.
    may_be_number
        Other domains write this text as a whole number; the mapping's `ids` says whether that is read.
    """

    name: str
    wire: WireType | None
    landed: LandedType
    tables: tuple[str, ...]
    needed: bool = False
    inherited: bool = True
    written: Level | None = None
    absent: bool | None = None
    may_be_number: bool = False


_EVENTS: Final = (IMPRESSIONS, FEEDBACK)
_KEPT: Final = (IMPRESSIONS, LABELLED)
_ALL: Final = (IMPRESSIONS, FEEDBACK, LABELLED)

COLUMNS: Final = (
    Column(QUERY_ID, "text", "text", _ALL, needed=True, written="list", may_be_number=True),
    Column(RANKING_ID, "text", "text", _ALL, written="list", may_be_number=True),
    Column(ITEM_ID, "text", "text", _ALL, needed=True, inherited=False, written="item", may_be_number=True),
    Column(USER_ID, "text", "text", _ALL, written="list", may_be_number=True),
    Column(EVENT_ID, "text", "text", _EVENTS, written="list", may_be_number=True),
    Column(TIME, "text", "time", _ALL, needed=True, written="list"),
    Column(ACTION, "text", "text", (FEEDBACK,), written="list"),
    Column(RATING, "whole", "int8", (FEEDBACK,), written="list"),
    Column(POSITION, "whole", "int32", _KEPT, inherited=False, written="item"),
    Column(PROTECTED_GROUP, "text", "text", _KEPT, written="item", may_be_number=True),
    Column(AVAILABLE, "flag", "flag", (IMPRESSIONS,), absent=True),
    Column(POLICY, "text", "text", _KEPT, written="list"),
    Column(PROPENSITY, "number", "float32", _KEPT, inherited=False, written="item"),
    Column(TEAM, "text", "text", _KEPT, written="item"),
    Column(SHADOW, "flag", "flag", (IMPRESSIONS,), written="list", absent=False),
    Column(AS_SERVED, "flag", "flag", _KEPT, written="list", absent=False),
    Column(LABEL, "whole", "int8", (IMPRESSIONS,), inherited=False),
)
"""Columns of messages, in the order of landed tables; features follow them, and then `PLACES`."""

PLACES: Final = (
    Column(SOURCE, None, "text", _EVENTS),
    Column(PARTITION, None, "int32", _EVENTS),
    Column(OFFSET, None, "int64", _EVENTS),
    Column(ITEM_INDEX, None, "int32", _EVENTS),
)
"""Columns that say where a record came from."""

RATINGS: Final = (1, 5)
"""The lowest and the highest rating."""

FEATURE_PREFIX: Final = "feature_"

MAX_GROUP_ROWS: Final = 10_000
"""LightGBM dies on a query of more rows; a longer list is quarantined."""


def feature_column(name: str) -> str:
    """Return the column of the feature `name`.

    >>> feature_column("A")
    'feature_A'
    """
    return FEATURE_PREFIX + name


def columns_of(table: str) -> tuple[Column, ...]:
    """Return the columns of messages that a table has, in order."""
    return tuple(column for column in COLUMNS if table in column.tables)


def table_key(folder: str, table: str, bucket: int) -> str:
    """Return the storage key of one hash bucket of a table in `folder`.

    >>> table_key("events/date=2025-07-15", IMPRESSIONS, 3)
    'events/date=2025-07-15/impressions-003.parquet'
    """
    return f"{folder}/{file_name(table, bucket)}"


def file_name(table: str, bucket: int) -> str:
    """Return the name of the file with one hash bucket of a table."""
    return f"{table}-{bucket:03d}.parquet"
