"""The nightly tasks in their order, for whoever runs them without Airflow; a test holds the DAG to the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ltr_pipeline.jobs.nightly import (
    build_dataset,
    evaluate_ranker,
    extract_events,
    keep_previous,
    publish_weights,
    quality_gate,
    train_ranker,
)
from ltr_pipeline.runs.run import Json
from ltr_pipeline.settings import Settings

__all__ = ["CHAIN", "ENDS", "LAST", "finish", "judge"]

Task = Callable[[Json, Mapping[str, str], Settings | None], Json]

CHAIN: Final[dict[str, Task]] = {
    "extract_events": extract_events,
    "build_dataset": build_dataset,
    "train_ranker": lambda built, _, settings: train_ranker(built, settings),
    "evaluate_ranker": lambda trained, _, settings: evaluate_ranker(trained, settings),
    "quality_gate": quality_gate,
}
"""Tasks up to the verdict: the first takes the run's request, each other what the one before handed on."""

ENDS: Final = {"publish": "publish_weights", "keep": "keep_previous"}
"""The task that follows each verdict."""

LAST: Final = "notify"


def judge(handed: Json, variables: Mapping[str, str], settings: Settings | None = None, *, after: str = "") -> Json:
    """Do every task up to the verdict, and return the reference to the decision.

    Parameters
    ----------
    handed
        The run's request, or what the task `after` handed on, which has been done already.
    variables
        The Airflow Variables of the gate that are set.
    """
    names = list(CHAIN)
    for name in names[names.index(after) + 1 if after else 0 :]:
        handed = CHAIN[name](handed, variables, settings)
    return handed


def finish(judged: Json, who: str, settings: Settings | None = None) -> Json:
    """Publish or keep, as the verdict says, and return the outcome."""
    if ENDS[judged["verdict"]] == "publish_weights":
        return publish_weights(judged, who, settings)
    return keep_previous(judged, settings)
