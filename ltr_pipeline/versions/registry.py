"""Publish, roll back, pin and prune: every move of `latest` goes through the ledger.

Pruning is a move like the others: a version is gone when the ledger says so, whether its files are deleted yet or not.
So a rollback to a version and a prune of it cannot both win.

A *refresh* is an hourly version, refit from the nightly version that is its *parent*. It stands in for its parent for a
while: it takes the place of that one or of another refresh of it, any later nightly version takes its place, and where
a version is to be gone back to, or compared with, the parent is meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import msgspec
import structlog

from ltr_pipeline.errors import LtrError, OvertakenError, RegistryError, UnknownVersionError, WeightsError
from ltr_pipeline.printable import counted
from ltr_pipeline.signing import Key
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.documents import Documents, Stored, Tombstone, half_pruned_ids, is_id, stored_ids
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.latest import LATEST, Latest, mirror_file, replaced
from ltr_pipeline.versions.ledger import HISTORY, Act, Ledger, Move
from ltr_pipeline.versions.trial import try_model
from ltr_pipeline.versions.weights import Weights

__all__ = ["REFRESH_DAYS", "Listed", "Published", "Registry", "Verified"]

REFRESH_DAYS: Final = 7
"""A refresh that is not `latest` is kept for so long, and then pruned."""

SWEPT_DAYS: Final = 60
"""Where nightly versions are all kept, old refreshes are looked for among those published in so many days."""

log = structlog.get_logger(__name__)


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a publish: whether this act moved `latest`, and a sentence that says why or why not."""

    version: str
    moved: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.version}: {self.reason}"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A version in a listing.

    `sha256` is the file's hash, `parent` the nightly version that a refresh was refit from (None for a nightly one),
    `problem` says why the document cannot be read.
    """

    version: str
    sha256: str
    created_at: datetime | None
    is_latest: bool
    pinned: bool
    ndcg_at_5: float | None
    parent: str | None = None
    problem: str | None = None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The result of verifying a version: it loads, scores as recorded and is what was published, or has a `problem`.

    With a problem, `version` may also be ``ledger``, ``latest`` or the name of a folder.
    """

    version: str
    ok: bool
    problem: str | None = None


