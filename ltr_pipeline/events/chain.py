"""The chain of landed partitions: each manifest carries the hash of the one before it, and of its own files.

So an edited or removed partition is noticed by the next one, and an altered file by its own manifest. Two things may
change a partition after it has landed, each by an *amendment*: to forget a person, and an operator who accepts what is
there. An amendment says which manifest took the place of which, who did it, when and why, and the chain goes on over
it.

::

    events/date=2025-07-15/run=20250715_0215/manifest.json   {..., "previous": "<sha256 of the manifest before>"}
    events/amended/<sha256>.json                             the manifest of that hash was replaced, or removed
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from ltr_pipeline import signing
from ltr_pipeline.errors import AlreadyExistsError, LtrError, NotFoundError, SourceError
from ltr_pipeline.events.manifest import Manifest, decoded, verify
from ltr_pipeline.events.partitions import EVENTS, MANIFEST, Partition, days, landed, newest, reaching
from ltr_pipeline.signing import Key
from ltr_pipeline.storage.base import Storage

__all__ = ["Amendment", "Chain", "Link", "arrived", "partitions_for"]

AMENDED: Final = f"{EVENTS}/amended"


class Amendment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of a partition that was changed on purpose.

    Attributes
    ----------
    date
        Of the partition.
    before, after
        SHA-256 of its manifest; `after` is None when the partition is gone.
    who, when, why
        Author, time (UTC) and reason.
    signature
        Of the record without this field; None where no key is set.
    """

    date: dt.date
    before: str
    after: str | None
    who: str
    when: dt.datetime
    why: str
    signature: str | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A landed partition in the chain: its manifest, and the hash of that as it is stored."""

    manifest: Manifest
    sha256: str

    @property
    def partition(self) -> Partition:
        """Return which partition it is."""
        return self.manifest.partition

    @property
    def folder(self) -> str:
        """Return the partition's folder."""
        return self.partition.folder


class Chain:
    """Reads and checks the landed partitions of a storage.

    Parameters
    ----------
    storage
        The data storage.
    keys
        With keys, a manifest that none of them signed is refused when an earlier one is signed.
    """

    def __init__(self, storage: Storage, keys: Sequence[Key] = ()) -> None:
        self._storage = storage
        self._keys = keys

    def links(self, start: dt.date = dt.date.min, *, needed: dt.date | None = None) -> list[Link]:
        """Read the partitions that may hold an event of a day or after it, and check that they follow each other.

        Returns
        -------
        They, oldest first, and before them the one that the first of them follows.

        Parameters
        ----------
        start
            That day; by default every partition is read.
        needed
            Partitions before this date are not needed any more: whoever removed them need not say so. By default
            `start`.

        Raises
        ------
        SourceError
            A partition was altered or removed without an amendment, or is not signed as those before it are.
        """
        links = [self.link(one.folder) for one in reaching(self._storage, start)]
        for before, link in zip([None, *links], links, strict=False):
            self._check_follows(before, link, start if needed is None else needed)
            self._check_signed(before, link)
        return links

    def problems(self) -> Iterator[tuple[str, str]]:
        """Check every partition with all its files, and yield where and what is wrong."""
        try:
            links = self.links()
        except SourceError as error:
            yield "the chain of partitions", str(error)
            links = [self.link(one.folder) for one in landed(self._storage) if self._reads(one)]
        for link in links:
            try:
                verify(self._storage, link.manifest)
            except LtrError as error:
                yield link.folder, str(error)

    def sealed(self, manifest: Manifest) -> Manifest:
        """Return the manifest of a partition that is landing: linked to the one before it, and signed."""
        before = newest(self._storage, before=manifest.partition.moment)
        previous = self.link(before.folder).sha256 if before else ""
        return self.signed(msgspec.structs.replace(manifest, previous=previous))

    def signed(self, manifest: Manifest) -> Manifest:
        """Return the manifest with a signature, where there is a key."""
        return msgspec.structs.replace(manifest, signature=signing.sign(_unsigned(manifest), self._keys))

    def amend(self, amendment: Amendment) -> None:
        """Record that a partition was changed on purpose; once recorded, nothing is added."""
        signature = signing.sign(_unsigned(amendment), self._keys)
        data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(amendment, signature=signature)))
        try:
            self._storage.create(f"{AMENDED}/{amendment.before}.json", data)
        except AlreadyExistsError:
            if self._amendment(amendment.before) is None:
                raise

    def current(self, sha256: str) -> str | None:
        """Follow amendments from the hash of a manifest to what took its place; None when the partition is gone."""
        found: str | None = sha256
        seen = set[str]()
        while found and found not in seen and (amendment := self._amendment(found)):
            seen.add(found)
            found = amendment.after
        return found

    def _amendment(self, before: str) -> Amendment | None:
        key = f"{AMENDED}/{before}.json"
        try:
            found = msgspec.json.decode(self._storage.get(key), type=Amendment)
        except NotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise SourceError(f"{self._storage.uri(key)} was altered: {error}; restore it from a copy") from error
        signature = found.signature or ""
        if found.before != before or (self._keys and not signing.signed(_unsigned(found), signature, self._keys)):
            raise SourceError(
                f"{self._storage.uri(key)} is signed by none of the {signing.KEYS_SET}, or is another's; restore it "
                "from a copy"
            )
        return found

    def link(self, folder: str) -> Link:
        """Read the partition in a folder; NotFoundError when none has landed there, SourceError when it was altered."""
        key = f"{folder}/{MANIFEST}"
        data = self._storage.get(key)
        link = Link(manifest=decoded(self._storage, key, data), sha256=hashlib.sha256(data).hexdigest())
        if link.folder != folder:
            raise SourceError(
                f"{self._storage.uri(key)} is the manifest of {link.folder}: somebody moved or altered it; move it "
                "back, or restore it from a copy"
            )
        return link

    def _reads(self, partition: Partition) -> bool:
        try:
            self.link(partition.folder)
        except SourceError:
            return False
        return True

    def _check_follows(self, before: Link | None, link: Link, needed: dt.date) -> None:
        previous = link.manifest.previous
        if previous is None:  # of a release before 0.2
            if before is None or before.manifest.previous is None:
                return
        elif before is None:
            if not previous or link.manifest.date <= needed or self.current(previous) is None:
                return
            raise SourceError(
                f"the partition before {self._storage.uri(link.folder)} is gone; restore it from a copy, or accept "
                f"that by `ltr amend {link.partition.name} --reason …`"
            )
        elif before.sha256 in (previous, self.current(previous)):
            return
        raise SourceError(
            f"{self._storage.uri(before.folder) if before else ''} was altered since it landed, or a partition between "
            f"it and {link.partition.name} is gone: the manifest of {link.partition.name} names another one before it; "
            f"restore it from a copy, or accept what is there by `ltr amend {link.partition.name} --reason …`"
        )

    def _check_signed(self, before: Link | None, link: Link) -> None:
        signature, uri = link.manifest.signature, self._storage.uri(link.folder)
        if not self._keys:
            return
        if signature is None:
            if before and before.manifest.signature:
                raise SourceError(
                    f"the manifest of {uri} is not signed, but the one before it is; restore it from a copy"
                )
        elif not signing.signed(_unsigned(link.manifest), signature, self._keys):
            raise SourceError(
                f"the manifest of {uri} is signed by none of the {signing.KEYS_SET}; restore it from a copy"
            )


