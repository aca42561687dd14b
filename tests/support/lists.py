"""An answered list, as events are made of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ltr_pipeline.serving.eventlog.encode import AnsweredList
from ltr_pipeline.serving.wire import RankCandidate

__all__ = ["listed"]


def listed(candidates: Sequence[RankCandidate], **changes: object) -> AnsweredList:
    """List of these, shown by the policy ``p`` for the query ``q``; what else it says can be changed."""
    made = AnsweredList(
        request_id="r",
        event_id="r",
        query_id="q",
        user_id=None,
        seconds=1_752_575_400.0,
        policy="p",
        shadow=False,
        candidates=candidates,
        features=("A",),
    )
    return msgspec.structs.replace(made, **changes)