class Registry:
    """Publishes, lists and moves the versions of one model.

    Several processes may call every method at once, and again after one was killed. The ledger keeps `who` and `why`.
    A caller that may be tried again gives its act a `move_id` that stays the same, such as the run's id: the second try
    then finds and returns the entry of the first. One who has shown the ledger to a person gives the number of its
    newest entry as `seen`: when another has been entered since, nothing is done.

    Parameters
    ----------
    storage
        Storage whose root is the model's folder.
    keys
        With keys the first signs every document, and a document that none of them signed is refused (`weights.decode`).
    mirror
        File (``….json``) or folder on this machine that also gets the promoted document, whole, for a service beside
        it. When it cannot be written, the log has a warning, and the next command repairs it.
    """

    def __init__(self, storage: Storage, *, keys: Sequence[Key | bytes] = (), mirror: Path | None = None) -> None:
        self.storage = storage
        self.documents = Documents(storage, keys)
        self.ledger = Ledger(storage, self.documents.keys)
        self.latest = Latest(self.documents, self.ledger, mirror_file(mirror) if mirror else None)

    def publish(self, document: Weights, *, who: str, why: str, move_id: str | None = None) -> Published:
        """Create the version, verify the stored document, enter it in the ledger, and move `latest`.

        `latest` stays where it is when it is pinned, or when the data window ends before that of the promoted version
        (a backfill; where a refresh is promoted, before that of its parent). A refresh moves it only from its parent or
        another refresh of that. A result that was published before is not published again.

        Raises
        ------
        RegistryError
            The document is a refresh, and nothing was published yet that it could have been refit from.
        WeightsError
            The document contradicts itself or its golden requests score differently here; nothing is promoted.
        """
        act = Act.of(who, why, move_id)
        try_model(document)
        seen = self.ledger.head()
        if document.parent and seen is None:
            raise RegistryError(
                f"{document.version} was refit from {document.parent}, but nothing is published in "
                f"{self.storage.uri()} yet; publish {document.parent} first"
            )
        version, new = self.documents.create(document)
        if not new and (tombstone := self.documents.tombstone(version)):
            return Published(version=version, moved=False, reason=f"{tombstone}; nothing changed")
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
        seen: int | None = None,
    ) -> Move:
        """Move `latest` to `version` and pin it there, after verifying that it loads and scores as recorded.

        Without a version it goes to the nightly one promoted before the present one, leaving out those that were rolled
        back from since they were last promoted. When `latest` is pinned to the version already, nothing is entered and
        the newest entry is returned. The same happens when `leaving` is given and `latest` is another version by now,
        or somebody has pinned it: a machine must not undo what people decided since it looked.

        Raises
        ------
        UnknownVersionError
            There is no such version.
        RegistryError
            No former version is left.
        OvertakenError
            The ledger's newest entry is not `seen`.
        WeightsError
            The version does not load, or is not what was published.
        """
        act = Act.of(who, why, move_id)

        def decide(head: Move | None) -> Move:
            if done := self._done(head, move_id, seen):
                return done
            if leaving is not None and (_known(head).pin or _known(head).to != leaving):
                return _known(head)
            target = self.ledger.former(_known(head)) if version is None else version
            stored = self._verified(target, head)
            if head and head.pin and head.to == target:
                return head
            parent = stored.weights.parent
            return act.entry(head, "rollback", target, to=target, pin=True, sha256=stored.sha256, parent=parent)

        return self._do(decide)

    def expire(self, moment: datetime, *, who: str, why: str, move_id: str | None = None) -> Move | None:
        """Move `latest` from a refresh that was made before a moment back to its parent, after verifying that one.

        Parameters
        ----------
        moment
            When its time was over, such as that of a nightly run; what was refit later stays.

        Returns
        -------
        The entry of this act; None when `latest` is no refresh, a newer one, or pinned: then nothing is entered.

        Raises
        ------
        UnknownVersionError
            The parent is not there any more.
        WeightsError
            The parent does not load, or is not what was published.
        """
        act = Act.of(who, why, move_id)

        def decide(head: Move | None) -> Move:
            head = _known(head)
            nightly = self.ledger.nightly(head)
            done = self.ledger.find(head, lambda m: m.move_id == act.move_id or _publishes(m, nightly))
            if done and done.move_id == act.move_id:
                return done
            if head.to == nightly or head.pin or Version.parse(head.to).time >= moment:
                return head
            stored = self._verified(nightly, head)
            return act.entry(head, "expire", nightly, to=nightly, pin=False, sha256=stored.sha256)

        entry = self._do(decide) if self.ledger.head() else None
        return entry if entry and entry.move_id == act.move_id else None

    def pin(self, *, who: str, why: str, move_id: str | None = None, seen: int | None = None) -> Move:
        """Keep `latest` where it is until `unpin`; RegistryError before the first publish, OvertakenError."""
        return self._set_pin("pin", Act.of(who, why, move_id), move_id, seen)

    def unpin(self, *, who: str, why: str, move_id: str | None = None, seen: int | None = None) -> Move:
        """Let the next publish move `latest` again; it moves nothing now. RegistryError, OvertakenError as `pin`."""
        return self._set_pin("unpin", Act.of(who, why, move_id), move_id, seen)

    def prune(self, keep: int | None = 30, *, who: str, why: str, moves: int = 30, dry_run: bool = False) -> list[str]:
        """Remove old versions for good: their documents and the files beside them.

        Kept are the newest `keep` nightly versions (None = all), `latest` (pinned or not), the nightly versions that
        the newest `moves` entries name, the version that a rollback would go to now, refreshes of the last
        `REFRESH_DAYS`, and versions that were never entered in the ledger (a publish that was killed). The publishes of
        refreshes are not counted among the entries. A rollback at the same time either comes first in the ledger, and
        its version stays, or it learns that the version was pruned.

        Returns
        -------
        The removed versions, newest first; with `dry_run`, those that would be removed.

        Raises
        ------
        RegistryError
            Nothing was published yet, or `keep` or `moves` is less than 1.
        """
        if moves < 1 or (keep is not None and keep < 1):
            raise RegistryError(f"cannot keep {keep} versions and what {moves} moves need: give at least 1 of each")
        act, stored, now = Act.of(who, why, None), self.storage.keys(""), self.ledger.now()
        ids, since = stored_ids(stored), now - timedelta(days=SWEPT_DAYS) if keep is None else None

        def old(head: Move) -> list[Move]:
            """Return the publishes of the versions that go, newest version first."""
            entered, pruned = self.ledger.known(head, ids, since)
            nights = [v for v in ids if v not in pruned and not (v in entered and entered[v].parent)]
            goes = set() if keep is None else {*nights[keep:]} - self.ledger.needed(head, moves)
            over = now - timedelta(days=REFRESH_DAYS)
            goes |= {v for v, entry in entered.items() if entry.parent and entry.when < over and v != head.to}
            return [entered[v] for v in ids if v in goes & entered.keys()]

        def decide(head: Move | None) -> Move:
            head = _known(head)
            goes = old(head)
            note, pruned = _pruned(goes, keep), tuple(entry.version for entry in goes)
            return (
                act.entry(head, "prune", head.to, to=head.to, pin=head.pin, note=note, pruned=pruned) if goes else head
            )

        if dry_run:
            return [entry.version for entry in old(_known(self.ledger.head()))]
        entry = self._do(decide)
        gone = sorted(self.ledger.known(entry, ids, since)[1])
        for version in [*gone, *half_pruned_ids(stored)]:  # of this act, and of one that was killed
            self.documents.prune(version, when=entry.when, who=entry.who)
        return list(entry.pruned) if entry.move_id == act.move_id else []

    def promoted(self) -> str | None:
        """Return the version that `latest` is by the ledger; None when nothing was published yet."""
        return self.ledger.promoted()

    def history(self) -> list[Move]:
        """Return the whole ledger, oldest entry first; RegistryError when an entry is missing or altered."""
        return [*self.ledger.backwards(self.ledger.head())][::-1]

    def versions(self, known: Sequence[Listed] = ()) -> list[Listed]:
        """List every version, newest first, including those that cannot be read, but no pruned ones.

        Those that are `known` from before are not read again.

        A version is never overwritten, so only `is_latest` and `pinned` can have changed. A version with a problem is
        read again.
        """
        head = self.ledger.head()
        gone = head.pruned if head else ()  # even while their files are still there
        read = {listed.version: listed for listed in known if not listed.problem}
        return [
            _marked(read.get(version) or self._listed(version), head)
            for version in stored_ids(self.storage.keys(""))
            if version not in gone
        ]

    def newest(self) -> str | None:
        """Return the nightly version that was published last and is not pruned, `latest` or not; None without one."""
        gone = set[str]()
        for move in self.ledger.backwards(self.ledger.head(), anew=False):
            gone.update(move.pruned)
            if move.move == "publish" and move.parent is None and move.version not in gone:
                return move.version
        return None

    def load(self, version: str) -> Weights:
        """Read the document of a version, checked whole, golden requests included.

        Raises
        ------
        UnknownVersionError
            There is no such version.
        WeightsError
            Its document was altered, contradicts itself, or does not score as recorded.
        """
        return self._verified(version).weights

    def repair(self) -> bool:
        """Point `latest` and the mirror at the promoted version, and return whether `latest` had to move.

        Every command that writes does so as well; this is for a registry in which one was killed.

        Raises
        ------
        RegistryError
            The ledger was altered.
        WeightsError
            The promoted version's document is damaged; `latest` stays as it is.
        """
        return self.latest.repair()

    def verify(self) -> list[Verified]:
        """Verify all there is, and change nothing: the ledger, `latest`, every version, and what else lies there.

        The versions that are stored or in the ledger and not pruned come first, newest first. Then come the ledger and
        `latest` when they have a problem, and every folder that is none of the registry's.
        """
        keys = self.storage.keys("")
        ledger = Ledger(self.storage, self.documents.keys)  # it reads every entry anew
        history, problems = _history(ledger)
        recorded = {move.version: move.sha256 for move in history if move.move == "publish"}
        pruned = {version for move in history for version in move.pruned}
        versions = sorted({*stored_ids(keys), *recorded} - pruned, key=Version.parse, reverse=True)
        verdicts = [self._verdict(version, recorded.get(version)) for version in versions]
        broken = {verdict.version for verdict in verdicts if not verdict.ok}
        if history and history[0].to not in broken and (problem := self.latest.problem()):
            problems["latest"] = problem
        problems |= dict.fromkeys(_strays(keys), "is nothing of the registry's; move it away")
        return [
            *verdicts,
            *(Verified(version=name, ok=False, problem=problem) for name, problem in problems.items()),
        ]

    def _do(self, decide: Callable[[Move | None], Move]) -> Move:
        entry = self.ledger.append(decide)
        self.latest.repair()
        return entry

    def _publication(self, head: Move | None, stored: Stored, act: Act) -> Move:
        version, parent = stored.weights.version, stored.weights.parent
        if head is None:
            return act.entry(None, "publish", version, to=version, pin=False, sha256=stored.sha256)
        why_not = self._why_not_moved(head, stored.weights)
        to = head.to if why_not else version
        return act.entry(
            head, "publish", version, to=to, pin=head.pin, note=why_not, sha256=stored.sha256, parent=parent
        )

    def _why_not_moved(self, head: Move, weights: Weights) -> str:
        """Say why a publish must leave `latest` alone; empty when it may move it."""
        if head.pin:
            return f"latest is pinned to {head.to}; after `ltr unpin` the next publish moves it"
        nightly = self.ledger.nightly(head)
        if weights.parent and weights.parent != nightly:
            return f"it was refit from {weights.parent}, and {nightly} is in use by now"
        before = head.to if weights.parent else nightly  # a refresh ends later than the night that replaces it
        try:
            promoted_end = self.documents.stored(before).weights.data.window.end
        except (UnknownVersionError, WeightsError) as error:
            log.warning("promoted_version_unreadable", version=before, error=str(error))
            return ""  # a model that loads is better than one that does not
        end = weights.data.window.end
        return f"its data ends {end:%F %R}, that of {before} later, {promoted_end:%F %R}" if end < promoted_end else ""

    def _done(self, head: Move | None, move_id: str | None, seen: int | None) -> Move | None:
        """Return what an act has entered already; OvertakenError when it has not, and the head is not `seen`."""
        if move_id and (done := self.ledger.find(head, lambda m: m.move_id == move_id)):
            return done
        if seen is not None and head and head.seq != seen:
            raise OvertakenError(f"nothing was done, since the ledger has changed since you looked: {head}; look again")
        return None

    def _set_pin(self, move: Literal["pin", "unpin"], act: Act, move_id: str | None, seen: int | None) -> Move:
        def decide(head: Move | None) -> Move:
            if done := self._done(head, move_id, seen):
                return done
            head = _known(head)
            return head if head.pin == (move == "pin") else act.entry(head, move, head.to, to=head.to, pin=not head.pin)

        return self._do(decide)

    def _verified(self, version: str, head: Move | None = None) -> Stored:
        """Try a version; with a `head`, also check that it is the one published, and not pruned."""
        stored = self.documents.stored(version)
        try_model(stored.weights)
        entry = self.ledger.published_or_pruned(head, version)
        if entry and entry.move == "prune":
            tombstone = Tombstone(version=version, identity=None, when=entry.when, who=entry.who)
            raise UnknownVersionError(f"{tombstone}; choose one of `ltr versions`")
        if entry and entry.sha256 != stored.sha256:
            raise WeightsError(replaced(version))
        return stored

    def _listed(self, version: str) -> Listed:
        data, weights, problem = self.documents.read(version), None, None
        try:
            weights = self.documents.parsed(version, data).weights
        except WeightsError as error:
            problem = str(error)
        return Listed(
            version=version,
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=weights.created_at if weights else None,
            is_latest=False,
            pinned=False,
            ndcg_at_5=weights.ndcg_at_5 if weights else None,
            parent=weights.parent if weights else None,
            problem=problem,
        )

    def _verdict(self, version: str, published: str | None) -> Verified:
        try:
            stored = self._verified(version)
        except LtrError as error:
            return Verified(version=version, ok=False, problem=str(error))
        if published and published != stored.sha256:
            return Verified(version=version, ok=False, problem=replaced(version))
        return Verified(version=version, ok=True)


