"""How the nights ended: the verdict of each, why, and where its report is.

It imports little, as commands that look something up do; so files are named here, and read as far as they are needed.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from typing import Any, Final, Literal

import msgspec

from ltr_pipeline.errors import NotFoundError, SourceError
from ltr_pipeline.gate.approval import ANSWER_FILE, Asking
from ltr_pipeline.runs.names import (
    DATASET_FILE,
    DECISION_FILE,
    EVIDENCE_FILE,
    INPUTS_FILE,
    NIGHTS,
    OUTCOME_FILE,
    REFRESHES,
    REPORT_FILE,
    TRAINED_FILE,
)
from ltr_pipeline.runs.outcome import Outcome
from ltr_pipeline.settings import Settings
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.documents import is_id
from ltr_pipeline.versions.ids import Version

__all__ = ["PastNight", "nights", "report_of", "verdict_of"]

State = Literal["published", "kept", "not due", "unfinished"]

_TASKS: Final = {
    INPUTS_FILE: "extract_events",
    DATASET_FILE: "build_dataset",
    TRAINED_FILE: "train_ranker",
    EVIDENCE_FILE: "evaluate_ranker",
    DECISION_FILE: "quality_gate",
    OUTCOME_FILE: "publish_weights or keep_previous",
}
"""The task that writes each artefact, in their order."""


class PastNight(msgspec.Struct, frozen=True, kw_only=True):
    """A run as people ask about it.

    Attributes
    ----------
    run
        Its name, ``YYYYMMDD_HHMM`` (UTC).
    verdict
        ``published``, ``kept`` (the former version was left in use), ``not due`` (no training was), or ``unfinished``:
        still running, or failed.
    reason
        Why, in a sentence.
    version
        The version that it published, if any.
    report
        Address of its report, if it has one.
    """

    run: str
    verdict: State
    reason: str
    version: str | None
    report: str | None


def nights(settings: Settings, limit: int | None = None) -> list[PastNight]:
    """Return the newest runs, the newest first; all without a `limit`."""
    files = _files(settings.data)
    newest = heapq.nlargest(len(files) if limit is None else limit, files, key=Version.parse)
    return [_night(settings.data, name, files[name]) for name in newest]


def report_of(settings: Settings, name: str | None) -> tuple[str, bytes]:
    """Return the address and the bytes of the report of a night or a refresh, or of the newest night that has one.

    Raises
    ------
    SourceError
        There is no such report.
    """
    data = settings.data
    reported = {
        run: _key(run, REPORT_FILE)
        for run, found in _files(data).items()
        if REPORT_FILE in found and name in (None, run)
    }
    refresh = f"{REFRESHES}/{name}/{REPORT_FILE}"
    if name and not reported and is_id(name) and data.exists(refresh):
        reported = {name: refresh}
    if not reported:
        where = f"of run {name}" if name else f"below {data.uri(NIGHTS)}"
        raise SourceError(f"there is no report {where}; `ltr runs` lists the runs and where their reports are")
    key = reported[max(reported, key=Version.parse)]
    return data.uri(key), data.get(key)


def verdict_of(settings: Settings, name: str) -> dict[str, Any] | None:
    """Return what the gate decided in a run and how it ended, as its release wrote them; None without a decision."""
    data = settings.data
    decision = _json(data, _key(name, DECISION_FILE))
    if decision is None:
        return None
    report = _key(name, REPORT_FILE)
    return {
        "run": name,
        "decision": decision,
        "approval": _json(data, _key(name, ANSWER_FILE)),
        "outcome": _json(data, _key(name, OUTCOME_FILE)),
        "report": data.uri(report) if data.exists(report) else None,
    }


def _key(run: str, name: str) -> str:
    return f"{NIGHTS}/{run}/{name}"


def _json(data: Storage, key: str, kind: Any = Any) -> Any:  # noqa: ANN401 - whatever is there
    """Read a file, or give None: it is not there yet, or another release wrote it in another form."""
    try:
        return msgspec.json.decode(data.get(key), type=kind)
    except (NotFoundError, msgspec.DecodeError):
        return None


def _files(data: Storage) -> dict[str, set[str]]:
    """Return the names of the files in each run's folder."""
    files: defaultdict[str, set[str]] = defaultdict(set)
    for key in data.keys(NIGHTS):
        _, run, *name = key.split("/", 2)
        if name and is_id(run):
            files[run].add(name[0])
    return files


def _night(data: Storage, run: str, files: set[str]) -> PastNight:
    report = data.uri(_key(run, REPORT_FILE)) if REPORT_FILE in files else None
    outcome: Outcome | None = _json(data, _key(run, OUTCOME_FILE), Outcome) if OUTCOME_FILE in files else None
    if outcome:
        verdict: State = "published" if outcome.version else "kept" if outcome.due else "not due"
        return PastNight(run=run, verdict=verdict, reason=outcome.reason, version=outcome.version, report=report)
    return PastNight(run=run, verdict="unfinished", reason=_unfinished(data, run, files), version=None, report=report)


def _unfinished(data: Storage, run: str, files: set[str]) -> str:
    """Say which task has not ended."""
    if OUTCOME_FILE in files:
        return f"its {OUTCOME_FILE} cannot be read: another release wrote it, or it was altered"
    task = next(task for name, task in _TASKS.items() if name not in files)
    said = f"{task} has not ended: it is running, or it failed and its log in Airflow says why"
    if DECISION_FILE not in files:
        return said
    decision = _json(data, _key(run, DECISION_FILE))
    passed = isinstance(decision, dict) and decision.get("verdict") == "publish"
    return f"{said}; `ltr publish {run}` publishes what passed the gate" if passed else _waiting(data, run) or said


def _waiting(data: Storage, run: str) -> str:
    """Say where a question about a run is answered; empty where none is open."""
    asking = Asking(data, f"{NIGHTS}/{run}", hashlib.sha256(data.get(_key(run, DECISION_FILE))).hexdigest())
    question = None if asking.answer() else asking.question()
    if question is None:
        return ""
    return f"a person decides until {question.until:%Y-%m-%d %H:%M} UTC whether it is published: {question.link}"
