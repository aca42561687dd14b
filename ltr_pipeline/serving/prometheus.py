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

PREDICTIONS: Final = Counter(
    "ltr_predictions_total", "Requests to rank, by version and outcome.", ["version", "outcome"]
)
DURATION: Final = Histogram(
    "ltr_prediction_duration_seconds", "Time from receiving a whole request to its answer, in seconds.", buckets=BUCKETS
)
FALLBACKS: Final = Counter("ltr_fallback_total", "Answers that the model did not score, by reason.", ["reason"])
IN_FLIGHT: Final = Gauge("ltr_in_flight_requests", "Requests that are being answered now.", multiprocess_mode="livesum")
MISSING: Final = Counter("ltr_missing_features_total", "Feature values that requests did not give.")
UNKNOWN: Final = Counter("ltr_unknown_features_requests_total", "Requests with features that the model does not have.")
RELOADS: Final = Counter(
    "ltr_reloads_total",
    "Attempts to take new weights, by outcome: loaded, refused, stepped back, failed.",
    ["outcome"],
)
LAST_POLL: Final = Gauge(
    "ltr_last_poll_timestamp_seconds",
    "Time of the last poll for weights, successful or not.",
    multiprocess_mode="livemin",
)
WEIGHTS_CREATED: Final = Gauge(
    "ltr_weights_created_timestamp_seconds",
    "Time when the weights in use were made, of hourly ones by their night; 0 = legacy weights.",
    multiprocess_mode="livemin",
)
EVENTS: Final = Counter("ltr_events_total", "Event messages, by kind and outcome.", ["kind", "outcome"])
SPOOL_EVENTS: Final = Gauge(
    "ltr_spool_events", "Events in the spool that are not delivered yet.", multiprocess_mode="livesum"
)
SPOOL_BYTES: Final = Gauge(
    "ltr_spool_bytes", "Bytes of the undelivered events in the spool.", multiprocess_mode="livesum"
)
SPOOL_AGE: Final = Gauge(
    "ltr_spool_oldest_seconds", "Age of the oldest undelivered event, in seconds.", multiprocess_mode="livemax"
)
LAST_JUDGED: Final = Gauge(
    "ltr_last_judged_timestamp_seconds",
    "Time of the newest nightly run that the gate has judged; 0 = none is known.",
    multiprocess_mode="livemax",
)
FAIRNESS_GAP: Final = Gauge(
    "ltr_weights_fairness_gap",
    "Noise-corrected fairness gap of the weights in use, by the newest judged run; 0 = it did not measure them.",
    multiprocess_mode="livemax",
)
UNFAIR: Final = Gauge(
    "ltr_weights_unfair",
    "1 = the newest judged run shows the weights in use to rank groups of people unequally.",
    multiprocess_mode="livemax",
)
NOT_DUE: Final = Gauge(
    "ltr_training_not_due",
    "1 = the newest judged run trained nothing, as by the retrain policy no training was due.",
    multiprocess_mode="livemax",
)

MONITORED: Final = Gauge(
    "ltr_monitored_timestamp_seconds",
    "Time when data or users were last looked at (drift and outcomes); 0 = never.",
    multiprocess_mode="livemax",
)
DRIFT: Final = Gauge(
    "ltr_drift", "1 = the newest day that was looked at differs from its references.", multiprocess_mode="livemax"
)
DRIFTED: Final = Gauge(
    "ltr_drifted_features", "Features of that day that differ from both references.", multiprocess_mode="livemax"
)
OUTCOME_ALERTS: Final = Gauge(
    "ltr_outcome_alerts",
    "Alerts of the newest outcomes, by kind: outcome, early, calibration.",
    ["kind"],
    multiprocess_mode="livemax",
)
UNREADABLE: Final = Gauge(
    "ltr_unreadable_records", "Records of the history that cannot be read.", multiprocess_mode="livemax"
)

VARIANT_LOADS: Final = Counter(
    "ltr_other_loads_total", "Variants that were loaded to compare with, and loads that failed.", ["outcome"]
)
INTERLEAVED: Final = Counter("ltr_interleaved_total", "Answers chosen for interleaving, by outcome.", ["outcome"])
SHADOWS: Final = Counter("ltr_shadow_total", "Answers chosen for the shadow, by outcome.", ["outcome"])
SHADOW_OVERLAP: Final = Histogram(
    "ltr_shadow_overlap_at_5",
    "Share of the served best 5 that are among the shadow's best 5.",
    ["version"],
    buckets=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
)
SHADOW_CORRELATION: Final = Histogram(
    "ltr_shadow_rank_correlation",
    "Spearman rank correlation of the scores of the served model and the shadow.",
    ["version"],
    buckets=(-0.5, 0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
SHADOW_SHIFT: Final = Histogram(
    "ltr_shadow_score_shift",
    "Mean score of the shadow minus that of the served model, in standard deviations of the served scores.",
    ["version"],
    buckets=(-2.0, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
)
SHADOW_DURATION: Final = Histogram(
    "ltr_shadow_duration_seconds",
    "Time that the shadow takes to read and score a request, in seconds.",
    ["version"],
    buckets=BUCKETS,
)
CLOSED: Final = Counter(
    "ltr_connections_closed_total", "Connections that were closed for breaking a limit, by reason.", ["reason"]
)
LOG_DROPPED: Final = Counter("ltr_log_lines_dropped_total", "Log lines that could not be written.")

for metric, outcomes in (
    (FALLBACKS, ("no_model", "error", "deadline")),
    (RELOADS, ("loaded", "refused", "failed", "stepped_back")),
    (VARIANT_LOADS, ("loaded", "failed")),
    (SHADOWS, ("compared", "skipped", "same", "not_loaded", "failed")),
    (CLOSED, ("not HTTP", "slow head", "pipelined", "large head", "slow body", "unread", "too many")),
    (INTERLEAVED, ("mixed", "same", "not_loaded", "slow", "failed")),
):
    for outcome in outcomes:
        metric.labels(outcome)  # exported from the start, at 0: Prometheus does not see a rise from nothing to 1
for kind in (IMPRESSIONS, FEEDBACK):
    EVENTS.labels(kind, "dropped")


@cache
def predictions(version: str, outcome: str) -> Counter:
    """Return the counter of one version and outcome; kept, as finding it by its labels costs more than counting."""
    return PREDICTIONS.labels(version, outcome)


def events(kinds: Iterable[str], outcome: str) -> None:
    """Count one event for each of the kinds."""
    for kind, count in Tally(kinds).items():
        EVENTS.labels(kind, outcome).inc(count)


def render() -> bytes:
    """Write all metrics in Prometheus' text format."""
    if SHARED not in os.environ:
        return generate_latest(REGISTRY)
    _forget_dead(Path(os.environ[SHARED]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead(folder: Path) -> None:
    """Drop the gauges of workers that are gone; their counters stay, so that no counter ever falls."""
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
