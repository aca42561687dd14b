"""The ledger: every move of `latest` is one object, numbered without gaps.

Each of ``history/00000001.json``, ``history/00000002.json``, ... is created only if it is not there. That one operation
decides every race: of several processes that see the same newest entry exactly one creates the next; the others read
again and decide again. The newest entry is the whole state.

Each entry carries the SHA-256 of the one before it, so that an entry which was edited or removed is noticed by its
successor. The newest has none: ``history/newest.json`` says its number and hash. That file is written after the entry,
so it may be behind, when a process was killed in between or two wrote at once; then the entries from there on have to
follow each other. It is never ahead.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Literal, NamedTuple
from uuid import uuid4

import msgspec
import structlog

from ltr_pipeline import signing
from ltr_pipeline.errors import AlreadyExistsError, NotFoundError, RegistryError, StorageError
from ltr_pipeline.printable import one_line
from ltr_pipeline.signing import Key
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version, hourly

__all__ = ["HISTORY", "Act", "Kind", "Ledger", "Move"]

HISTORY: Final = "history"
NEWEST: Final = f"{HISTORY}/newest.json"
LISTED: Final = re.compile(rf"{HISTORY}/([0-9]{{8}})\.json")
Kind = Literal["publish", "rollback", "expire", "pin", "unpin", "prune"]

log = structlog.get_logger(__name__)


class Move(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"before": "from"},
):
    """An entry of the ledger: one move of `latest`, or of its pin.

    Attributes
    ----------
    seq
        1, 2, 3, ...
    version
        Version that was published, or went back to, pinned or unpinned; of a prune, the version that `latest` is.
    before, to
        Versions that `latest` was and is; equal when it did not move. `before` is ``"from"`` in JSON, null in the first
        entry.
    pin
        Whether `latest` is pinned from now on.
    who, when, why
        Author, time (UTC) and reason, for people.
    note
        Why a publish left `latest` alone, or how much was pruned; else empty.
    move_id
        Identity of the act: an act that is tried again finds its own entry instead of making a second one.
    sha256
        Hash of the version's document, where the move read it.
    pruned
        Versions that are gone for good from this entry on; their ids are never used again.
    parent
        Where a refresh was published or rolled back to: the nightly version that it was refit from; else None.
    previous
        SHA-256 of the entry before, as it is stored; empty in the first. None in entries of releases before 0.2.
    signature
        Of the entry without this field; None where no key is set.
    """

    seq: int
    move: Kind
    version: str
    before: str | None
    to: str
    pin: bool
    who: str
    when: datetime
    why: str
    note: str
    move_id: str
    sha256: str | None
    pruned: tuple[str, ...] = ()
    parent: str | None = None
    previous: str | None = None
    signature: str | None = None

    @property
    def moved(self) -> bool:
        """Return whether `latest` changed."""
        return self.before != self.to

    def __str__(self) -> str:
        """Say what became of `latest`, by whom and why."""
        return one_line(f"{self._what} ({self.move} by {self.who}: {self.why}){self._then}")

    def __repr__(self) -> str:
        return f"<Move {self.seq}, {self.when:%F %R} UTC: {self}>"

    @property
    def _what(self) -> str:
        if self.before is None:
            return f"latest is {self.to}, the first version"
        if self.moved:
            kind = f", {hourly(self.parent)}" if self.parent else ""
            return f"latest moved from {self.before} to {self.to}{kind}"
        kind = f" ({hourly(self.parent)})" if self.parent else ""
        published = f"{self.version}{kind} was published, " if self.move == "publish" else ""
        return f"{published}latest stays {self.to}"

    @property
    def _then(self) -> str:
        if self.note:
            return f"; {self.note}"
        if self.pin:
            return ", pinned until `ltr unpin`"
        return "; the next publish moves it" if self.move == "unpin" else ""


class Act(NamedTuple):
    """The author and reason of an act, with one identity however often it is tried."""

    who: str
    why: str
    move_id: str

    @classmethod
    def of(cls, who: str, why: str, move_id: str | None) -> Act:
        """Make an act; without an identity it gets one of its own."""
        return cls(who, why, move_id or uuid4().hex)

    def entry(
        self,
        head: Move | None,
        move: Kind,
        version: str,
        *,
        to: str,
        pin: bool,
        note: str = "",
        sha256: str | None = None,
        pruned: tuple[str, ...] = (),
        parent: str | None = None,
    ) -> Move:
        """Make the entry that follows `head`."""
        return Move(
            seq=_seq(head) + 1,
            move=move,
            version=version,
            before=head.to if head else None,
            to=to,
            pin=pin,
            who=self.who,
            when=datetime.now(UTC),
            why=self.why,
            note=note,
            move_id=self.move_id,
            sha256=sha256,
            pruned=pruned,
            parent=parent,
        )


class _Newest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entry that was the newest when this was written."""

    seq: int
    sha256: str


