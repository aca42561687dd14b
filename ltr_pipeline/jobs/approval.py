"""The question whether to publish what the gate cannot decide: asked in Airflow, answered there or by hand.

What is asked and answered stands in the run's folder, so that a task that is killed and tried again neither asks nor
decides anew.
"""

from __future__ import annotations

import datetime as dt

import structlog

from ltr_pipeline.errors import OvertakenError, RegistryError
from ltr_pipeline.gate.approval import Choice, check_approvable, reason_of
from ltr_pipeline.jobs.nightly import publish_weights
from ltr_pipeline.report import notify
from ltr_pipeline.report.artefacts import DECISION, REPORT
from ltr_pipeline.report.outcome import asking, write_waiting
from ltr_pipeline.report.question import about_run
from ltr_pipeline.report.wording import gate_table
from ltr_pipeline.runs.run import Json, judged, task
from ltr_pipeline.settings import Settings

__all__ = ["answer", "approve", "begin", "tell"]

log = structlog.get_logger(__name__)


def begin(handed: Json, question: str, settings: Settings | None = None) -> Json:
    """Return what to ask about a decision, or what has been chosen already.

    Parameters
    ----------
    handed
        Reference to the decision.
    question
        Id of the question; a task that is tried again gives the same.

    Returns
    -------
    ``choice`` where nothing is to be asked; else ``subject`` and ``body`` in Markdown, and where this very question was
    asked before, ``until`` when it may be answered (UTC).

    Raises
    ------
    RegistryError
        The decision leaves nothing to people.
    """
    with task("approve_weights", handed, DECISION, settings) as (run, decision):
        check_approvable(run.name, decision)
        known = asking(run)
        if choice := known.settled(question):
            return {"choice": choice}
        write_waiting(run)
        latest = run.settings.registry.promoted()
        subject, body = about_run(run.name, decision, latest=latest, report=run.uri(REPORT))
        return {"subject": subject, "body": body, "until": known.asked_until(question)}


def tell(handed: Json, question: str, link: str, until: dt.datetime, settings: Settings | None = None) -> None:
    """Tell the channels that a person is asked, and remember that they were told; a dead channel fails nothing."""
    with task("approve_weights", handed, DECISION, settings) as (run, decision):
        message = notify.question(
            f"LTR run {run.name}: publish it? The gate cannot decide",
            decision.reasons,
            until=until,
            link=link,
            table=gate_table(decision),
            report=run.uri(REPORT),
        )
        notify.send(run.settings.notify_urls, message)
        asking(run).ask(question, asked=dt.datetime.now(dt.UTC), until=until, link=link)
        log.info("a person is asked", question=question, until=until.isoformat(), link=link)


def answer(
    handed: Json,
    question: str,
    *,
    choice: Choice,
    who: str,
    why: str,
    unheard: str | None = None,
    settings: Settings | None = None,
) -> Choice:
    """Store what was answered, and return what follows from it; an answer to the same question before counts.

    Parameters
    ----------
    who, why
        As Airflow has the person, and as the person wrote it. Nothing is published without a reason.
    unheard
        Why nobody chose anything, where that is so; empty where the time was over.
    """
    with task("approve_weights", handed, DECISION, settings) as (run, _):
        counts = asking(run).hear(question, choice=choice, who=who, why=why, unheard=unheard)
        log.info("a person was asked", choice=counts.choice, who=counts.who, why=counts.why, note=counts.note)
        return counts.choice


def approve(name: str, who: str, why: str, settings: Settings, *, seen: str | None = None) -> Json:
    """Approve by hand what the gate of a run could not decide, publish it, and return the outcome.

    Parameters
    ----------
    seen
        SHA-256 of the decision that the person was shown; None = whichever it is.

    Raises
    ------
    OvertakenError
        The run was judged again since the person looked.
    RegistryError
        The reason is empty, the gate passed the run, or a check failed, which nobody overrules.
    SourceError
        No run of that name has been judged.
    """
    handed = judged(name, settings)
    with task("approve_weights", handed, DECISION, settings) as (run, decision):
        if not reason_of(why):
            raise RegistryError(f"run {name} is not approved without a reason: say what you looked at")
        if decision.verdict == "publish":
            raise RegistryError(f"run {name} passed the gate, so nobody need approve it; `ltr publish {name}`")
        check_approvable(name, decision)
        known = asking(run)
        if seen not in (None, known.about):
            raise OvertakenError(f"nothing was done, since run {name} was judged again since you looked; look again")
        known.approve(who=who, why=why)
    return publish_weights(handed, who, settings)
