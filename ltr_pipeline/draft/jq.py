"""Programs for jq, by which a log is altered that no mapping can read as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from ltr_pipeline.draft.roles import Roles
from ltr_pipeline.draft.tables import Path, Table

__all__ = ["ANSWERED", "SHOWN", "adding_kinds", "altering", "kind_field"]

SHOWN: Final = "impression"
ANSWERED: Final = "feedback"
"""Kinds of messages that do not say it themselves."""

ALL: Final = 0.99  # of the messages of a kind have the field that tells it from others


def kind_field(found: Roles) -> str:
    """Return a name for the field that is to tell the kind of messages, of which none has it."""
    tables = (found.shown.messages, *found.feedback.values())
    return "ltr_kind" if any(table.has(("kind",)) for table in tables) else "kind"


def adding_kinds(found: Roles) -> str:
    """Return a filter of jq that adds the kind of each message, by a field that only that kind has."""
    shown = found.shown
    tables = {SHOWN: shown.messages} | found.feedback
    cases = []
    for kind, table in tables.items():
        others = [other for other in tables.values() if other is not table]
        own = [path for path in table.columns if table.filled(path) >= ALL and not any(map(_having(path), others))]
        if own:
            which = shown.items if shown.items in own else own[0]
            kind_written = json.dumps(SHOWN if kind == SHOWN else ANSWERED)
            cases.append(f"if getpath({_in_jq(which)})? != null then .{kind_field(found)} = {kind_written}")
    return f"{' el'.join(cases)} else . end" if cases else ""


def _having(path: Path) -> Callable[[Table], bool]:
    return lambda table: table.has(path) > 0


def altering(path: Path, filter_: str) -> str:
    """Return a filter of jq that puts another value at a path, where there is one."""
    return f"if getpath({_in_jq(path)})? != null then getpath({_in_jq(path)}) |= ({filter_}) else . end"


def _in_jq(path: Path) -> str:
    return json.dumps(path, ensure_ascii=False)
