"""The nightly tasks in their order, for whoever runs them without Airflow; a test holds the DAG to the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ltr_pipeline.errors import LtrError
from ltr_pipeline.jobs.nightly import (
    build_dataset,
    evaluate_ranker,
    extract_events,
    keep_previous,
    publish_weights,
    quality_gate,
    train_ranker,
)
from ltr_pipeline.report.artefacts import DATASET, INPUTS
from ltr_pipeline.runs.run import Json, Run
from ltr_pipeline.settings import Settings

__all__ = ["CHAIN", "ENDS", "LAST", "PLACES", "TITLES", "finish", "judge", "rows_of"]

Task = Callable[[Json, Mapping[str, str], Settings | None], Json]

CHAIN: Final[dict[str, Task]] = {
    "extract_events": extract_events,
    "build_dataset": build_dataset,
    "train_ranker": lambda built, _, settings: train_ranker(built, settings),
    "evaluate_ranker": lambda trained, _, settings: evaluate_ranker(trained, settings),
    "quality_gate": quality_gate,
}
"""Tasks up to the verdict: the first takes the run's request, each other what the one before handed on."""

ENDS: Final = {"ask": "approve_weights", "publish": "publish_weights", "keep": "keep_previous"}
"""The task that follows each verdict."""

LAST: Final = "notify"

PLACES: Final = (*((task,) for task in CHAIN), tuple(ENDS.values()), (LAST,))
"""The tasks in the order in which a run does them; of those in one place it does one, or asks and then does one."""

TITLES: Final = {
    "extract_events": "land new events",
    "build_dataset": "build the dataset",
    "train_ranker": "train the ranker",
    "evaluate_ranker": "evaluate the ranker",
    "quality_gate": "judge the ranker",
    "approve_weights": "ask whether to publish",
    "publish_weights": "publish the weights",
    "keep_previous": "keep the former weights",
    "notify": "tell the channels",
}
"""Name of each task for people: the work it does."""


def rows_of(run: Run, task: str) -> int | None:
    """Return the rows that a task of a run was about; None where it is about none, or they cannot be known."""
    try:
        return _rows_of(run, task)
    except (LtrError, msgspec.DecodeError):  # they are told by the way, and must not fail a run
        return None


def _rows_of(run: Run, task: str) -> int | None:
    match task:
        case "extract_events":
            landed = run.read(INPUTS).landed
            return landed.impressions + landed.feedback if landed else None
        case "build_dataset":
            dataset = run.read(DATASET)
            return dataset.train.rows + dataset.valid.rows + dataset.test.rows
        case "train_ranker":
            return run.read(DATASET).train.rows
        case "evaluate_ranker":
            return run.read(DATASET).test.rows
    return None


def judge(
    handed: Json,
    variables: Mapping[str, str],
    settings: Settings | None = None,
    *,
    after: str = "",
    begun: Callable[[str], object] = lambda _: None,
) -> Json:
    """Do every task up to the verdict, and return the reference to the decision.

    Parameters
    ----------
    handed
        The run's request, or what the task `after` handed on, which has been done already.
    variables
        The Airflow Variables of the gate that are set.
    begun
        Is told the name of each task before it is done.
    """
    names = list(CHAIN)
    for name in names[names.index(after) + 1 if after else 0 :]:
        begun(name)
        handed = CHAIN[name](handed, variables, settings)
    return handed


def finish(judged: Json, who: str, settings: Settings | None = None) -> Json:
    """Publish or keep, as the verdict says, and return the outcome; what a person decides is kept, as none is here."""
    if ENDS[judged["verdict"]] == "publish_weights":
        return publish_weights(judged, who, settings)
    return keep_previous(judged, settings)
