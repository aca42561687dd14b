"""Bodies and answers of `/monitoring/…`."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Final

import msgspec

from ltr_pipeline.board.facts import DriftDay
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.errors import RequestError
from ltr_pipeline.monitoring.records import DriftReport, NightRecord, PostedMetrics
from ltr_pipeline.serving import wire

__all__ = [
    "LONGEST_NAME",
    "MOST_METRICS",
    "MOST_SIZE",
    "DriftAnswer",
    "LastRun",
    "Metrics",
    "MetricsAnswer",
    "PipelineStatus",
    "Posted",
    "PostedBody",
    "PredictionsAnswer",
    "RunRequest",
    "RunStarted",
    "metrics_of",
]

MOST_SIZE: Final = 200
"""Most entries of one page of an answer."""

MOST_METRICS: Final = 50
LONGEST_NAME: Final = 100

Metrics = dict[str, float]


class MetricsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate measured, and what was posted.

    Attributes
    ----------
    current
        The newest judged night; null before the first.
    history
        Nights of this page, newest first.
    posted
        Metrics that were posted last, newest first.
    page, size, total
        Which page this is, how many nights one has, and how many nights there are.
    """

    current: NightRecord | None
    history: list[NightRecord]
    posted: list[PostedMetrics]
    page: int
    size: int
    total: int


class DriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The data of one day beside its references, and the days before in short.

    Attributes
    ----------
    report
        The newest day, or that of `date`, with all that was found; null where there is none.
    history
        Days of this page, newest first, without distributions.
    page, size, total
        Which page this is, how many days one has, and how many days there are.
    """

    report: DriftReport | None
    history: list[DriftDay]
    page: int
    size: int
    total: int


class PredictionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Lists that people were shown, as they landed, newest first.

    Attributes
    ----------
    lists
        Those of this page.
    page, size, total
        Which page this is, how many lists one has, and how many are kept (of the version, where one is asked for).
    """

    lists: list[ShownList]
    page: int
    size: int
    total: int


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """The newest judged night, in short.

    Attributes
    ----------
    verdict
        ``publish``, ``keep``, or ``none``: nothing was trained.
    version
        What it published; null where it published nothing.
    """

    run: str
    date: dt.date
    verdict: str
    version: str | None
    reason: str


class PipelineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the nightly run stands.

    Attributes
    ----------
    version
        The version that ranks here.
    latest
        The version that `latest` is; null before the first publish.
    last_run
        The newest judged night; null before the first.
    running
        Whether a run is under way; null where nobody can say, and `said` says why.
    next_at
        When the next one is due.
    """

    version: str
    latest: str | None
    last_run: LastRun | None
    running: bool | None
    next_at: dt.datetime
    said: str = ""


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run that is asked for.

    Attributes
    ----------
    retrain
        Whether it trains where the policy would not.
    date
        Day to run for, or again for; null = the next.
    """

    retrain: bool = False
    date: dt.date | None = None


class RunStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was begun.

    Attributes
    ----------
    run
        Its name in Airflow; null where the service's own machine runs it.
    address
        Where it can be followed.
    """

    run: str | None
    address: str


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of metrics that were posted.

    Attributes
    ----------
    recorded
        False = the very same ones had been recorded within the last minute.
    metrics
        How many there are.
    at
        When they were recorded.
    """

    recorded: bool
    metrics: int
    at: dt.datetime
    said: str = ""


_Posted = dict[Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)], float]

PostedBody = Annotated[_Posted, msgspec.Meta(min_length=1, max_length=MOST_METRICS)]
"""The body of metrics that are posted: finite numbers by name."""


def metrics_of(body: bytes) -> Metrics:
    """Read metrics by name.

    Raises
    ------
    NotJsonError
        The body is not JSON.
    RequestError
        It is not an object of 1 to 50 finite numbers.
    """
    if any(word in body for word in (b"NaN", b"Infinity")):  # no JSON, but what some libraries write
        raise RequestError("every metric must be a finite number; leave out the ones that are NaN or Infinity")
    found: Metrics = wire.decode(body, _Posted)
    if not 1 <= len(found) <= MOST_METRICS:
        raise RequestError(f"{len(found)} metrics, but a request must have 1 to {MOST_METRICS}; send the main ones")
    for name, value in found.items():
        if not math.isfinite(value):
            raise RequestError(f"metric {name!r} must be a finite number")
        if not name.isprintable() or name != name.strip():
            raise RequestError(f"the name {name!r} must be printable text without spaces around it")
    return found
