"""Remedies for records that are refused or not used, by the reason that manifests count."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.events import reasons

__all__ = ["LARGE_DROPS", "UNREAD", "of_refusal"]

UNREAD: Final = frozenset({reasons.NOT_UTF8, reasons.NOT_JSON, reasons.NOT_OBJECT, reasons.LONG_LINE, reasons.DEEP})
"""Reasons why a line is no message; a record that is refused for another was recognised by its kind."""

_MAP: Final = "under [fields] in the mapping (LTR_MAPPING)"
_REFUSED: Final = {
    reasons.NOT_UTF8: "Write the log in UTF-8.",
    reasons.NOT_JSON: "Write one whole JSON object a line.",
    reasons.NOT_OBJECT: "Write one JSON object a line.",
    reasons.LONG_LINE: "Log shorter messages, such as one for each item.",
    reasons.DEEP: "Log flatter messages.",
    reasons.TOO_MANY_ITEMS: "Log only the candidates that were shown.",
    reasons.WRONG_TYPE: f"Log it as that type, or give the right path {_MAP}.",
    reasons.NOT_FINITE: "Log null where a feature has no value.",
    reasons.BAD_TIME: "Log times as the mapping's time_unit says, RFC 3339 with their offset from UTC by default.",
    reasons.UNKNOWN_ACTION: "Give the action a relevance under [relevance] in the mapping (LTR_MAPPING).",
}
_MISSING: Final = f"Give its path {_MAP}, or log it."
_IMPOSSIBLE: Final = f"Log it within that range; if the field means something else, give the right path {_MAP}."

LARGE_DROPS: Final = {
    "unavailable": "Check what is logged as available.",
    "repeated": (
        "If it was another list, of another user or time, map ranking_id, or set session_gap_minutes, such as 30, in "
        "the mapping."
    ),
    "list_too_long": "Log only the candidates that were shown.",
    "single_candidate": "Log every candidate of a list, under one query_id and ranking_id.",
    "shadow": "Check what is logged as shadow.",
    "after_cutoff": "Check the producers' clocks.",
    "unknown_action": "Give the action a relevance under [relevance] in the mapping (LTR_MAPPING).",
}
"""Remedies by reason, for reasons why landed records are not used that no night should have many of."""


def of_refusal(reason: str) -> str:
    """Say what to do about records that were refused for this reason.

    >>> of_refusal("missing query_id")
    'Give its path under [fields] in the mapping (LTR_MAPPING), or log it.'
    """
    return _REFUSED.get(reason) or (_MISSING if reason.startswith("missing") else _IMPOSSIBLE)
