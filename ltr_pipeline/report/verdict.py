"""The verdict in plain sentences: which checks passed, what follows from that, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ltr_pipeline.gate.checks.check import Check, Status
from ltr_pipeline.gate.decision import Decision, blocks
from ltr_pipeline.report.champion import alarm
from ltr_pipeline.report.diagnosis import serious
from ltr_pipeline.report.night import Night
from ltr_pipeline.report.remedies import of_check
from ltr_pipeline.report.text import enumerated, sentence
from ltr_pipeline.report.wording import label

__all__ = ["LOOK_FIRST", "Headline", "headline"]

IN_USE_JUDGED: Final = "the model in use was judged"

LOOK_FIRST: Final = "What to look at first"
"""Title of the section of findings."""


class Headline(NamedTuple):
    """The verdict; `status` is that of a check and gives its colour and symbol.

    Attributes
    ----------
    lead
        What was found, and what became of it.
    advice
        What happens next, and what to do.
    alarm
        What is to be said of an unfair champion; empty where it is none.
    reasons
        Why the former model is kept, and what to do about it, check by check.
    """

    status: Status
    title: str
    lead: str
    advice: str
    alarm: str
    reasons: list[tuple[str, str]]


def headline(night: Night) -> Headline:
    """Tell the verdict on a night."""
    decision = night.decision
    if decision is None:
        return Headline("not_evaluable", "Not judged", _sentences(_in_use(night), night.note), "", "", [])
    status, title = _title(night, decision)
    tally = f"{_tally(decision.checks)}, {_so(night, decision)}"
    found = tally if decision.due else f"{decision.reasons[0]}; {IN_USE_JUDGED}: {tally}"
    lead = _sentences(found, night.answer, night.note)
    unfair = alarm(decision, night.latest, night.version)
    advice = _sentences(*_advice(night, decision))
    return Headline(status, title, lead, advice, str(unfair) if unfair else "", _reasons(decision))


def _title(night: Night, decision: Decision) -> tuple[Status, str]:
    if not decision.due:
        failed = len(decision.reasons) > 1
        return ("fail", "No training was due, but a check fails") if failed else ("pass", "No training was due")
    if night.version:
        return "pass", f"Published {night.version}" if night.promoted else "Published, latest unchanged"
    if decision.verdict == "publish":
        return "pass", "Passes the gate, not published"
    if night.waits:
        return _worst(decision), "Waits for an answer"
    if decision.mode == "dry_run":
        return "skipped", "Judged in a dry run"
    return _worst(decision), "Not published"


def _so(night: Night, decision: Decision) -> str:
    """Say what became of the model."""
    stays = _in_use(night)
    if not decision.due:
        return f"and {stays}"
    if night.version and night.promoted:
        return f"so {night.version} is published and now in use"
    if night.version:
        return f"so {night.version} is published, but {stays}"
    if decision.verdict == "publish":
        return f"so the new model may be published; {stays}"
    if night.waits:
        return f"so a person decides whether the new model is published; until then {stays}"
    if decision.mode == "dry_run":
        return f"but a dry run publishes nothing, whatever it finds; {stays}"
    return f"so the new model is not published and {stays}"


def _in_use(night: Night) -> str:
    return f"{night.latest} stays in use" if night.latest else "no version is in use yet"


_OUTCOMES: Final[dict[Status, str]] = {
    "fail": "failed",
    "inconclusive": "turned out inconclusive",
    "not_evaluable": "could not be made",
    "skipped": "did not apply",
}


def _tally(checks: list[Check]) -> str:
    """Say how many checks passed, and which did not."""
    passed = sum(check.status == "pass" for check in checks)
    if passed == len(checks):
        return f"all {passed} checks of the gate passed"
    parts = [f"{passed} of the gate's {len(checks)} checks passed"]
    for status, outcome in _OUTCOMES.items():
        names = [label(check) for check in checks if check.status == status]
        if names:
            parts.append(f"{len(names)} {outcome}" + (f" ({', '.join(names)})" if status != "skipped" else ""))
    return enumerated(parts)


def _advice(night: Night, decision: Decision) -> Iterator[str]:
    """Yield what happens next and what to do."""
    if night.version and night.promoted:
        yield "services load it when they next look, and nothing needs to be done"
        if night.former:
            yield f"should lists get worse, `ltr rollback` goes back to {night.former.version}"
    elif night.version:
        yield f"to use it all the same, `ltr rollback {night.version}`, then `ltr unpin`"
    elif not decision.due:
        yield f"nothing changes for users; `ltr run --date {night.date} --retrain` trains all the same"
    elif night.waits:
        yield f"where nobody answers in Airflow, `ltr approve {night.run}` with a reason publishes it later"
    elif decision.verdict != "publish" and decision.mode != "dry_run":
        later = "in an hour another refresh is made" if night.refreshed else "the next night trains a new model"
        yield f"nothing changes for users, and {later} on newer events"
        if serious(night.findings):
            yield f"begin with “{LOOK_FIRST}” below: it may be the cause"


def _reasons(decision: Decision) -> list[tuple[str, str]]:
    """Return why the former model is kept, each with what to do about it, which is said once."""
    todo = {
        check.reason: of_check(check.name, check.status)
        for check in decision.checks
        if blocks(check.status, decision.policy)
    }
    told = decision.reasons if decision.due else decision.reasons[1:]  # the first one leads the page
    said = {todo[reason]: reason for reason in reversed(told) if reason in todo}
    return [(reason, todo[reason] if said.get(todo.get(reason, "")) == reason else "") for reason in told]


def _sentences(*texts: str) -> str:
    return " ".join(sentence(part) for part in texts if part)


def _worst(decision: Decision) -> Status:
    statuses = {check.status for check in decision.checks}
    order: tuple[Status, ...] = ("fail", "inconclusive", "not_evaluable")
    return next((status for status in order if status in statuses), "skipped")
