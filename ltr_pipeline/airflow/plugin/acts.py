"""The acts of people on the board: what a page shows before, and what is done then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Self

from ltr_pipeline.airflow.plugin.publish import publish
from ltr_pipeline.board import duel
from ltr_pipeline.board.confirm import Act, Confirmation, Tried, pinning, publishing, rolling_back
from ltr_pipeline.board.duel import Duel
from ltr_pipeline.board.facts import Facts
from ltr_pipeline.board.judged import judged
from ltr_pipeline.board.kept import Kept
from ltr_pipeline.errors import LtrError, RegistryError
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.trial import try_model
from ltr_pipeline.versions.weights import Weights

__all__ = ["Acts", "Asked"]

MOST_DUELS: Final = 64


class Asked(NamedTuple):
    """The fields of an act's form that the person does not type.

    Attributes
    ----------
    version, run
        What it is about.
    seen
        Number of the ledger's newest entry that the page has shown.
    decision
        SHA-256 of the run's decision that the page has shown.
    """

    version: str = ""
    run: str = ""
    seen: str = ""
    decision: str = ""

    @classmethod
    def of(cls, words: Mapping[str, str]) -> Self:
        """Return what an address or a form has of it."""
        return cls(*(words.get(name, "") for name in cls._fields))


class Acts:
    """Shows and does them.

    Parameters
    ----------
    settings
        Where data and registry are.
    kept
        The facts, which are read again after an act.
    """

    def __init__(self, settings: Settings, kept: Kept) -> None:
        self._settings = settings
        self._registry = settings.registry
        self._kept = kept
        self._duels: dict[tuple[str, str], Duel] = {}
        self._measuring = threading.Lock()

    def shown(self, act: Act, about: Asked) -> tuple[Facts, Confirmation, Asked]:
        """Return facts of now, what the page shows that an act is confirmed on, and what its form has to send.

        Raises
        ------
        LtrError
            What is asked for is not there, or cannot be read.
        """
        facts = self._kept.facts_of_now()
        if act == "publish":
            return facts, *self._publishing(facts, about.run)
        if not facts.moves:
            raise RegistryError("nothing was published yet, so there is nothing to roll back to, to pin or to unpin")
        seen = str(facts.moves[-1].seq)
        if act == "rollback":
            target = about.version or self._registry.ledger.former(facts.moves[-1])
            return facts, self._rolling_back(facts, target), Asked(version=target, seen=seen)
        return facts, pinning(facts, act), Asked(seen=seen)

    def do(self, act: Act, asked: Asked, *, who: str, why: str, move_id: str) -> Move:
        """Do it, and return the entry of the ledger; the same `move_id` again finds what was done.

        Raises
        ------
        OvertakenError
            What the page has shown is no longer so.
        LtrError
            It cannot be done.
        """
        registry = self._registry
        try:
            if act == "publish":
                return self._entry(publish(asked.run, asked.decision, who, why))
            seen = int(asked.seen)
            if act == "rollback":
                return registry.rollback(asked.version, who=who, why=why, move_id=move_id, seen=seen)
            pin = registry.pin if act == "pin" else registry.unpin
            return pin(who=who, why=why, move_id=move_id, seen=seen)
        finally:
            self._kept.again()

    def _rolling_back(self, facts: Facts, target: str) -> Confirmation:
        tried, in_use = _tried(lambda: self._registry.load(target)), self._in_use(facts)
        return rolling_back(facts, target, tried, in_use, self._duel(tried.weights, in_use))

    def _publishing(self, facts: Facts, run: str) -> tuple[Confirmation, Asked]:
        found = judged(self._settings.data, run)
        document, in_use = found.document, self._in_use(facts)
        tried = _tried(lambda: self._checked(document)) if document else Tried(None)
        shown = publishing(facts, found, tried, in_use, self._duel(tried.weights, in_use))
        return shown, Asked(run=found.run, decision=found.sha256)

    def _checked(self, document: bytes) -> Weights:
        """Return what a run froze, after its golden requests were scored."""
        found = weights.decode(document, keys=self._registry.documents.keys)
        try_model(found)
        return found

    def _entry(self, version: str) -> Move:
        ledger = self._registry.ledger
        found = ledger.published_or_pruned(ledger.head(), version)
        if found is None:
            raise RegistryError(f"{version} is not in the ledger")
        return found

    def _in_use(self, facts: Facts) -> Weights | None:
        """Return the document of the version in use; None where it cannot be read, which is no reason to stay there."""
        try:
            return self._kept.reader.weights(facts.promoted) if facts.promoted else None
        except LtrError:
            return None

    def _duel(self, one: Weights | None, other: Weights | None) -> Duel | None:
        """Compare two on the same rankings, once."""
        if one is None or other is None or one.version == other.version:
            return None
        if known := duel.recorded(one, other):
            return known
        key = one.model.sha256, other.model.sha256
        with self._measuring:
            if key not in self._duels:
                found = duel.apart(self._settings, one, other)
                if found.delta is None:  # it may be there the next time
                    return found
                self._duels[key] = found
                if len(self._duels) > MOST_DUELS:
                    del self._duels[next(iter(self._duels))]
            return self._duels[key]


def _tried(load: Callable[[], Weights]) -> Tried:
    """Try a model by loading it."""
    try:
        return Tried(load())
    except (LtrError, OSError) as error:
        return Tried(None, str(error))