def _publishes(move: Move, version: str) -> bool:
    return move.move == "publish" and move.version == version


def _pruned(goes: Sequence[Move], keep: int | None) -> str:
    """Say how many versions a prune removes, and what stays."""
    refreshes = sum(entry.parent is not None for entry in goes)
    nights = len(goes) - refreshes
    of_nights = f"{counted(nights, 'version')} removed, the newest {keep} kept" if nights else ""
    of_hours = f"{counted(refreshes, 'hourly version')} older than {REFRESH_DAYS} days removed" if refreshes else ""
    return "; ".join(filter(None, (of_nights, of_hours)))


def _published(entry: Move, act: Act) -> Published:
    if entry.move_id != act.move_id:
        reason = f"{entry.version} was published already on {entry.when:%F %R} UTC; nothing changed"
        return Published(version=entry.version, moved=False, reason=reason)
    reason = f"latest moved from {entry.before or 'nothing'} to {entry.to}"
    return Published(version=entry.version, moved=entry.moved, reason=entry.note or reason)


def _strays(keys: Sequence[str]) -> list[str]:
    """Return the first folders of keys that are none of a registry's."""
    ours = {HISTORY, PurePosixPath(LATEST).parts[0]}
    return sorted({name for key in keys if (name := PurePosixPath(key).parts[0]) not in ours and not is_id(name)})


def _history(ledger: Ledger) -> tuple[list[Move], dict[str, str]]:
    """Read the ledger as far as it can be read, newest entry first, and the problem where it ends early."""
    moves: list[Move] = []
    try:
        for move in ledger.backwards(ledger.head()):
            moves.append(move)  # noqa: PERF402 - those before an altered one stay
    except LtrError as error:
        return moves, {"ledger": str(error)}
    return moves, {}


def _marked(listed: Listed, head: Move | None) -> Listed:
    """Mark whether the version is `latest`, and pinned."""
    is_latest = head is not None and head.to == listed.version
    return msgspec.structs.replace(listed, is_latest=is_latest, pinned=is_latest and head is not None and head.pin)


def _known(head: Move | None) -> Move:
    if head is None:
        raise RegistryError("nothing was published yet, so there is nothing to roll back, pin or unpin")
    return head
