"""Why no mapping can be drafted, in one sentence: what was looked for, and what was seen."""

from __future__ import annotations

from collections import Counter

from ltr_pipeline.draft.roles import Roles
from ltr_pipeline.draft.sample import Sample
from ltr_pipeline.draft.tables import dotted, leaves, listed, unnameable

__all__ = ["learnable", "shown", "that_tells_time"]


def shown(sample: Sample) -> str:
    """Say what was looked for and what was seen where no message is an impression."""
    looked_for = "messages that show items, each with an id and with numbers that may be features"
    if not sample.messages:
        if sample.refused:
            ((detail, count),) = sample.refused.most_common(1)
            seen = f"none of its {sample.lines:,} lines is a message; {count:,} of them: {detail}"
        else:
            seen = (
                "it is empty" if not sample.unrelated else f"its {sample.unrelated:,} lines are output of another kind"
            )
        return f"no mapping can be drafted: looked for JSON objects, one a line, and {seen}"
    names = Counter(path for message in sample.messages for path in {path for path, _ in leaves(message)})
    fields = listed([dotted(path) for path, _ in names.most_common()])
    seen = f"{len(sample.messages):,} messages with the fields {fields or '(none)'}"
    return (
        f"no mapping can be drafted: looked for {looked_for}, and saw {seen}; such a log needs the features of each "
        f"item that was shown (docs/events.md); {unnameable(names)}"
    ).removesuffix("; ")


def that_tells_time(found: Roles) -> str:
    """Say what was looked for and what was seen where no field is a time."""
    paths = [path for table in (found.shown.messages, *found.feedback.values()) for path in table.columns]
    return (
        "no mapping can be drafted: looked for a field of impressions and feedback that says when they happened, as "
        "RFC 3339 or as a number since 1970, and saw the fields "
        f"{listed([dotted(path) for path in dict.fromkeys(paths)])}; {unnameable(paths)}"
    ).removesuffix("; ")


def learnable(found: Roles) -> str:
    """Say what was looked for and what was seen where no number may be a feature."""
    fields = listed([dotted(path) for path in found.shown.rows.columns])
    return (
        "no mapping can be drafted: looked for numbers of items that may be features, and all there are seem to be "
        f"ids, places, times, constants or outcomes, of the fields {fields}"
    )
