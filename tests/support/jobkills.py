"""Tasks of a night that are killed before everything they ask the operating system for.

Run as a script, so that children are forks of a process that has imported everything and started no thread. Below the
given folder, ``<task>/start`` is a project whose task is due and ``<task>/reference.json`` what it was handed; what
each kill leaves of it is put beside it, in ``<task>/1``, ``<task>/2``, ...
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pandas as pd  # noqa: F401 - pyarrow imports it when it makes its first scalar: once, rather than in every child
import structlog

from ltr_pipeline.jobs import approval, nightly
from ltr_pipeline.report.artefacts import WEIGHTS
from ltr_pipeline.runs.run import Json
from ltr_pipeline.versions.trial import end_trials, try_model
from ltr_pipeline.versions.weights import decode
from support.documents import document
from support.killing import die, finish, fork
from support.small import LENIENT, WHO, artefacts, small_settings


def approved(folder: Path, judged: Json) -> Json:
    """Answer what a person is asked, and publish: what Airflow does from the answer on, and again after a kill."""
    settings = small_settings(folder)
    approval.answer(judged, "scheduled/0", choice="publish", who="anna", why="fine", settings=settings)
    return nightly.publish_weights(judged, WHO, settings)


TASKS: dict[str, Callable[[Path, Json], Json]] = {
    "quality_gate": lambda folder, evaluated: nightly.quality_gate(evaluated, LENIENT, small_settings(folder)),
    "first publish": lambda folder, judged: nightly.publish_weights(judged, WHO, small_settings(folder)),
    "next publish": lambda folder, judged: nightly.publish_weights(judged, WHO, small_settings(folder)),
    "approved publish": approved,
    "keep over a refresh": lambda folder, judged: nightly.keep_previous(judged, small_settings(folder)),
}


def kill_everywhere(task: str, folder: Path) -> None:
    """Kill the task before each of its steps, until it ends before it is killed."""
    reference = json.loads((folder / "reference.json").read_bytes())

    def act_and_die(root: Path, before: int) -> None:
        die(root, before)
        TASKS[task](root, reference)

    for before in count(1):
        root = folder / str(before)
        shutil.copytree(folder / "start", root, symlinks=True)
        ended = finish(fork(lambda root=root, before=before: act_and_die(root, before)))
        if ended == 0:
            return
        assert ended == -signal.SIGKILL


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    try_model(document())  # here once, or each of dozens of forks would
    for each in TASKS:
        folder = Path(sys.argv[1]) / each
        if frozen := artefacts(small_settings(folder / "start")).get(WEIGHTS.name):
            try_model(decode(frozen))
        end_trials()
        kill_everywhere(each, folder)
