"""A run's decision as its file has it: the gate's own records would load what measures."""

from __future__ import annotations

import hashlib

import msgspec

from ltr_pipeline.errors import NotFoundError, RegistryError, SourceError
from ltr_pipeline.gate.approval import check_approvable
from ltr_pipeline.runs.names import DECISION_FILE, NIGHTS, OUTCOME_FILE
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.documents import DOCUMENT, is_id

__all__ = ["Judged", "Line", "judged"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A check, as `gate.checks.check.Check`."""

    name: str
    status: str
    reason: str = ""
    observed: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None


class _Decision(msgspec.Struct, frozen=True, kw_only=True):
    verdict: str
    checks: list[Line]
    reasons: list[str] = []
    mode: str = ""
    document: str | None = None


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    version: str | None = None


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A judged run.

    Attributes
    ----------
    sha256
        Of its decision, to which an approval is bound.
    checks
        The gate table.
    reasons
        Why it was kept.
    document
        The frozen weights document; None where there is none, or it is no longer the one that was judged.
    problem
        Why nobody can publish it by an approval; empty where somebody can.
    """

    run: str
    sha256: str
    checks: list[Line]
    reasons: list[str]
    document: bytes | None
    problem: str = ""


def judged(data: Storage, run: str) -> Judged:
    """Read what was judged in a run.

    Raises
    ------
    SourceError
        It has not been judged, or by another release.
    """
    folder = f"{NIGHTS}/{run}"
    if not is_id(run):
        raise SourceError(f"{run!r} is no run")
    try:
        raw = data.get(f"{folder}/{DECISION_FILE}")
        decision = msgspec.json.decode(raw, type=_Decision)
    except NotFoundError:
        raise SourceError(f"run {run} has not been judged") from None
    except msgspec.DecodeError:
        raise SourceError(f"the decision of run {run} cannot be read: another release wrote it") from None
    sha256 = hashlib.sha256(raw).hexdigest()
    document = _document(data, folder, decision)
    return Judged(
        run=run,
        sha256=sha256,
        checks=decision.checks,
        reasons=decision.reasons,
        document=document,
        problem=_problem(data, run, decision, document),
    )


def _document(data: Storage, folder: str, decision: _Decision) -> bytes | None:
    try:
        document = data.get(f"{folder}/{DOCUMENT}")
    except NotFoundError:
        return None
    return document if hashlib.sha256(document).hexdigest() == decision.document else None


def _problem(data: Storage, run: str, decision: _Decision, document: bytes | None) -> str:
    outcome = _outcome(data, f"{NIGHTS}/{run}")
    if outcome and outcome.version:
        return f"run {run} is published already, as {outcome.version}"
    if decision.verdict == "publish":
        return f"run {run} passed the gate, so nobody need approve it; `ltr publish {run}` publishes it"
    try:
        check_approvable(run, decision)
    except RegistryError as error:
        return str(error)
    return "" if document else f"the document of run {run} is no longer the one that was judged"


def _outcome(data: Storage, folder: str) -> _Outcome | None:
    try:
        return msgspec.json.decode(data.get(f"{folder}/{OUTCOME_FILE}"), type=_Outcome)
    except (NotFoundError, msgspec.DecodeError):
        return None
