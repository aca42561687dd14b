"""The page that somebody confirms an act on: what will change, and what speaks for it and against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from ltr_pipeline.board.duel import Duel
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.judged import Judged, Line
from ltr_pipeline.board.versions import Compared, compared
from ltr_pipeline.board.words import count
from ltr_pipeline.versions.weights import Weights

__all__ = ["ACTS", "LONGEST_REASON", "Act", "Confirmation", "Form", "Tried", "pinning", "publishing", "rolling_back"]

Act = Literal["rollback", "pin", "unpin", "publish"]
ACTS: Final[tuple[Act, ...]] = ("rollback", "pin", "unpin", "publish")
LONGEST_REASON: Final = 500  # characters


class Tried(NamedTuple):
    """A version that was tried: its document, where it can be read, and what is wrong with it; empty = nothing."""

    weights: Weights | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """All that the page shows.

    Attributes
    ----------
    act, title, button
        What is asked for, in a word, as a question, and as an order.
    changes
        What will be, in sentences.
    problem
        Why it cannot be done; empty = it can.
    golden
        What became of the golden requests, in a sentence.
    against
        The version that would be used beside the one in use.
    unmeasured
        Why it is not known which of them ranks better on the same rankings.
    checks
        What the gate said of a run.
    """

    act: Act
    title: str
    button: str
    changes: Sequence[str]
    problem: str = ""
    golden: str = ""
    against: Compared | None = None
    unmeasured: str = ""
    checks: Sequence[Line] = ()


class Form(NamedTuple):
    """The form on the page.

    Attributes
    ----------
    hidden
        Fields that the person does not type.
    reason, fault
        What was typed, and what is wrong with it.
    """

    hidden: Mapping[str, str]
    reason: str = ""
    fault: str = ""


def rolling_back(facts: Facts, target: str, tried: Tried, in_use: Weights | None, duel: Duel | None) -> Confirmation:
    """Tell what a rollback to a version changes.

    Parameters
    ----------
    tried
        The version, after its golden requests were scored.
    in_use
        The version that `latest` is; None where it cannot be read.
    """
    problem = tried.problem
    if target == facts.promoted and facts.moves[-1].pin:
        problem = f"`latest` is {target} already, and pinned to it"
    against = compared(tried.weights, in_use, duel) if tried.weights and in_use and target != facts.promoted else None
    return Confirmation(
        act="rollback",
        title=f"Roll back to {target}?",
        button="Roll back",
        changes=[
            f"`latest` moves from {facts.promoted} to {target}; services follow within `WEIGHTS_POLL_SECONDS`."
            if target != facts.promoted
            else f"`latest` stays {target}.",
            "It is pinned there: no night moves it until somebody unpins it.",
        ],
        problem=problem,
        golden=_golden(tried),
        against=against,
        unmeasured=_unmeasured(against),
    )


def pinning(facts: Facts, act: Literal["pin", "unpin"]) -> Confirmation:
    """Tell what pinning or unpinning changes."""
    version, pinned = facts.promoted, bool(facts.moves) and facts.moves[-1].pin
    if version is None:
        problem = "nothing was published yet"
    elif pinned == (act == "pin"):
        problem = f"`latest` is {version} and is {'pinned already' if pinned else 'not pinned'}"
    else:
        problem = ""
    changes = (
        [f"`latest` stays {version}, whatever the nights publish, until somebody unpins it."]
        if act == "pin"
        else [f"`latest` stays {version} for now.", "The next version that a night publishes takes its place."]
    )
    return Confirmation(
        act=act,
        title=f"Pin {version}?" if act == "pin" else f"Unpin {version}?",
        button="Pin" if act == "pin" else "Unpin",
        changes=changes,
        problem=problem,
    )


def publishing(facts: Facts, judged: Judged, tried: Tried, in_use: Weights | None, duel: Duel | None) -> Confirmation:
    """Tell what publishing a run changes that the gate has kept.

    Parameters
    ----------
    tried
        The run's frozen document, after its golden requests were scored.
    """
    pinned = bool(facts.moves) and facts.moves[-1].pin
    against = compared(tried.weights, in_use, duel) if tried.weights and in_use else None
    return Confirmation(
        act="publish",
        title=f"Publish run {judged.run}?",
        button="Publish",
        changes=[
            f"The model of run {judged.run} is published, though the gate could not decide: you approve this very "
            f"decision ({judged.sha256[:12]}).",
            f"`latest` stays {facts.promoted}, which it is pinned to."
            if pinned
            else f"`latest` moves to it, now {facts.promoted or 'nothing'}, unless its data is older.",
        ],
        problem=judged.problem or tried.problem,
        golden=_golden(tried),
        against=against,
        unmeasured=_unmeasured(against),
        checks=judged.checks,
    )


def _golden(tried: Tried) -> str:
    if tried.problem or tried.weights is None:
        return ""
    requests = tried.weights.golden
    items = sum(len(golden.items) for golden in requests)
    many = f"{count(len(requests), 'golden request')} ({count(items, 'item')})"
    return f"It loads here, and scores its {many} as it did where it was trained."


def _unmeasured(against: Compared | None) -> str:
    """Say why it is not known which ranks better."""
    if against is None or (against.duel and against.duel.delta):
        return ""
    return against.duel.reason if against.duel else "no night has compared the two"
