"""The ledger: every move of `latest` is one object, numbered without gaps.

Each of ``history/00000001.json``, ``history/00000002.json``, ... is created only if it is not there. That one operation
decides every race: of several processes that see the same newest entry exactly one creates the next; the others read
again and decide again. The newest entry is the whole state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Final, Literal, NamedTuple
from uuid import uuid4

import msgspec
import structlog

from ltr_pipeline.errors import AlreadyExistsError, NotFoundError, RegistryError, StorageError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.versions.ids import Version

__all__ = ["Act", "Ledger", "Move"]

HISTORY: Final = "history"
Kind = Literal["publish", "rollback", "pin", "unpin", "prune"]

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
        Version that was published, rolled back to, pinned or unpinned; of a prune, the version that `latest` is.
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

    @property
    def moved(self) -> bool:
        """Return whether `latest` changed."""
        return self.before != self.to


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
        )


class Ledger:
    """Reads and appends the entries below ``history/`` in a storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._seen: dict[int, Move] = {}

    def head(self) -> Move | None:
        """Return the newest entry, by one listing and one read; None when there is none yet."""
        found = (re.fullmatch(rf"{HISTORY}/([0-9]{{8}})\.json", key) for key in self.storage.keys(HISTORY))
        newest = max((int(match[1]) for match in found if match), default=0)
        return self._read(newest) if newest else None

    def promoted(self) -> str | None:
        """Return the version that `latest` is by the newest entry; None when nothing was published yet."""
        head = self.head()
        return head.to if head else None

    def append(self, decide: Callable[[Move | None], Move]) -> Move:
        """Append the entry that `decide` makes from the head; when another process was first, decide again.

        When nothing is left to do, `decide` returns an entry that is there already.
        """
        while True:
            head = self.head()
            move = decide(head)
            if move.seq <= _seq(head) or self._create(move):
                return move

    def backwards(self, head: Move | None, after: int = 0) -> Iterator[Move]:
        """Yield the entries from `head` down to the one after entry `after`, reading them one by one.

        Raises
        ------
        RegistryError
            An entry is missing or altered.
        """
        if head and head.seq > after:
            yield head
            yield from map(self._read, range(head.seq - 1, after, -1))

    def find(self, head: Move | None, wanted: Callable[[Move], bool], after: int = 0) -> Move | None:
        """Return the newest entry that is `wanted`, from `head` down to the one after entry `after`; None without one.

        An entry this object has read before is not read again: entries are never edited.
        """
        if head is None or head.seq <= after:
            return None
        older = (self._seen.get(seq) or self._read(seq) for seq in range(head.seq - 1, after, -1))
        return next((move for move in chain([head], older) if wanted(move)), None)

    def former(self, head: Move) -> str:
        """Return the version that was promoted before the present one.

        Versions that were rolled back from since they were last promoted are left out, and so are pruned ones.

        Raises
        ------
        RegistryError
            No former version is left.
        """
        left = {head.to}
        for move in self.backwards(head):
            if move.to not in left:
                return move.to
            left.update(move.pruned)
            if move.move == "rollback" and move.before and Version.parse(move.to) < Version.parse(move.before):
                left.add(move.before)
        raise RegistryError(f"no good version was promoted before {head.to}; choose one of `ltr versions`")

    def published_or_pruned(self, head: Move | None, version: str) -> Move | None:
        """Return the newest entry that published or pruned `version`; None when there is none."""
        return self.find(
            head, lambda move: version in move.pruned or (move.move == "publish" and move.version == version)
        )

    def needed(self, head: Move, moves: int) -> set[str]:
        """Return the versions that the newest `moves` entries name, and the one that a rollback would go to."""
        needed = {head.to}
        for move in self.backwards(head, after=max(0, head.seq - moves)):
            needed |= {move.version, move.to, move.before or move.to}
        with suppress(RegistryError):
            needed.add(self.former(head))
        return needed

    def known(self, head: Move, versions: Iterable[str]) -> tuple[set[str], set[str]]:
        """Return which of `versions` are published, and which are pruned, reading no more entries than that takes."""
        unknown, published, pruned = set(versions), set[str](), set[str]()
        for move in self.backwards(head):
            if not unknown:
                break
            pruned |= unknown.intersection(move.pruned)
            if move.move == "publish" and move.version in unknown - pruned:
                published.add(move.version)
            unknown -= pruned | published
        return published, pruned

    def _create(self, move: Move) -> bool:
        """Create an entry, and return whether it is ours; after a lost answer the move id tells."""
        try:
            self.storage.create(_key(move.seq), msgspec.json.encode(move))
        except StorageError as error:
            if not self.storage.exists(_key(move.seq)):
                raise
            if self._read(move.seq).move_id == move.move_id:
                return True
            if isinstance(error, AlreadyExistsError):
                return False
            raise
        log.info("ledger_entry", seq=move.seq, move=move.move, version=move.version, latest=move.to, pinned=move.pin)
        return True

    def _read(self, seq: int) -> Move:
        uri = self.storage.uri(_key(seq))
        try:
            move = msgspec.json.decode(self.storage.get(_key(seq)), type=Move)
        except NotFoundError as error:
            raise RegistryError(f"the ledger has a gap: {uri} is missing; restore it from a copy") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(f"{uri} was altered or truncated: {error}; restore it from a copy") from error
        if move.seq != seq:
            raise RegistryError(f"{uri} holds entry {move.seq}; restore it from a copy")
        self._seen[seq] = move
        return move


def _key(seq: int) -> str:
    return f"{HISTORY}/{seq:08}.json"


def _seq(head: Move | None) -> int:
    return head.seq if head else 0
