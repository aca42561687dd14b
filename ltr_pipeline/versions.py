"""Versions and the `latest` pointer, over any storage.

::

    20250714_0215/ltr_weights.json     a version: created once, never overwritten
    20240101_0215/pruned.json          what is left of one that was pruned: its id is not used again
    history/00000001.json              the ledger: what was promoted when, by whom and why
    latest/ltr_weights.json            the promoted version's document, byte for byte

The ledger is the truth and `latest` only projects its newest entry: whoever projects reads the ledger again
afterwards, and any later command repairs what a killed one left undone. Pruning is a move like the others: what the
ledger says is gone is gone, whether its files are yet or not, so a rollback and a prune of one version cannot both win.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
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
from ltr_pipeline.scoring.requests import Candidate, Request
from ltr_pipeline.scoring.scorer import Scorer, rank
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.weights import Weights, decode, encode

__all__ = ["DOCUMENT", "LATEST", "Listed", "Move", "Published", "Registry", "Verified", "Version", "check_golden"]

DOCUMENT: Final = "ltr_weights.json"
PRUNED: Final = "pruned.json"
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


def check_golden(weights: Weights) -> Scorer:
    """Load the model and score the golden requests.

    Returns
    -------
    The loaded model.

    Raises
    ------
    WeightsError
        A score is more than 1e-9 from the recorded one.
    RankerError
        The model cannot be loaded.
    """
    scorer = Scorer.from_model(weights.model.text, weights.feature_names)
    for golden in weights.golden:
        candidates = [Candidate.of(str(row), item) for row, item in enumerate(golden.items)]
        ranked = rank(Request(query_id=golden.query_id, candidates=candidates), scorer)
        off = [abs(one.score - golden.scores[int(one.item_id)]) for one in ranked]
        if not all(delta <= GOLDEN_TOLERANCE for delta in off):
            raise WeightsError(
                f"{weights.version}: golden request {golden.query_id} scores {max(off):.3g} off, so the model does not "
                "rank here as it did where it was trained; compare the library versions in the document"
            )
    return scorer


class _Grave(msgspec.Struct, frozen=True, kw_only=True):
    """What stays of a pruned version; `identity` is null when its document could not be read."""

    version: str
    identity: str | None
    when: datetime
    who: str


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
    keys
        With keys every document is signed by the first, and what none of them signed is refused (`weights.decode`).
    mirror
        File (``….json``) or folder on this machine that also gets the promoted document, whole, for a service beside
        it. One that cannot be written is a warning in the log and is repaired by the next command.
    """

    def __init__(self, storage: Storage, *, keys: Sequence[bytes] = (), mirror: Path | None = None) -> None:
        self.storage = storage
        self.keys = tuple(keys)
        self.mirror = mirror / DOCUMENT if mirror and mirror.suffix != ".json" else mirror
        self.ledger = Ledger(storage)

    def create(self, document: Weights) -> tuple[str, bool]:
        """Store a document under its version, or under ``_2``, ``_3``, ... where other content has that.

        Returns
        -------
        version, new
            The version that now holds this result, and whether this call created it; a result of the same identity
            that is there already, or was until it was pruned, stays as it is.
        """
        time = Version.parse(document.version).time
        for version in (str(Version(time, number)) for number in count(1)):
            data = encode(msgspec.structs.replace(document, version=version), self.keys)
            grave = self._grave(version)
            if not grave:
                try:
                    self.storage.create(_key(version), data)
                except AlreadyExistsError:
                    if self._identity(version) == document.identity:
                        return version, False
                    continue
                grave = self._grave(version)  # pruned since, so that its name was free
                if not grave:
                    log.info("version_created", version=version, bytes=len(data))
                    return version, True
                self.storage.delete(_key(version))
            if grave.identity == document.identity:
                return version, False
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
        if not new and (grave := self._grave(version)):
            return Published(version=version, moved=False, reason=f"{_gone(grave)}; nothing changed")
        stored = self._verified(version)
        after = seen.seq if seen and new else 0  # nobody entered a version before it existed

        def decide(head: Move | None) -> Move:
            published = self.ledger.find(head, lambda m: m.move == "publish" and m.version == version, after)
            return published or self._publication(head, stored, act)

        return _published(self._do(decide), act)

    def rollback(
        self,
        version: str | None = None,
        *,
        who: str,
        why: str,
        move_id: str | None = None,
        leaving: str | None = None,
    ) -> Move:
        """Move `latest` to `version` and pin it there, after verifying that it loads and scores as recorded.

        Without a version: to the one promoted before the present one, leaving out those that were rolled back from
        since they were last promoted. When `latest` is pinned to the version already, nothing is entered and the
        newest entry is returned; so it is when `leaving` is given and `latest` is another version, or was pinned there
        by somebody: for machines, which must not undo what was decided since they looked.

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
            if leaving is not None and (_known(head).pin or _known(head).to != leaving):
                return _known(head)
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

    def prune(self, keep: int = 30, *, who: str, why: str, moves: int = 30, dry_run: bool = False) -> list[str]:
        """Remove old versions: their documents and what is beside them, for good.

        Of what the ledger has published, all stay that are among the newest `keep`, that are `latest` (pinned or not),
        that the newest `moves` entries name, and that a rollback would go to now. What was never entered (a publish
        that was killed) stays as well. A rollback at the same time either comes first in the ledger, and its version
        stays, or is told that the version was pruned.

        Returns
        -------
        The removed versions, newest first; of a `dry_run`, those that would be.

        Raises
        ------
        RegistryError
            Nothing was published yet, or `keep` or `moves` is less than 1.
        """
        if min(keep, moves) < 1:
            raise RegistryError(f"cannot keep {keep} versions and what {moves} moves need: give at least 1 of each")
        act, stored = Act.of(who, why, None), self.storage.keys("")
        old = _ids(stored)[keep:]

        def fates(head: Move) -> tuple[list[str], list[str]]:
            published, pruned = self.ledger.known(head, set(old) - self.ledger.needed(head, moves))
            return sorted(published, key=Version.parse, reverse=True), sorted(pruned)

        def decide(head: Move | None) -> Move:
            head = _known(head)
            goes, _ = fates(head)
            note = f"{len(goes)} versions removed, the newest {keep} kept"
            return (
                act.entry(head, "prune", head.to, to=head.to, pin=head.pin, note=note, pruned=tuple(goes))
                if goes
                else head
            )

        if dry_run:
            return fates(_known(self.ledger.head()))[0]
        entry = self._do(decide)
        for version in [*fates(entry)[1], *_unburied(stored)]:  # this act's, and what a killed one has left
            self._bury(version, entry)
        return list(entry.pruned) if entry.move_id == act.move_id else []

    def promoted(self) -> str | None:
        """Version that `latest` is by the ledger; None when nothing was published yet."""
        head = self.ledger.head()
        return head.to if head else None

    def history(self) -> list[Move]:
        """Whole ledger, oldest first; RegistryError when an entry is missing or altered."""
        self._tidy()
        return [*self.ledger.backwards(self.ledger.head())][::-1]

    def versions(self) -> list[Listed]:
        """Every version, newest first, those that cannot be read included and pruned ones not."""
        self._tidy()
        return self.listing()

    def listing(self, known: Sequence[Listed] = ()) -> list[Listed]:
        """As `versions`, but nothing is repaired and what is `known` from before is not read again.

        A version is never overwritten, so only whether `latest` is there can have changed; one with a problem is read.
        """
        head = self.ledger.head()
        gone = head.pruned if head else ()  # whether their files are or not
        read = {listed.version: listed for listed in known if not listed.problem}
        return [
            _marked(read.get(version) or self._listed(version), head)
            for version in _ids(self.storage.keys(""))
            if version not in gone
        ]

    def newest(self) -> str | None:
        """Version that was published last and is not pruned, whether `latest` moved to it or not; None without one."""
        gone = set[str]()
        for move in self.ledger.backwards(self.ledger.head()):
            gone.update(move.pruned)
            if move.move == "publish" and move.version not in gone:
                return move.version
        return None

    def document(self, version: str) -> bytes:
        """Document of a version as it is stored, unchecked; UnknownVersionError when there is none."""
        return self._bytes(version)

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
        """Check every version that is stored or in the ledger, newest first; pruned ones are neither."""
        history = self.history()
        recorded = {move.version: move.sha256 for move in history if move.move == "publish"}
        pruned = {version for move in history for version in move.pruned}
        versions = sorted({*_ids(self.storage.keys("")), *recorded} - pruned, key=Version.parse, reverse=True)
        return [self._verdict(version, recorded.get(version)) for version in versions]

    def attach(self, version: str, name: str, data: bytes) -> None:
        """Store a file, e.g. the report, beside the document; created once like it: one that is there stays.

        Beside a pruned version nothing is stored.
        """
        if self._grave(version):
            return
        self._bytes(version)
        with suppress(AlreadyExistsError):
            self.storage.create(f"{version}/{name}", data)

    def attachments(self, version: str) -> list[str]:
        """Names of the files beside the document of a version."""
        self._bytes(version)
        return [name for key in self.storage.keys(version) if (name := key.removeprefix(f"{version}/")) != DOCUMENT]

    def repair(self) -> bool:
        """Point `latest` at what the ledger says until the ledger read afterwards agrees; whether it had to move.

        The mirror follows it.
        """
        moved = False
        while version := self.promoted():
            try:
                document = self._bytes(version)
                if not self._is_latest(document):
                    self.storage.point(LATEST, _key(version))
                    log.info("latest_moved", version=version)
                    moved = True
                elif self._is_mirrored(version, document):
                    break
            except (NotFoundError, UnknownVersionError):
                if version == self.promoted():
                    raise
        return moved

    def _is_mirrored(self, version: str, document: bytes) -> bool:
        """Whether nothing is left to do about the mirror; after writing it there is: the ledger may have moved on."""
        if self.mirror is None:
            return True
        folder = LocalStorage(self.mirror.parent)
        try:
            if folder.exists(self.mirror.name) and folder.get(self.mirror.name) == document:
                return True
            self._parsed(version, document)
            folder.put(self.mirror.name, document)
        except LtrError as error:
            log.warning("mirror_not_written", version=version, path=str(self.mirror), error=str(error))
            return True
        log.info("mirror_written", version=version, path=str(self.mirror))
        return False

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

    def _grave(self, version: str) -> _Grave | None:
        """What is left of a pruned version; None for any other."""
        Version.parse(version)
        try:
            return msgspec.json.decode(self.storage.get(f"{version}/{PRUNED}"), type=_Grave)
        except NotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            uri = self.storage.uri(f"{version}/{PRUNED}")
            raise RegistryError(f"{uri} was altered or truncated: {error}; restore it from a copy") from error

    def _bury(self, version: str, entry: Move) -> None:
        """Remove the files of a version that the ledger says is pruned; first of all its id is taken for good."""
        grave = _Grave(version=version, identity=self._identity(version), when=entry.when, who=entry.who)
        with suppress(AlreadyExistsError):
            self.storage.create(f"{version}/{PRUNED}", msgspec.json.encode(grave))
        for key in self.storage.keys(version):
            if key != f"{version}/{PRUNED}":
                self.storage.delete(key)
        log.info("version_pruned", version=version)

    def _bytes(self, version: str) -> bytes:
        Version.parse(version)
        try:
            return self.storage.get(_key(version))
        except NotFoundError as error:
            if grave := self._grave(version):
                raise UnknownVersionError(f"{_gone(grave)}; choose one of `ltr versions`") from error
            raise UnknownVersionError(
                f"no version {version} in {self.storage.uri()}; `ltr versions` lists those there are"
            ) from error

    def _stored(self, version: str) -> _Stored:
        return self._parsed(version, self._bytes(version))

    def _parsed(self, version: str, data: bytes) -> _Stored:
        uri = self.storage.uri(_key(version))
        weights = decode(data, where=uri, keys=self.keys)
        if weights.version != version:
            raise WeightsError(f"{uri} holds version {weights.version}; restore it from a copy")
        return _Stored(weights, hashlib.sha256(data).hexdigest())

    def _verified(self, version: str, head: Move | None = None) -> _Stored:
        """Load and score; with a `head`, also compare with what the ledger says was published and not pruned."""
        stored = self._stored(version)
        check_golden(stored.weights)
        fate = self.ledger.fate(head, version)
        if fate and fate.move == "prune":
            grave = _Grave(version=version, identity=None, when=fate.when, who=fate.who)
            raise UnknownVersionError(f"{_gone(grave)}; choose one of `ltr versions`")
        if fate and fate.sha256 != stored.sha256:
            raise WeightsError(_replaced(version))
        return stored

    def _identity(self, version: str) -> str | None:
        try:
            return self._stored(version).weights.identity
        except (UnknownVersionError, WeightsError) as error:
            log.warning("version_unreadable", version=version, error=str(error))
            return None

    def _is_latest(self, document: bytes) -> bool:
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

    def _listed(self, version: str) -> Listed:
        data, weights, problem = self._bytes(version), None, None
        try:
            weights = self._parsed(version, data).weights
        except WeightsError as error:
            problem = str(error)
        return Listed(
            version=version,
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=weights.created_at if weights else None,
            is_latest=False,
            pinned=False,
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


def _marked(listed: Listed, head: Move | None) -> Listed:
    """Say whether the version is `latest`, and pinned."""
    is_latest = head is not None and head.to == listed.version
    return msgspec.structs.replace(listed, is_latest=is_latest, pinned=is_latest and head is not None and head.pin)


def _known(head: Move | None) -> Move:
    if head is None:
        raise RegistryError("nothing was published yet, so there is nothing to roll back, pin or unpin")
    return head


def _gone(grave: _Grave) -> str:
    return f"{grave.version} was pruned on {grave.when:%F %R} UTC by {grave.who}"


def _replaced(version: str) -> str:
    return f"{version} is not the document that was published: its sha256 differs from the ledger's; restore it"


def _key(version: str) -> str:
    return f"{version}/{DOCUMENT}"


def _ids(keys: Sequence[str]) -> list[str]:
    """Versions with a document among the keys of a registry, newest first."""
    return sorted(filter(_is_id, _folders(keys, DOCUMENT) - _folders(keys, PRUNED)), key=Version.parse, reverse=True)


def _unburied(keys: Sequence[str]) -> list[str]:
    """Pruned versions with a document among the keys: whoever pruned them was killed at it."""
    return sorted(filter(_is_id, _folders(keys, DOCUMENT) & _folders(keys, PRUNED)))


def _folders(keys: Sequence[str], name: str) -> set[str]:
    return {key.removesuffix(f"/{name}") for key in keys if key.endswith(f"/{name}")}


def _is_id(name: str) -> bool:
    try:
        Version.parse(name)
    except UnknownVersionError:
        return False
    return True
