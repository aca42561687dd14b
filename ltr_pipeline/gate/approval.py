"""What people are asked where the gate cannot decide, and what they answered: two files in the folder of the matter.

Both name the matter by its SHA-256, which for a night is that of ``decision.json``. An answer to another one, such as
that of a decision made again, counts for nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from ltr_pipeline.errors import NotFoundError, RegistryError
from ltr_pipeline.printable import counted
from ltr_pipeline.storage.base import Storage

__all__ = [
    "ANSWER_FILE",
    "QUESTION_FILE",
    "Answer",
    "Asking",
    "Choice",
    "Question",
    "check_approvable",
    "reason_of",
    "said",
]

ANSWER_FILE: Final = "approval.json"
QUESTION_FILE: Final = "question.json"
LONGEST_REASON: Final = 500  # characters

Choice = Literal["publish", "keep"]
T = TypeVar("T")


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question that was asked.

    Attributes
    ----------
    about
        SHA-256 of the matter.
    id
        Of the question; a task that is tried again asks the same one.
    asked, until
        When, and until when it may be answered (UTC).
    link
        Where it is answered.
    """

    about: str
    id: str
    asked: dt.datetime
    until: dt.datetime
    link: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer, or what stands in its place.

    Attributes
    ----------
    about
        SHA-256 of the matter.
    question
        Id of the question; empty where somebody approved without being asked.
    choice
        What follows.
    who, why
        Of whom, and the reason given; both may be empty where `choice` is ``keep``.
    when
        In UTC.
    note
        Why it is ``keep``, where nobody chose that.
    """

    about: str
    question: str = ""
    choice: Choice
    who: str = ""
    why: str = ""
    when: dt.datetime
    note: str = ""


@dataclass(frozen=True)
class Asking:
    """The question about a matter and its answer, in a folder of a storage.

    Parameters
    ----------
    folder
        Key of the folder, without a slash at its end.
    about
        SHA-256 of the matter; what the folder holds about another one is as if it were not there.
    """

    storage: Storage
    folder: str
    about: str

    def question(self) -> Question | None:
        """Return the newest question that was asked."""
        return self._read(QUESTION_FILE, Question)

    def answer(self) -> Answer | None:
        """Return the answer that counts."""
        return self._read(ANSWER_FILE, Answer)

    def settled(self, question: str) -> Choice | None:
        """Return what was chosen so that it need not be asked: an approval, or any answer to this very question."""
        answer = self.answer()
        return answer.choice if answer and (answer.choice == "publish" or answer.question == question) else None

    def asked_until(self, question: str) -> str | None:
        """Return until when this very question may be answered, in ISO 8601; None where it was not asked before."""
        before = self.question()
        return before.until.isoformat() if before and before.id == question else None

    def ask(self, question: str, *, asked: dt.datetime, until: dt.datetime, link: str) -> None:
        """Note that a question was asked, and where it is answered."""
        self._write(QUESTION_FILE, Question(about=self.about, id=question, asked=asked, until=until, link=link))

    def hear(self, question: str, *, choice: Choice, who: str, why: str, unheard: str | None = None) -> Answer:
        """Store the answer to a question, and return the one that counts: nothing is approved without a reason.

        Parameters
        ----------
        question
            Its id.
        unheard
            Why nobody chose anything, where that is so; empty where the time was over.
        """
        why, note = reason_of(why), ""
        if unheard is not None:
            note = unheard or _overdue(self.question())
        elif choice == "publish" and not why:
            note = f"nothing is approved without a reason, and {who} gave none"
        when = dt.datetime.now(dt.UTC)
        counts: Choice = "keep" if note else choice
        return self.reply(
            Answer(about=self.about, question=question, choice=counts, who=who, why=why, when=when, note=note)
        )

    def approve(self, *, who: str, why: str) -> Answer:
        """Store an approval that nobody was asked for; the reason must be none that `reason_of` makes empty."""
        when = dt.datetime.now(dt.UTC)
        return self.reply(Answer(about=self.about, choice="publish", who=who, why=reason_of(why), when=when))

    def reply(self, answer: Answer) -> Answer:
        """Store an answer, and return the one that counts.

        Of two about the same matter an approval counts, and of two to the same question the first; so a second try
        ends as the first one did.
        """
        if self.settled(answer.question) is not None and (former := self.answer()):
            return former
        self._write(ANSWER_FILE, answer)
        return answer

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            found: Any = msgspec.json.decode(self.storage.get(f"{self.folder}/{name}"), type=kind)
        except (NotFoundError, msgspec.DecodeError):
            return None
        return found if found.about == self.about else None

    def _write(self, name: str, content: Question | Answer) -> None:
        data = msgspec.json.format(msgspec.json.encode(content, order="deterministic"))
        self.storage.put(f"{self.folder}/{name}", data)


def reason_of(text: object) -> str:
    """Return a reason as it was typed into a form, or nothing: without blanks around it, and not too long.

    >>> reason_of("  we looked at the lists  "), reason_of(None)
    ('we looked at the lists', '')
    """
    return str(text or "").strip()[:LONGEST_REASON]


def said(answer: Answer) -> str:
    """Say who answered what, and why.

    >>> when = dt.datetime(2025, 7, 15, tzinfo=dt.UTC)
    >>> said(Answer(about="", choice="publish", who="anna", why="we looked", when=when))
    'approved by anna: we looked'
    """
    if answer.note:
        return answer.note
    what = "approved" if answer.choice == "publish" else "kept"
    return f"{what} by {answer.who}" + (f": {answer.why}" if answer.why else "")


def _overdue(question: Question | None) -> str:
    """Say that nobody has answered a question in time."""
    if question is None:
        return "nobody answered in time"
    minutes = round((question.until - question.asked).total_seconds() / 60)
    return f"nobody answered within {counted(minutes, 'minute')}"


class Checked(Protocol):
    """A check, as far as an approval looks at it."""

    @property
    def status(self) -> str:
        """Whether it passed, or why it cannot be told."""

    @property
    def reason(self) -> str:
        """A sentence that says so."""


class Judgement(Protocol):
    """A decision, as far as an approval looks at it; those who show one have no room for what makes it."""

    @property
    def mode(self) -> str:
        """Of the gate."""

    @property
    def checks(self) -> Sequence[Checked]:
        """All of them."""

    @property
    def document(self) -> str | None:
        """SHA-256 of what may be published."""


def check_approvable(run: str, decision: Judgement) -> None:
    """Raise RegistryError where nobody may approve: only what the data could not decide is a matter for people."""
    failed = [check.reason for check in decision.checks if check.status == "fail"]
    if decision.mode == "dry_run":
        why = "it was a dry run; repeat it without"
    elif failed:
        why = f"a check failed, which no setting and nobody overrules: {'; '.join(failed)}"
    elif not decision.document:
        why = "there is nothing to publish"
    else:
        return
    raise RegistryError(f"run {run} cannot be approved: {why}")
