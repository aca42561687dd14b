"""One module a workflow, one function a task; they compose the rooms below.

The nightly tasks can be had from here as well, for DAG files that were copied from release 0.1; those call `notify`
by its former name.
"""

from ltr_pipeline.jobs.nightly import (
    build_dataset,
    check_date,
    evaluate_ranker,
    extract_events,
    keep_previous,
    notify,
    publish_weights,
    quality_gate,
    train_ranker,
)

notify_outcome = notify

__all__ = [
    "build_dataset",
    "check_date",
    "evaluate_ranker",
    "extract_events",
    "keep_previous",
    "notify",
    "notify_outcome",
    "publish_weights",
    "quality_gate",
    "train_ranker",
]
