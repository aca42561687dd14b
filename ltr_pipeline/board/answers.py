"""The answers to whoever asks for a page: content, status and headers, for any server that mounts the board."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ltr_pipeline.board import page
from ltr_pipeline.board.asked import asked
from ltr_pipeline.board.kept import Kept
from ltr_pipeline.board.links import PAGES
from ltr_pipeline.board.page import Here
from ltr_pipeline.board.versions import chosen
from ltr_pipeline.errors import LtrError, NotFoundError, RequestError, UnknownVersionError
from ltr_pipeline.versions.documents import is_id

__all__ = ["HEADERS", "Answer", "Answers", "missing", "told"]

HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with no-referrer, browsers would send their own forms without an origin
    "x-content-type-options": "nosniff",
}
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
FRAMES: Final = "; frame-ancestors 'self'"


@dataclass(frozen=True)
class Answer:
    """A page in HTML, its status, and its policy where it is not that of the board's own pages."""

    content: str | bytes
    status: int = 200
    policy: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: who may frame it, what it may load, and that it is kept nowhere."""
        return HEADERS | {"content-security-policy": (self.policy or page.policy()) + FRAMES}


class Answers:
    """Answers what is asked of the pages of facts."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def page(self, name: str, words: Mapping[str, str], here: Here) -> Answer:
        """Answer with one of `PAGES`."""
        if name not in PAGES:
            return missing(here, "there is no such page")

        def tell() -> Answer:
            seen, kept = asked(words), self._kept
            report = kept.report(seen.date) if name == "drift" else None
            lists = kept.lists() if name == "predictions" else ()
            return Answer(page.render(name, kept.facts(), seen, here, report=report, lists=lists))

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


def missing(here: Here, said: str) -> Answer:
    """Return the answer that there is no such page."""
    return Answer(page.message_page(here, "Nothing here", said), 404)
