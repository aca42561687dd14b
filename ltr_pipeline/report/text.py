"""How the report writes figures, intervals and days; a lone dash stands where there is nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ltr_pipeline.gate.figures import signed
from ltr_pipeline.report.wording import NONE, Kind, figure, interval, label, limit, observed

if TYPE_CHECKING:  # what is written is not loaded with what computes it
    from ltr_pipeline.dataset.manifest import DatasetManifest
    from ltr_pipeline.dataset.windows import Span
    from ltr_pipeline.gate.checks.check import Check
    from ltr_pipeline.metrics.fairness import Fairness
    from ltr_pipeline.metrics.quality import Delta, Estimate
    from ltr_pipeline.metrics.unbiased import UnbiasedDelta

__all__ = [
    "between",
    "day",
    "days",
    "difference",
    "enumerated",
    "joined",
    "minute",
    "percent",
    "points",
    "sentence",
    "spoken",
]


def between(found: Delta | Estimate | Fairness | UnbiasedDelta | None, kind: Kind = "score") -> str:
    """Return the interval of an estimate, such as ``0.684 to 0.740``."""
    if found is None or found.low is None or found.high is None:
        return NONE
    return f"{figure(found.low, kind)} to {figure(found.high, kind)}"


def difference(delta: Delta | UnbiasedDelta | None) -> str:
    """Return a paired difference and its interval."""
    return NONE if delta is None else f"{signed(delta.value)} ({between(delta, 'delta')})"


def percent(share: float | None) -> str:
    """Write a share in percent, to one decimal.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    return NONE if share is None else f"{100 * share:.1f} %"


def joined(dataset: DatasetManifest) -> str:
    """Say how much of the feedback belongs to an impression."""
    if not dataset.joinable:
        return "No interaction could belong to an impression."
    count = dataset.joinable - sum(dataset.unjoined.values())
    share = percent(dataset.joined_share)
    return f"{count:,} of {dataset.joinable:,} interactions ({share}) belong to an impression."


def points(change: float) -> str:
    """Return the change of a share in percentage points.

    >>> points(-0.0123)
    '−1.2 pp'
    """
    return f"{signed(100 * change, 1)} pp"


def day(when: dt.date) -> str:
    """Return a day, written out.

    >>> day(dt.date(2025, 11, 20))
    '20 November 2025'
    """
    return f"{when.day} {when:%B %Y}"


def minute(when: dt.datetime) -> str:
    """Return a moment to the minute.

    >>> minute(dt.datetime(2025, 11, 20, 2, 15, tzinfo=dt.UTC))
    '20 November 2025, 02:15 UTC'
    """
    return f"{day(when)}, {when.astimezone(dt.UTC):%H:%M} UTC"


def enumerated(parts: Sequence[str]) -> str:
    """Join the parts of a sentence.

    >>> enumerated(["a"]), enumerated(["a", "b"]), enumerated(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def days(span: Span) -> str:
    """Return the first and the last day of a span.

    >>> from ltr_pipeline.dataset.windows import Span
    >>> days(Span(start=dt.datetime(2025, 11, 12, tzinfo=dt.UTC), end=dt.datetime(2025, 11, 15, tzinfo=dt.UTC)))
    '12 Nov – 14 Nov 2025'
    """
    if span.end <= span.start:
        return "none"
    last = span.end - dt.timedelta(microseconds=1)
    return f"{span.start.day} {span.start:%b} – {last.day} {last:%b %Y}"


def sentence(text: str) -> str:
    """Turn a clause into a sentence; names such as nDCG@5 keep their spelling.

    >>> sentence("latency is fine"), sentence("nDCG@5 is 0.7.")
    ('Latency is fine.', 'nDCG@5 is 0.7.')
    """
    if not text:
        return ""
    first = text.split()[0].rstrip(":,;")
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def spoken(check: Check) -> str:
    """Say what the graphic of a check shows, for readers who cannot see it."""
    return f"{label(check)}: {observed(check)}, 95 % interval {interval(check)}, threshold {limit(check)}"