class _Entry(NamedTuple):
    """An entry as it is stored."""

    move: Move
    sha256: str


# Made by the one thread that imports this: msgspec crashes where several are the first to read a type at the same time.
_MOVES: Final = msgspec.json.Decoder(Move)
_NEWEST: Final = msgspec.json.Decoder(_Newest)


class Ledger:
    """Reads and appends the entries below ``history/`` in a storage.

    Parameters
    ----------
    storage
        Storage whose root is the model's folder.
    keys
        The first that can sign signs every entry. With keys an entry that none of them signed is refused, unless no
        entry before it is signed either: then it is older than the keys.

    Attributes
    ----------
    clock
        Tells the time that entries get instead of now; a simulation has a calendar of its own.
    """

    def __init__(self, storage: Storage, keys: Sequence[Key] = ()) -> None:
        self.storage = storage
        self.clock: Callable[[], datetime] | None = None
        self._keys = keys
        self._seen: dict[int, _Entry] = {}

    def head(self) -> Move | None:
        """Return the newest entry, by one listing and three reads; None when there is none yet.

        Raises
        ------
        RegistryError
            It was altered or removed, or does not follow the entry before it.
        """
        head, _ = self._head()
        return head.move if head else None

    def _head(self) -> tuple[_Entry | None, bool]:
        """Read the newest entry, and whether it is known to be the newest."""
        keys = self.storage.keys(HISTORY)
        newest, recorded = _highest(keys), self._recorded() if NEWEST in keys else None
        if recorded and recorded.seq > newest:  # another process has entered one since the listing, or it is gone
            newest = _highest(self.storage.keys(HISTORY))
        if not newest and not recorded:
            return None, True
        if recorded and recorded.seq > newest:
            raise RegistryError(
                f"the ledger's newest entry is gone: {self.storage.uri(NEWEST)} names entry {recorded.seq}, but "
                f"{newest or 'none'} is the last there; restore it from a copy"
            )
        entry = self._read(newest)
        older = entry
        while recorded and older.move.seq > recorded.seq:
            older = self._read_before(older)
        if recorded and older.sha256 != recorded.sha256:
            raise RegistryError(f"{self._uri(recorded.seq)} was altered: {_RESTORE}")
        if older is entry and newest > 1:
            self._read_before(entry)
        self._check_signed(entry.move)
        return entry, recorded is not None and recorded.seq == newest

    def _recorded(self) -> _Newest | None:
        """Read what is known of the newest entry, if anything is: ledgers of releases before 0.2 have no such file."""
        try:
            return _NEWEST.decode(self.storage.get(NEWEST))
        except NotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(f"{self.storage.uri(NEWEST)} was altered: {error}; {_RESTORE}") from error

    def promoted(self) -> str | None:
        """Return the version that `latest` is by the newest entry; None when nothing was published yet."""
        head = self.head()
        return head.to if head else None

    def append(self, decide: Callable[[Move | None], Move]) -> Move:
        """Append the entry that `decide` makes from the head; when another process was first, decide again.

        When nothing is left to do, `decide` returns an entry that is there already.
        """
        while True:
            entry, known = self._head()
            head = entry.move if entry else None
            move = decide(head)
            if move.seq <= _seq(head):
                if not known and head:  # a process was killed after it had created that
                    self._noted(head.seq)
                return move
            if self._create(self._sealed(move, head)):
                return self._noted(move.seq)

    def backwards(self, head: Move | None, after: int = 0, *, anew: bool = True) -> Iterator[Move]:
        """Yield the entries from `head` down to the one after entry `after`, reading them one by one.

        Unless they are to be read `anew`, an entry this object has read before is not read again: entries are never
        edited.

        Raises
        ------
        RegistryError
            An entry is missing or altered.
        """
        if head and head.seq > after:
            entry = self._read(head.seq) if anew else self._seen.get(head.seq) or self._read(head.seq)
            yield entry.move
            while entry.move.seq > after + 1:
                entry = self._read_before(entry, anew=anew)
                yield entry.move

    def find(self, head: Move | None, wanted: Callable[[Move], bool], after: int = 0) -> Move | None:
        """Find the newest entry that is `wanted`, from `head` down to the one after entry `after`; None without one."""
        return next((move for move in self.backwards(head, after, anew=False) if wanted(move)), None)

    def nightly(self, head: Move) -> str:
        """Return the nightly version that `latest` is, or was refit from where it is a refresh."""
        since = self.find(head, lambda move: move.moved)
        return (since and since.parent) or head.to

    def former(self, head: Move) -> str:
        """Return the nightly version that was promoted before the present one: of a refresh, that is its parent.

        Versions that were rolled back from since they were last promoted are left out, and so are pruned ones.

        Raises
        ------
        RegistryError
            No former version is left.
        """
        found = next(self._good(head), None)
        if found is None:
            raise RegistryError(f"no good version was promoted before {head.to}; choose one of `ltr versions`")
        return found

    def _good(self, head: Move) -> Iterator[str]:
        """Yield the nightly versions that a rollback may go to, the one promoted last first."""
        left = {head.to}
        for move in self.backwards(head):
            if move.moved and move.parent is None and move.to not in left:
                left.add(move.to)
                yield move.to
            left.update(move.pruned)
            if move.move == "rollback" and move.before and Version.parse(move.to) < Version.parse(move.before):
                left.add(move.before)

    def published_or_pruned(self, head: Move | None, version: str) -> Move | None:
        """Return the newest entry that published or pruned `version`; None when there is none."""
        return self.find(
            head, lambda move: version in move.pruned or (move.move == "publish" and move.version == version)
        )

    def needed(self, head: Move, moves: int) -> set[str]:
        """Return the versions that the newest `moves` entries name, and the one that a rollback would go to.

        Refreshes come 24 times a day; that they were published counts for none of these entries. Where one is `latest`,
        its parent is needed, and also what a rollback from that would go to: it will have expired by then.
        """
        needed = {head.to, nightly := self.nightly(head)}
        needed |= set(islice(self._good(head), 1 if nightly == head.to else 2))
        lasting = (move for move in self.backwards(head) if not (move.move == "publish" and move.parent))
        for move in islice(lasting, moves):
            needed |= {move.version, move.to, move.before or move.to}
        return needed

    def known(
        self, head: Move, versions: Iterable[str], since: datetime | None = None
    ) -> tuple[dict[str, Move], set[str]]:
        """Return the entries that published `versions`, and which are pruned, reading no more than that takes.

        Entries from before a time are not looked at.
        """
        unknown, published, pruned = set(versions), dict[str, Move](), set[str]()
        for move in self.backwards(head, anew=False):
            if not unknown or (since and move.when < since):
                break
            pruned |= unknown.intersection(move.pruned)
            if move.move == "publish" and move.version in unknown - pruned:
                published[move.version] = move
            unknown -= pruned | published.keys()
        return published, pruned

    def now(self) -> datetime:
        """Return the time that an entry gets that is made now."""
        return self.clock() if self.clock else datetime.now(UTC)

    def _create(self, move: Move) -> bool:
        """Create an entry, and return whether it is ours; after a lost answer the move id tells."""
        data = msgspec.json.encode(move)
        try:
            self.storage.create(_key(move.seq), data)
        except StorageError as error:
            if not self.storage.exists(_key(move.seq)):
                raise
            if self._read(move.seq).move.move_id == move.move_id:
                return True
            if isinstance(error, AlreadyExistsError):
                return False
            raise
        log.info("ledger_entry", seq=move.seq, move=move.move, version=move.version, latest=move.to, pinned=move.pin)
        return True

    def _noted(self, seq: int) -> Move:
        """Return an entry that is there now, once the newest is known to be that far."""
        entry = self._read(seq)
        self.storage.put(NEWEST, msgspec.json.encode(_Newest(seq, entry.sha256)))
        return entry.move

    def _sealed(self, move: Move, head: Move | None) -> Move:
        """Return the entry with its time and the hash of the one before it, and signed."""
        previous = self._seen[head.seq].sha256 if head else ""
        when = self.now() if self.clock else move.when
        move = msgspec.structs.replace(move, previous=previous, when=when)
        return msgspec.structs.replace(move, signature=signing.sign(msgspec.json.encode(move), self._keys))

    def _read(self, seq: int) -> _Entry:
        try:
            data = self.storage.get(_key(seq))
            move = _MOVES.decode(data)
        except NotFoundError as error:
            raise RegistryError(
                f"the ledger has a gap: {self._uri(seq)} is missing; restore it from a copy, or remove what stands "
                "behind the gap if it is no entry of yours"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(f"{self._uri(seq)} was altered or truncated: {error}; {_RESTORE}") from error
        if move.seq != seq:
            raise RegistryError(f"{self._uri(seq)} holds entry {move.seq}; {_RESTORE}")
        self._check_signature(move)
        self._seen[seq] = _Entry(move, _sha256(data))
        return self._seen[seq]

    def _read_before(self, entry: _Entry, *, anew: bool = True) -> _Entry:
        """Read the entry before, and check that the given one follows it."""
        seq = entry.move.seq - 1
        before = self._read(seq) if anew else self._seen.get(seq) or self._read(seq)
        chained, signed = before.move.previous is not None, before.move.signature is not None
        if entry.move.previous is None and not chained:  # both of a release before 0.2
            return before
        if entry.move.previous != before.sha256:
            raise RegistryError(
                f"{self._uri(before.move.seq)} is not the entry that {self._uri(entry.move.seq)} follows: one of them "
                f"was altered; {_RESTORE}"
            )
        if self._keys and signed and entry.move.signature is None:
            raise RegistryError(f"{self._uri(entry.move.seq)} is not signed, but the one before it is; {_RESTORE}")
        return before

    def _check_signature(self, move: Move) -> None:
        unsigned = msgspec.json.encode(msgspec.structs.replace(move, signature=None))
        if self._keys and move.signature and not signing.signed(unsigned, move.signature, self._keys):
            raise RegistryError(f"{self._uri(move.seq)} is signed by none of the {signing.KEYS_SET}; {_RESTORE}")

    def _check_signed(self, head: Move) -> None:
        """Refuse an unsigned head when any entry before it is signed."""
        if self._keys and head.signature is None:
            for _ in self.backwards(head):  # compares each entry with its neighbour
                pass

    def _uri(self, seq: int) -> str:
        return self.storage.uri(_key(seq))


_RESTORE: Final = "restore it from a copy"


def _highest(keys: Iterable[str]) -> int:
    """Return the highest number of an entry among the keys; 0 without any."""
    return max((int(match[1]) for key in keys if (match := LISTED.fullmatch(key))), default=0)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _key(seq: int) -> str:
    return f"{HISTORY}/{seq:08}.json"


def _seq(head: Move | None) -> int:
    return head.seq if head else 0
