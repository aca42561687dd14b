"""How a run ended, told to people: the outcome, the report, the notifications."""

from __future__ import annotations

import datetime as dt

import structlog

from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.errors import LtrError
from ltr_pipeline.events.manifest import account_of
from ltr_pipeline.gate import document
from ltr_pipeline.gate.approval import Asking, said
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.report import diagnosis, notify
from ltr_pipeline.report.artefacts import DATASET, DECISION, EVIDENCE, EXAMPLES, INPUTS, OUTCOME, REPORT, TRAINED
from ltr_pipeline.report.champion import Alarm, alarm
from ltr_pipeline.report.night import Night
from ltr_pipeline.report.page import render
from ltr_pipeline.report.text import joined, sentence
from ltr_pipeline.runs.logs import run_log
from ltr_pipeline.runs.names import newest_judged, run_name
from ltr_pipeline.runs.run import Outcome, Run
from ltr_pipeline.settings import Settings, notify_urls
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.registry import Registry

__all__ = ["asking", "heard", "notify_failure", "tell", "write_outcome", "write_waiting"]

log = structlog.get_logger(__name__)


def write_outcome(run: Run, outcome: Outcome) -> bytes:
    """Write the outcome and the report; the report's bytes."""
    run.write(OUTCOME, outcome)
    return _write_report(run, outcome)


def write_waiting(run: Run) -> None:
    """Write the report of a run that waits for an answer; it has no outcome yet."""
    latest = _promoted(run.settings.registry)
    _write_report(run, Outcome(run=run.name, version=None, moved=False, reason="", latest=latest), waits=True)


def asking(run: Run) -> Asking:
    """Return what people were asked about the run's decision, and answered; NotFoundError when it was not judged."""
    return Asking(run.storage, run.folder, run.reference(DECISION.name)["sha256"])


def heard(run: Run, decision: Decision) -> str:
    """Say what came of leaving a decision to people; empty where it was not left to them."""
    if answer := asking(run).answer():
        return said(answer)
    if decision.verdict != "ask":
        return ""
    return f"a person decides this, and nobody could be asked (`ltr approve {run.name}` publishes it)"


def _write_report(run: Run, outcome: Outcome, *, waits: bool = False) -> bytes:
    page = render(_night(run, outcome, waits=waits)).encode()
    run.write(REPORT, page)
    return page


def _night(run: Run, outcome: Outcome, *, waits: bool) -> Night:
    """Gather all that the run has to tell."""
    inputs, manifest, trained = run.read(INPUTS), run.read(DATASET), run.read(TRAINED)
    evidence, decision, settings = run.read(EVIDENCE), run.read(DECISION), run.settings
    champion = inputs.champion if trained.untrained else evidence.champion.version  # None: it could not be loaded
    yesterday = Run(run_name(Version.parse(run.name).time - dt.timedelta(days=1)), settings, run.kind)
    return Night(
        run=run.name,
        date=inputs.date,
        simulated=inputs.simulated,
        because=inputs.because,
        landing=account_of(settings.data, inputs.landings) if inputs.landed else None,
        dataset=manifest,
        trained=None if trained.untrained else trained,
        evidence=evidence,
        decision=decision,
        version=outcome.version,
        promoted=outcome.moved,
        latest=outcome.latest,
        examples=run.read_if_readable(EXAMPLES),
        findings=diagnosis.of_run(run),
        answer="" if waits else heard(run, decision),
        waits=waits,
        note="" if outcome.moved or (outcome.version is None and decision.verdict != "publish") else outcome.reason,
        former=_champion_document(settings.registry, champion),
        yesterday=yesterday.read_if_readable(EVIDENCE),
        yesterday_dataset=yesterday.read_if_readable(DATASET),
        hashes=_hashes(trained, manifest, settings),
        libraries=document.libraries(),
        lineage=document.lineage(settings.seed, evidence.refreshed),
    )


