"""Prometheus metrics of the service; with several workers they are summed over all of them."""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ltr_pipeline.schema import FEEDBACK, IMPRESSIONS

__all__ = ["SHARED", "events", "predictions", "render"]

SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS: Final = (0.001, 0.002, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)

PREDICTIONS: Final = Counter("ltr_predictions_total", "Answered requests to rank.", ["version", "outcome"])
DURATION: Final = Histogram("ltr_prediction_duration_seconds", "From a whole request to its answer.", buckets=BUCKETS)
FALLBACKS: Final = Counter("ltr_fallback_total", "Answers that the model did not score.", ["reason"])
IN_FLIGHT: Final = Gauge("ltr_in_flight_requests", "Requests being answered.", multiprocess_mode="livesum")
MISSING: Final = Counter("ltr_missing_features_total", "Feature values that were not given.")
UNKNOWN: Final = Counter("ltr_unknown_features_requests_total", "Requests with features the model does not have.")
RELOADS: Final = Counter(
    "ltr_reloads_total", "New weights taken, refused or stepped back from, and failed looks for them.", ["outcome"]
)
LAST_POLL: Final = Gauge(
    "ltr_last_poll_timestamp_seconds", "When weights were last looked for in vain or not.", multiprocess_mode="livemin"
)
WEIGHTS_CREATED: Final = Gauge(
    "ltr_weights_created_timestamp_seconds",
    "When the weights in use were made; 0 = legacy.",
    multiprocess_mode="livemin",
)
EVENTS: Final = Counter("ltr_events_total", "Events to log, by what became of them.", ["kind", "outcome"])
SPOOL_EVENTS: Final = Gauge("ltr_spool_events", "Events that are not delivered yet.", multiprocess_mode="livesum")
SPOOL_BYTES: Final = Gauge("ltr_spool_bytes", "Their bytes on disk.", multiprocess_mode="livesum")
SPOOL_AGE: Final = Gauge("ltr_spool_oldest_seconds", "Age of the oldest of them.", multiprocess_mode="livemax")
LAST_JUDGED: Final = Gauge(
    "ltr_last_judged_timestamp_seconds",
    "Moment of the newest nightly run whose gate has judged; 0 = none is known.",
    multiprocess_mode="livemax",
)

VARIANT_LOADS: Final = Counter("ltr_other_loads_total", "Loads of versions to compare with.", ["outcome"])
INTERLEAVED: Final = Counter("ltr_interleaved_total", "Answers that were to be interleaved.", ["outcome"])
SHADOWS: Final = Counter("ltr_shadow_total", "Answers that were to be scored by the shadow, too.", ["outcome"])
SHADOW_OVERLAP: Final = Histogram(
    "ltr_shadow_overlap_at_5",
    "Share of the best 5 that the shadow has among its best 5.",
    ["version"],
    buckets=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
)
SHADOW_CORRELATION: Final = Histogram(
    "ltr_shadow_rank_correlation",
    "Spearman's rank correlation of both models' scores.",
    ["version"],
    buckets=(-0.5, 0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
SHADOW_SHIFT: Final = Histogram(
    "ltr_shadow_score_shift",
    "Mean score of the shadow less that of the served, in standard deviations of the served.",
    ["version"],
    buckets=(-2.0, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
)
SHADOW_DURATION: Final = Histogram(
    "ltr_shadow_duration_seconds", "Reading and scoring by the shadow.", ["version"], buckets=BUCKETS
)
LOG_DROPPED: Final = Counter("ltr_log_lines_dropped_total", "Log lines that could not be written.")

for metric, outcomes in (
    (FALLBACKS, ("no_model", "error", "deadline")),
    (RELOADS, ("loaded", "refused", "failed", "stepped_back")),
    (VARIANT_LOADS, ("loaded", "failed")),
    (SHADOWS, ("compared", "skipped", "same", "not_loaded", "failed")),
    (INTERLEAVED, ("mixed", "same", "not_loaded", "slow", "failed")),
):
    for outcome in outcomes:
        metric.labels(outcome)  # there from the start, at 0: Prometheus does not see the rise from nothing to 1
for kind in (IMPRESSIONS, FEEDBACK):
    EVENTS.labels(kind, "dropped")


@cache
def predictions(version: str, outcome: str) -> Counter:
    """Count of one version and outcome; finding it by its labels costs more than counting."""
    return PREDICTIONS.labels(version, outcome)


def events(kinds: Iterable[str], outcome: str) -> None:
    """Count an event of each of these kinds."""
    for kind, count in Tally(kinds).items():
        EVENTS.labels(kind, outcome).inc(count)


def render() -> bytes:
    """All metrics in Prometheus' text format."""
    if SHARED not in os.environ:
        return generate_latest(REGISTRY)
    _forget_dead(Path(os.environ[SHARED]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead(folder: Path) -> None:
    """Drop the gauges of workers that are gone; what they counted stays, so that counters never fall."""
    for pid in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}:
        if not _runs(int(pid)):
            mark_process_dead(int(pid))  # type: ignore[no-untyped-call]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's: it runs
        pass
    return True
