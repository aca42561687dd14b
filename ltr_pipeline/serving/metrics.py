"""Prometheus metrics of the service; with several workers they are summed over all of them."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["SHARED", "render"]

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


def render() -> bytes:
    """All metrics in Prometheus' text format."""
    if SHARED not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
