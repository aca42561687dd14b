"""Versions and the `latest` pointer, over any storage.

::

    20250714_0215/ltr_weights.json     a version: created once, never overwritten
    history/00000001.json              the ledger: what was promoted when, by whom and why
    latest/ltr_weights.json            the promoted version's document, byte for byte

The ledger is the truth and `latest` only projects its newest entry: whoever projects reads the ledger again
afterwards, and any later command repairs what a killed one left undone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Final, Literal, NamedTuple

import msgspec
import structlog

from ltr_pipeline.errors import (
    AlreadyExistsError,
    LtrError,
    NotFoundError,
    RegistryError,
    UnknownVersionError,
    WeightsError,
)
from ltr_pipeline.ledger import Act, Ledger, Move, Version
from ltr_pipeline.scoring import Candidate, Request, Scorer, rank
from ltr_pipeline.storage import Storage
from ltr_pipeline.weights import Weights, decode, encode

__all__ = ["DOCUMENT", "Listed", "Move", "Published", "Registry", "Verified", "Version", "check_golden"]

DOCUMENT: Final = "ltr_weights.json"
LATEST: Final = f"latest/{DOCUMENT}"
GOLDEN_TOLERANCE: Final = 1e-9

log = structlog.get_logger(__name__)


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a publish: whether this act moved `latest`, and a sentence of why or why not."""

    version: str
    moved: bool
    reason: str


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A version for people and machines; `sha256` is the file's, `problem` why the document cannot be read."""

    version: str
    sha256: str
    created_at: datetime | None
    is_latest: bool
    pinned: bool
    ndcg_at_5: float | None
    problem: str | None = None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a version loads, scores as recorded and is what was published; `problem` says what is wrong."""

    version: str
    ok: bool
    problem: str | None = None


def check_golden(weights: Weights) -> None:
    """Score the golden requests.

    Raises
    ------
    WeightsError
        A score is more than 1e-9 from the recorded one.
    RankerError
        The model cannot be loaded.
    """
    scorer = Scorer.from_model(weights.model.text, weights.feature_names)
    for golden in weights.golden:
        items = [Candidate(item_id=str(row), features=item) for row, item in enumerate(golden.items)]
        ranked = rank(Request(query_id=golden.query_id, items=items), scorer)
        off = [abs(one.score - golden.scores[int(one.item_id)]) for one in ranked]
        if not all(delta <= GOLDEN_TOLERANCE for delta in off):
            raise WeightsError(
                f"{weights.version}: golden request {golden.query_id} scores {max(off):.3g} off, so the model does not "
                "rank here as it did where it was trained; compare the library versions in the document"
            )


class _Stored(NamedTuple):
    weights: Weights
    sha256: str


class Registry:
    """All versions of one model.

    Every method may be called from several processes at once, and again after it was killed. `who` and `why` are kept
    in the ledger. A caller that may be tried again gives the act a `move_id` that stays the same (e.g. the run's id):
    the second try then finds and returns what the first one did.

    Parameters
    ----------
    storage
        Its root is the model's folder.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.ledger = Ledger(storage)

    def create(self, document: Weights) -> tuple[str, bool]:
        """Store a document under its version, or under ``_2``, ``_3``, ... where other content has that.

        Returns
        -------
        version, new
            The version that now holds this result, and whether this call created it; a result of the same identity
            that is there already stays as it is.
        """
        time = Version.parse(document.version).time
        for version in (str(Version(time, number)) for number in count(1)):
            data = encode(msgspec.structs.replace(document, version=version))
            try:
                self.storage.create(_key(version), data)
            except AlreadyExistsError:
                if self._identity(version) == document.identity:
                    return version, False
            else:
                log.info("version_created", version=version, bytes=len(data))
                return version, True
        raise AssertionError("count() does not end")

    def publish(self, document: Weights, *, who: str, why: str, move_id: str | None = None) -> Published:
        """Create the version, verify what was stored, enter it in the ledger, move `latest`.

        `latest` stays where it is when it is pinned, or when the document's data window ends before that of the
        promoted version (a backfill). A result that was published before is not published again.

        Raises
        ------
        WeightsError
            The document contradicts itself or its golden requests score differently here; nothing is promoted.
        """
        act = Act.of(who, why, move_id)
        check_golden(document)
        seen = self.ledger.head()
        version, new = self.create(document)
        stored = self._verified(version)
        after = seen.seq if seen and new else 0  # nobody entered a version before it existed

        def decide(head: Move | None) -> Move:
            published = self.ledger.find(head, lambda m: m.move == "publish" and m.version == version, after)
            return published or self._publication(head, stored, act)

        return _published(self._do(decide), act)

    def rollback(self, version: str | None = None, *, who: str, why: str, move_id: str | None = None) -> Move:
        """Move `latest` to `version` and pin it there, after verifying that it loads and scores as recorded.

        Without a version: to the one promoted before the present one, leaving out those that were rolled back from
        since they were last promoted. When `latest` is pinned to the version already, nothing is entered and the
        newest entry is returned.

        Raises
        ------
        UnknownVersionError
            There is no such version.
        RegistryError
            No former version is left.
        WeightsError
            The version does not load, or is not what was published.
        """
        act = Act.of(who, why, move_id)

        def decide(head: Move | None) -> Move:
            if move_id and (done := self.ledger.find(head, lambda m: m.move_id == move_id)):
                return done
            target = self.ledger.former(_known(head)) if version is None else version
            stored = self._verified(target, head)
            if head and head.pin and head.to == target:
                return head
            return act.entry(head, "rollback", target, to=target, pin=True, sha256=stored.sha256)

        return self._do(decide)

    def pin(self, *, who: str, why: str) -> Move:
        """Keep `latest` where it is until `unpin`; RegistryError when nothing was published yet."""
        return self._set_pin("pin", Act.of(who, why, None))

    def unpin(self, *, who: str, why: str) -> Move:
        """Let the next publish move `latest` again; moves nothing. RegistryError when nothing was published yet."""
        return self._set_pin("unpin", Act.of(who, why, None))

    def promoted(self) -> str | None:
        """Version that `latest` is by the ledger; None when nothing was published yet."""
        head = self.ledger.head()
        return head.to if head else None

    def history(self) -> list[Move]:
        """Whole ledger, oldest first; RegistryError when an entry is missing or altered."""
        self._tidy()
        return [*self.ledger.backwards(self.ledger.head())][::-1]

    def versions(self) -> list[Listed]:
        """Every version, newest first, those that cannot be read included."""
        self._tidy()
        head = self.ledger.head()
        return [self._listed(version, head) for version in self._ids()]

    def load(self, version: str) -> Weights:
        """Document of a version, checked whole, golden requests included.

        Raises
        ------
        UnknownVersionError
            There is no such version.
        WeightsError
            Its document was altered, contradicts itself, or does not score as recorded.
        """
        return self._verified(version).weights

    def verify(self) -> list[Verified]:
        """Check every version that is stored or in the ledger, newest first."""
        recorded = {move.version: move.sha256 for move in self.history() if move.move == "publish"}
        versions = sorted({*self._ids(), *recorded}, key=Version.parse, reverse=True)
        return [self._verdict(version, recorded.get(version)) for version in versions]

    def attach(self, version: str, name: str, data: bytes) -> None:
        """Store a file, e.g. the report, beside the document; created once like it: one that is there stays."""
        self._bytes(version)
        with suppress(AlreadyExistsError):
            self.storage.create(f"{version}/{name}", data)

    def attachments(self, version: str) -> list[str]:
        """Names of the files beside the document of a version."""
        self._bytes(version)
        return [name for key in self.storage.keys(version) if (name := key.removeprefix(f"{version}/")) != DOCUMENT]

    def repair(self) -> bool:
        """Point `latest` at what the ledger says until the ledger read afterwards agrees; whether it had to move."""
        moved = False
        while (version := self.promoted()) and not self._is_latest(version):
            self.storage.point(LATEST, _key(version))
            log.info("latest_moved", version=version)
            moved = True
        return moved

    def _do(self, decide: Callable[[Move | None], Move]) -> Move:
        entry = self.ledger.append(decide)
        self.repair()
        return entry

    def _publication(self, head: Move | None, stored: _Stored, act: Act) -> Move:
        version = stored.weights.version
        if head is None:
            return act.entry(None, "publish", version, to=version, pin=False, sha256=stored.sha256)
        held = self._held(head, stored.weights)
        to = head.to if held else version
        return act.entry(head, "publish", version, to=to, pin=head.pin, note=held, sha256=stored.sha256)

    def _held(self, head: Move, weights: Weights) -> str:
        """Say why a publish must leave `latest` alone; empty when it may move."""
        if head.pin:
            return f"latest is pinned to {head.to}; after `ltr unpin` the next publish moves it"
        try:
            promoted_end = self._stored(head.to).weights.data.window.end
        except (UnknownVersionError, WeightsError) as error:
            log.warning("promoted_version_unreadable", version=head.to, error=str(error))
            return ""  # a model that loads is better than one that does not
        end = weights.data.window.end
        return f"its data ends {end:%F %R}, that of {head.to} later, {promoted_end:%F %R}" if end < promoted_end else ""

    def _set_pin(self, move: Literal["pin", "unpin"], act: Act) -> Move:
        def decide(head: Move | None) -> Move:
            head = _known(head)
            return head if head.pin == (move == "pin") else act.entry(head, move, head.to, to=head.to, pin=not head.pin)

        return self._do(decide)

    def _ids(self) -> list[str]:
        """List the stored versions, newest first."""
        folders = (key.removesuffix(f"/{DOCUMENT}") for key in self.storage.keys("") if key.endswith(f"/{DOCUMENT}"))
        return sorted((name for name in folders if _is_id(name)), key=Version.parse, reverse=True)

    def _bytes(self, version: str) -> bytes:
        Version.parse(version)
        try:
            return self.storage.get(_key(version))
        except NotFoundError as error:
            raise UnknownVersionError(
                f"no version {version} in {self.storage.uri()}; `ltr versions` lists those there are"
            ) from error

    def _stored(self, version: str) -> _Stored:
        return self._parsed(version, self._bytes(version))

    def _parsed(self, version: str, data: bytes) -> _Stored:
        uri = self.storage.uri(_key(version))
        weights = decode(data, where=uri)
        if weights.version != version:
            raise WeightsError(f"{uri} holds version {weights.version}; restore it from a copy")
        return _Stored(weights, hashlib.sha256(data).hexdigest())

    def _verified(self, version: str, head: Move | None = None) -> _Stored:
        """Load and score; with a `head`, also compare with what the ledger says was published."""
        stored = self._stored(version)
        check_golden(stored.weights)
        published = self.ledger.find(head, lambda m: m.move == "publish" and m.version == version)
        if published and published.sha256 != stored.sha256:
            raise WeightsError(_replaced(version))
        return stored

    def _identity(self, version: str) -> str | None:
        try:
            return self._stored(version).weights.identity
        except WeightsError as error:
            log.warning("version_unreadable", version=version, error=str(error))
            return None

    def _is_latest(self, version: str) -> bool:
        document = self._bytes(version)
        try:
            return self.storage.get(LATEST) == document
        except NotFoundError:
            return False

    def _tidy(self) -> None:
        """Repair before reading; a reader that cannot write, or a damaged registry, is no reason to show nothing."""
        try:
            self.repair()
        except LtrError as error:
            log.warning("latest_not_repaired", error=str(error))

    def _listed(self, version: str, head: Move | None) -> Listed:
        data, weights, problem = self._bytes(version), None, None
        try:
            weights = self._parsed(version, data).weights
        except WeightsError as error:
            problem = str(error)
        is_latest = head is not None and head.to == version
        return Listed(
            version=version,
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=weights.created_at if weights else None,
            is_latest=is_latest,
            pinned=is_latest and head is not None and head.pin,
            ndcg_at_5=weights.ndcg_at_5 if weights else None,
            problem=problem,
        )

    def _verdict(self, version: str, published: str | None) -> Verified:
        try:
            stored = self._verified(version)
        except LtrError as error:
            return Verified(version=version, ok=False, problem=str(error))
        if published and published != stored.sha256:
            return Verified(version=version, ok=False, problem=_replaced(version))
        return Verified(version=version, ok=True)


def _published(entry: Move, act: Act) -> Published:
    if entry.move_id != act.move_id:
        reason = f"{entry.version} was published already on {entry.when:%F %R} UTC; nothing changed"
        return Published(version=entry.version, moved=False, reason=reason)
    reason = f"latest moved from {entry.before or 'nothing'} to {entry.to}"
    return Published(version=entry.version, moved=entry.moved, reason=entry.note or reason)


def _known(head: Move | None) -> Move:
    if head is None:
        raise RegistryError("nothing was published yet, so there is nothing to roll back, pin or unpin")
    return head


def _replaced(version: str) -> str:
    return f"{version} is not the document that was published: its sha256 differs from the ledger's; restore it"


def _key(version: str) -> str:
    return f"{version}/{DOCUMENT}"


def _is_id(name: str) -> bool:
    try:
        Version.parse(name)
    except UnknownVersionError:
        return False
    return True
