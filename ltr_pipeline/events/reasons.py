"""Why a record is quarantined or ignored: the words that manifests count by. docs/events.md explains each."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.events.forms import form_of
from ltr_pipeline.events.source import MAX_LINE_BYTES, Quarantined, Segment, excerpt
from ltr_pipeline.schema import MAX_GROUP_ROWS

FIRST_BYTES: Final = 1000  # of a line too long to be looked at whole

LONG_LINE: Final = "line over 1 MiB"
NOT_UTF8: Final = "not UTF-8"
NOT_JSON: Final = "not JSON"
NOT_OBJECT: Final = "not an object"
DEEP: Final = "nested too deep"
TOO_MANY_ITEMS: Final = "too many items"
WRONG_TYPE: Final = "wrong type"
NOT_FINITE: Final = "not a finite number"
MISSING_QUERY: Final = "missing query_id"
MISSING_ITEM: Final = "missing item_id"
MISSING_TIME: Final = "missing time"
MISSING_FEATURES: Final = "missing features"
MISSING_ACTION: Final = "missing action"
BAD_TIME: Final = "bad time"
UNKNOWN_ACTION: Final = "unknown action"

TOMBSTONE: Final = "tombstone"
EMPTY: Final = "empty message"
UNRELATED: Final = "unrelated message"
EMPTY_LIST: Final = "list without items"
TOO_OLD: Final = "older than the window"


def impossible(column: str) -> str:
    """Name the reason for a number that a column cannot hold.

    >>> impossible("position")
    'impossible position'
    """
    return f"impossible {column}"


def too_long(begin: bytes) -> str:
    """Say what is wrong with a line over the limit that begins so."""
    return f"the line is longer than {MAX_LINE_BYTES} bytes; {form_of(begin[:FIRST_BYTES])}".removesuffix("; ")


def long_line(segment: Segment, offset: int, message: bytes) -> Quarantined:
    """Quarantine a message that is over the limit, or of which so much has been seen."""
    return Quarantined(
        source=segment.source,
        partition=segment.partition,
        offset=offset,
        reason=LONG_LINE,
        detail=too_long(message),
        excerpt=excerpt(message),
    )


def too_many(items: int) -> str:
    """Say what is wrong with a list of so many items."""
    return f"the list has {items} items, more than {MAX_GROUP_ROWS}"