def _hashes(trained: Trained, manifest: DatasetManifest, settings: Settings) -> dict[str, str]:
    return {"model": trained.model_sha256} | document.hashes(manifest, settings.mapping)


def _champion_document(registry: Registry, version: str | None) -> weights.Weights | None:
    """Read the champion's document; its model was loaded and its scores were checked when it was compared with."""
    try:
        return registry.documents.stored(version).weights if version else None
    except LtrError:
        return None  # altered or pruned since


def tell(run: Run) -> None:
    """Tell the channels how the run ended; a dead channel never fails it."""
    outcome, decision, inputs = run.read(OUTCOME), run.read(DECISION), run.read(INPUTS)
    landed = inputs.landed
    fallback = f"Events were read from files: {landed.fallback}" if landed and landed.fallback else ""
    simulated = "Its events are simulated." if inputs.simulated else ""
    dataset = run.read_if_readable(DATASET)
    latest = _promoted(run.settings.registry)
    unfair = alarm(decision, latest or outcome.latest, outcome.version)
    notes = [
        sentence(heard(run, decision)),
        simulated,
        joined(dataset) if dataset else "",
        *map(str, diagnosis.serious(diagnosis.of_run(run))[:1]),
        fallback,
    ]
    if decision.due:
        notes.insert(2, f"Why it trained: {inputs.because}.")
    links = {"report": _report(run), "board": run.settings.board}
    if outcome.version is None:
        note = "\n\n".join(filter(None, notes))
        say = notify.rejection if decision.due else notify.resting
        message = say(run.name, decision, latest=outcome.latest, alarm=unfair, note=note, **links)
    else:
        replaced = _since(outcome, latest)
        note = "\n\n".join(filter(None, [replaced, *notes]))
        message = notify.success(outcome.version, decision, promoted=not replaced, alarm=unfair, note=note, **links)
    notify.send(run.settings.notify_urls, message)


def _report(run: Run) -> str:
    """Return where people read the report: on the board where its address is known, else where it lies."""
    board = run.settings.board
    return f"{board}reports/{run.name}" if board else run.uri(REPORT)


def _since(outcome: Outcome, latest: str | None) -> str:
    """Say why the version is not in use, or nothing; the outcome of a run that is repeated can be an old one."""
    if outcome.moved and latest not in (outcome.version, None):
        return f"{outcome.version} was published before; {latest} has replaced it since."
    return "" if outcome.moved else outcome.reason


def notify_failure(
    run: str, task: str, error: BaseException | str, settings: Settings | None, *, logs: str = ""
) -> None:
    """Tell the channels that a run failed for good; what is published stays as it is.

    Parameters
    ----------
    run, task
        Where it happened.
    error
        The exception, or its text.
    settings
        None when they cannot be read: then the channels of the environment are told, and no version in use.
    logs
        Address of the task's log.
    """
    folder, style = (settings.log_folder, settings.log_format) if settings else (None, "json")
    urls = settings.notify_urls if settings else notify_urls()
    latest = _promoted(settings.registry) if settings else None
    unfair = _last_alarm(settings, latest) if settings and latest else None
    with run_log(folder, style=style, run=run, task=task):
        log.error("run failed", error=str(error), latest=latest)
        board = settings.board if settings else ""
        told = notify.failure(run, task, error, latest=latest, alarm=unfair, logs=logs, board=board)
        notify.send(urls, told)


def _last_alarm(settings: Settings, latest: str) -> Alarm | None:
    """Return what the newest judged night showed of the version in use; a failure is told without, where it must be."""
    try:
        name = newest_judged(settings.data)
        decision = Run(name, settings).read_if_readable(DECISION) if name else None
    except LtrError:
        return None
    found = alarm(decision, latest) if decision else None
    return found if found and found.raised else None


def _promoted(registry: Registry) -> str | None:
    """Return the version in use, if it can be known now."""
    try:
        return registry.promoted()
    except LtrError:
        return None
