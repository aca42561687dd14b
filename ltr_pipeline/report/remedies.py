"""Remedies for records that are refused or not used, by the reason that manifests count, and for checks that fail."""

from __future__ import annotations

from typing import Final

from ltr_pipeline.events import reasons

__all__ = ["LARGE_DROPS", "UNREAD", "of_check", "of_refusal"]

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


_WAIT: Final = "More rankings decide it: wait for them, or test on more days by raising ltr_min_queries."
_WORSE: Final = (
    "A night that loses now and then is normal. After several, look under Features and Data for what has changed."
)
_CHECKS: Final = {
    "trained": "See Data below for what is missing.",
    "ndcg_at_5": (
        "If the baselines under Ranking quality are as low, such lists reach no more: set ltr_ndcg_min somewhat below "
        "them. If not, the features tell too little."
    ),
    "beats_random": "Its order is no better than chance: does the mapping's relevance say what a good item is?",
    "fairness_gap": "Fairness below shows which group is ranked worse; look for features that know too little of it.",
    "unknown_groups": (
        "Log the group of every item, or of whoever asks; ltr_unknown_group_share_max says how many may lack it."
    ),
    "latency_p95": "Smaller models rank faster: lower num_iterations or num_leaves in LTR_PARAMETERS.",
    "champion": _WORSE,
    "best_recent": _WORSE,
    "parent_delta": "The parent stays until a later hour, or the next night, does better.",
    "coin": (
        "A feature knows where the item was shown, or was computed after the list was shown. Look under Features for "
        "what is new, and log features as they are when the list is ranked."
    ),
    "unbiased_delta": "Clicks favour what was shown on top; Exploration below shows both figures and why they differ.",
    "suspicious_gain": "",  # its reason says it
    "feature_audit": (
        "Take such a feature out of the mapping's features. If it is known before a list is shown, name it under "
        "known_before there."
    ),
    "feature_change": (
        "Is what logs it at work, and in the same unit? If the change is meant, wait until the training days have it, "
        "or raise ltr_feature_change_max for these nights."
    ),
    "unjoined_share": "“What to look at first” below says what the ids or times of that feedback lack.",
    "samples": "Wait for more events, or learn from more days with LTR_WINDOW_DAYS.",
    "queries": "Wait for more events. Lists in which nobody chose anything do not count.",
    "fresh_events": "Is what writes the events at work? `ltr doctor` examines the source.",
    "quarantined_share": "`ltr events` shows what was refused, and why.",
    "lost_share": "Keep messages, or rotated logs, for longer; `ltr doctor` says how long a topic keeps them.",
}


_NOT_BY_WAITING: Final = ("suspicious_gain", "coin", "feature_audit")


def of_check(name: str, status: str) -> str:
    """Say what to do about a check of the gate that kept the former model; empty where nothing more is to be said.

    >>> of_check("quarantined_share", "fail")
    '`ltr events` shows what was refused, and why.'
    """
    if status == "inconclusive" and name not in _NOT_BY_WAITING:
        return _WAIT
    return _CHECKS.get(name, "") if status in ("fail", "inconclusive") else ""


def of_refusal(reason: str) -> str:
    """Say what to do about records that were refused for this reason.

    >>> of_refusal("missing query_id")
    'Give its path under [fields] in the mapping (LTR_MAPPING), or log it.'
    """
    return _REFUSED.get(reason) or (_MISSING if reason.startswith("missing") else _IMPOSSIBLE)
