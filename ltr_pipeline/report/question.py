"""The question that people are asked where the gate cannot decide: what they read in Airflow, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.printable import one_line
from ltr_pipeline.report.text import sentence
from ltr_pipeline.report.wording import GATE_COLUMNS, gate_rows

__all__ = ["about_run", "about_segments", "escaped"]

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")


def about_run(run: str, decision: Decision, *, latest: str | None, report: str) -> tuple[str, str]:
    """Return subject and body of the question whether to publish what a run has trained.

    Parameters
    ----------
    decision
        Every check, and in its reasons what the gate cannot decide.
    latest
        The version that stays in use otherwise.
    report
        Address of the report.
    """
    subject = f"Publish {run}? The gate cannot decide"
    otherwise = f"{latest} stays in use" if latest else "nothing is in use, as before the first version"
    body = _paragraphs(
        f"The gate leaves it to you whether {run} is published. If it is kept, {escaped(otherwise)}.",
        _list(decision.reasons),
        _table(GATE_COLUMNS, gate_rows(decision)),
        f"Report: `{one_line(report).replace('`', '')}`",
        "To publish, give a reason below: what you looked at, and why it is good enough. Without one it is kept. "
        "Who answers, and the reason, stand in the ledger, the report and the notification.",
    )
    return subject, body


def about_segments(said: Sequence[str]) -> tuple[str, str]:
    """Return subject and body of the question whether new segments take the place of those in use.

    Parameters
    ----------
    said
        Of each level whose former model stays, why.
    """
    body = _paragraphs(
        "Each new model below puts users or items together too differently from the one in use. Where it is taken, the "
        "same words mean other people from the next classification on.",
        _list(said),
        "To replace them, give a reason below. Without one, the former models stay.",
    )
    return "Replace the segments in use?", body


def escaped(text: str) -> str:
    r"""Return text of anybody's as Markdown that shows it as it is.

    >>> print(escaped("a|b <i> *c*"))
    a\|b \<i\> \*c\*
    """
    return _SPECIAL.sub(r"\\\1", one_line(text))


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(sentence(item))}" for item in items)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
