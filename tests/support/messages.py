"""Messages as products send them, and blocks of them."""

from __future__ import annotations

import json
from typing import Any

from ltr_pipeline.events.source import Block, lines_of

FEATURES = {"A": 1.0, "S": 0.8, "T": 0.9, "G": 0.7, "Q": 0.6, "U": 1.0, "R": 0.8, "C": 0.5}


def shown(
    case: str = "case-1", lawyer: str = "lawyer-1", time: str = "2025-07-15T10:30:00Z", **context: Any
) -> dict[str, Any]:
    """One item shown, in the nested form."""
    return {
        "timestamp": time,
        "message": "match_recommendation",
        "context": {"case_id": case, "lawyer_id": lawyer, "rank_position": 1, "features": FEATURES} | context,
    }


def answered(
    case: str = "case-1", lawyer: str = "lawyer-1", time: str = "2025-07-15T11:00:00Z", **context: Any
) -> dict[str, Any]:
    """One interaction."""
    return {
        "timestamp": time,
        "message": "offer_feedback",
        "context": {"case_id": case, "lawyer_id": lawyer, "action": "accepted"} | context,
    }


def flat(**fields: Any) -> dict[str, Any]:
    """One item shown, in the older flat form."""
    message = {"event": "match", "timestamp": "2025-07-15T10:30:00Z", "case_id": "case-1", "lawyer_id": "lawyer-1"}
    return message | {"features": FEATURES, "label": 2} | fields


def listed(*items: Any, **fields: Any) -> dict[str, Any]:
    """A whole list shown."""
    message = {"message": "match_recommendation", "timestamp": "2025-07-15T10:30:00Z", "case_id": "case-1"}
    return message | {"items": list(items)} | fields


def item(lawyer: str, **fields: Any) -> dict[str, Any]:
    """An item of a list."""
    return {"lawyer_id": lawyer, "features": FEATURES} | fields


def without(message: dict[str, Any], *path: str) -> dict[str, Any]:
    """The message without the field at a path."""
    head, *rest = path
    if rest:
        return message | {head: without(message[head], *rest)}
    return {name: value for name, value in message.items() if name != head}


def line(message: Any) -> bytes:
    """A message as JSON, without its line feed."""
    return json.dumps(message).encode()


def block(*lines: bytes | dict[str, Any]) -> Block:
    """A block of lines as the file source makes it."""
    data = b"".join((text if isinstance(text, bytes) else line(text)) + b"\n" for text in lines)
    starts = lines_of(data)
    return Block("audit.log", 0, data, starts, starts)