def partitions_for(
    storage: Storage, date: dt.date, start: dt.datetime | None = None, keys: Sequence[Key] = ()
) -> dict[str, str]:
    """Return the folders of the partitions that a run of `date` builds from, in order of arrival.

    With each is the SHA-256 of its manifest, which has those of its files.

    These are all with an event before the run's cutoff, midnight UTC of `date`, and after `start`, whenever they
    arrived; later partitions too, for what came late. Always among them is the first that landed after the cutoff,
    which says that what happened before has landed.

    Raises
    ------
    SourceError
        Nothing has landed, or nothing since the cutoff, all that landed is younger, or a partition was altered or
        removed since it landed (`Chain.links`).
    """
    cutoff = dt.datetime.combine(date, dt.time(), dt.UTC)
    chain = Chain(storage, keys)
    links = chain.links(start.date()) if start else chain.links(needed=dt.date.max)
    after = next((link for link in links if link.partition.moment >= cutoff), None)
    if after is None:
        raise SourceError(f"no landed range covers {date}; days that have landed: {days(storage)}")
    first = links[0].manifest
    if first.since >= cutoff:
        raise SourceError(
            f"no landed range covers {date}: the first, of {first.date}, goes back to {first.since:%Y-%m-%d}"
        )
    wanted = (link for link in links if link is after or _within(link.manifest, start, cutoff))
    return {link.folder: link.sha256 for link in wanted}


def arrived(storage: Storage, since: dt.datetime, until: dt.datetime, keys: Sequence[Key] = ()) -> dict[str, str]:
    """Return the folders of the partitions that runs after `since` and up to `until` landed, in that order.

    They hold what arrived in between, whatever its events' time; the first of them also what arrived before, since the
    landing before it. With each is the SHA-256 of its manifest.

    Raises
    ------
    SourceError
        A partition was altered or removed since it landed (`Chain.links`).
    """
    links = Chain(storage, keys).links(since.astimezone(dt.UTC).date())
    return {link.folder: link.sha256 for link in links if since < link.partition.moment <= until}


def _within(manifest: Manifest, start: dt.datetime | None, cutoff: dt.datetime) -> bool:
    if manifest.first_time is None or manifest.last_time is None:
        return False
    return manifest.first_time < cutoff and (start is None or manifest.last_time >= start)


def _unsigned(record: Manifest | Amendment) -> bytes:
    """Return what a signature of the record covers."""
    return msgspec.json.encode(msgspec.structs.replace(record, signature=None))
