"""The answers to whoever asks for a page: content, status and headers, for any server that mounts the board."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board import page, proposals
from ltr_pipeline.board.asked import Asked, asked
from ltr_pipeline.board.kept import Kept
from ltr_pipeline.board.links import PAGES
from ltr_pipeline.board.page import Here
from ltr_pipeline.board.recommendations import Draft, draft
from ltr_pipeline.board.versions import chosen
from ltr_pipeline.errors import LtrError, NotFoundError, RequestError, ScoringError, UnknownVersionError
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions.documents import is_id

__all__ = ["Answer", "Answers", "gone_to", "missing", "told"]

HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with no-referrer, browsers would send their own forms without an origin
    "x-content-type-options": "nosniff",
}
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
FRAMES: Final = "; frame-ancestors 'self'"

TYPED: Final = ", by the board"
"""After a name that somebody types where no login says who they are."""


@dataclass(frozen=True)
class Answer:
    """A page in HTML, or where a browser is to go instead.

    Attributes
    ----------
    policy
        Its Content-Security-Policy; empty = that of the board's own pages.
    to
        Address to go to, relative, so that a prefix or a proxy in front changes nothing.
    """

    content: str | bytes = ""
    status: int = 200
    policy: str = ""
    to: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: who may frame it, what it may load, and that it is kept nowhere."""
        if self.to:
            return HEADERS | {"location": self.to}
        return HEADERS | {"content-security-policy": (self.policy or page.policy()) + FRAMES}


class Answers:
    """Answers what is asked of the board.

    Parameters
    ----------
    settings
        Where the database is whose recommendations are shown and answered.
    kept
        The facts.
    """

    def __init__(self, settings: Settings, kept: Kept) -> None:
        self._settings = settings
        self._kept = kept

    def page(self, name: str, words: Mapping[str, str], here: Here) -> Answer:
        """Answer with one of `PAGES`."""
        if name not in PAGES:
            return missing(here, "there is no such page")

        def tell() -> Answer:
            seen, kept = asked(words), self._kept
            if name == "recommendations":
                return self._recommendations(here, seen)
            report = kept.report(seen.date) if name == "drift" else None
            lists = kept.lists() if name == "predictions" else ()
            return Answer(page.render(name, kept.facts(), seen, here, report=report, lists=lists))

        return told(here, tell)

    def answered(self, form: Mapping[str, Sequence[str]], here: Here) -> Answer:
        """Take an answer to recommendations, and go back to their page; 409 with that page where it is refused."""

        def tell() -> Answer:
            given = draft(form)
            typed = given.who.strip()
            try:
                proposals.answer(self._settings, given, here.reader or (f"{typed}{TYPED}" if typed else ""))
            except ScoringError as error:
                return self._recommendations(here, Asked(run=given.run), given, str(error))
            return gone_to(here.links.page("recommendations", run=given.run))

        return told(here, tell)

    def feature(self, name: str, words: Mapping[str, str], here: Here) -> Answer:
        """Answer with the page of a feature."""

        def tell() -> Answer:
            seen = asked(words)
            report = self._kept.report(seen.date)
            found = page.feature_page(self._kept.facts(), seen, here, report, name)
            return Answer(found) if found else missing(here, "nothing is known of this feature on that day")

        return told(here, tell)

    def compare(self, words: Mapping[str, str], here: Here) -> Answer:
        """Answer with the page of two versions."""

        def tell() -> Answer:
            facts = self._kept.facts()
            names = chosen(facts, asked(words))
            if not all(names):
                return missing(here, "there are no two versions to compare")
            one, other = (self._kept.reader.weights(name) for name in names)
            return Answer(page.compare_page(facts, here, one, other))

        return told(here, tell)

    def report(self, run: str, here: Here) -> Answer:
        """Answer with the report of a run."""

        def tell() -> Answer:
            with suppress(NotFoundError):
                if is_id(run):
                    return Answer(self._kept.reader.report(run), policy=REPORT_POLICY)
            return missing(here, "there is no report of this night")

        return told(here, tell)

    def _recommendations(self, here: Here, seen: Asked, refused: Draft | None = None, problem: str = "") -> Answer:
        """Answer with the page of recommendations; 404 where there is no such run."""
        try:
            proposed = proposals.look(self._settings, seen)
        except ScoringError as error:
            return missing(here, str(error))
        facts = self._kept.facts()
        text = page.render("recommendations", facts, seen, here, proposed=proposed, draft=refused, problem=problem)
        return Answer(text, 409 if problem else 200)


def told(here: Here, tell: Callable[[], Answer]) -> Answer:
    """Return an answer, or one that says what is wrong with what was asked, or with the storage."""
    try:
        return tell()
    except RequestError as error:
        return Answer(page.message_page(here, "This address is wrong", str(error)), 422)
    except UnknownVersionError as error:
        return missing(here, str(error))
    except LtrError as error:
        return Answer(page.message_page(here, "Not now", str(error)), 503)


def gone_to(address: str) -> Answer:
    """Return the answer that sends a browser elsewhere, by another method than it came."""
    return Answer(status=303, to=address)


def missing(here: Here, said: str) -> Answer:
    """Return the answer that there is no such page."""
    return Answer(page.message_page(here, "Nothing here", said), 404)
