"""What people may do on the board: what a page shows before, and what is done then."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Final, Literal

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


class Asked(dict[str, str]):
    """What an act is asked with: the version or run it is about, and what the page has shown of the ledger or run."""

    NAMES: Final = ("version", "run", "seen", "decision")

    @property
    def shown(self) -> tuple[str, ...]:
        """All of it, in one order."""
        return tuple(self.get(name, "") for name in self.NAMES)


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
        self._duels: OrderedDict[tuple[str, str], Duel] = OrderedDict()
        self._measuring = threading.Lock()

    def shown(self, act: Act, asked: Asked) -> tuple[Facts, Confirmation]:
        """Return what the page shows that an act is confirmed on, by facts of now.

        Raises
        ------
        LtrError
            What is asked for is not there, or cannot be read.
        """
        self._kept.again()
        facts = self._kept.facts()
        if facts.problem:
            raise RegistryError(facts.problem)
        seen = str(facts.moves[-1].seq) if facts.moves else "0"
        if act in ("pin", "unpin"):
            return facts, replace(pinning(facts, _pin(act)), hidden={"seen": seen})
        if act == "publish":
            found = judged(self._settings.data, asked.get("run", ""))
            hidden = {"run": found.run, "seen": seen, "decision": found.sha256}
            tried = self._tried(found.document)
            in_use = self._in_use(facts)
            shown = publishing(facts, found, tried, in_use, self._duel(tried.weights, in_use))
            return facts, replace(shown, hidden=hidden)
        if not facts.moves:
            raise RegistryError("nothing was published yet, so there is nothing to roll back to")
        target = asked.get("version") or self._registry.ledger.former(facts.moves[-1])
        tried, in_use = self._loaded(target), self._in_use(facts)
        shown = rolling_back(facts, target, tried, in_use, self._duel(tried.weights, in_use))
        return facts, replace(shown, hidden={"version": target, "seen": seen})

    def do(self, act: Act, asked: Asked, *, who: str, why: str, move_id: str) -> Move:
        """Do it, and return the entry of the ledger; the same `move_id` again finds what was done.

        Raises
        ------
        OvertakenError
            What the page has shown is no longer so.
        LtrError
            It cannot be done.
        """
        seen = int(asked.get("seen", "0"))
        try:
            match act:
                case "rollback":
                    version = asked.get("version", "")
                    return self._registry.rollback(version, who=who, why=why, move_id=move_id, seen=seen)
                case "pin":
                    return self._registry.pin(who=who, why=why, move_id=move_id, seen=seen)
                case "unpin":
                    return self._registry.unpin(who=who, why=why, move_id=move_id, seen=seen)
                case "publish":
                    return self._published(publish(asked.get("run", ""), asked.get("decision", ""), who, why))
        finally:
            self._kept.again()

    def _published(self, version: str) -> Move:
        ledger = self._registry.ledger
        found = ledger.published_or_pruned(ledger.head(), version)
        if found is None:
            raise RegistryError(f"{version} is not in the ledger")
        return found

    def _tried(self, document: bytes | None) -> Tried:
        """Try what a run froze."""
        if document is None:
            return Tried(None)
        try:
            found = weights.decode(document, keys=self._registry.documents.keys)
            try_model(found)
        except (LtrError, OSError) as error:
            return Tried(None, str(error))
        return Tried(found)

    def _loaded(self, version: str) -> Tried:
        """Try a version."""
        try:
            return Tried(self._registry.load(version))
        except (LtrError, OSError) as error:
            return Tried(None, str(error))

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
                found = duel.apart(self._settings.data_uri, self._settings.s3, one, other)
                if found.delta is None:  # it may be there the next time
                    return found
                self._duels[key] = found
                while len(self._duels) > MOST_DUELS:
                    self._duels.popitem(last=False)
            return self._duels[key]


def _pin(act: Act) -> Literal["pin", "unpin"]:
    return "pin" if act == "pin" else "unpin"
