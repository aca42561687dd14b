"""A source that grows, and landings of it in any order: nights, hours, retries, runs that are killed and late ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from threading import current_thread, main_thread

import polars as pl

from ltr_pipeline.errors import SourceError, StorageError
from ltr_pipeline.events.chain import Chain
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest, manifest_of
from ltr_pipeline.events.partitions import Partition, landed, landed_at, newest
from ltr_pipeline.events.source import Source
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.lease import Terms
from ltr_pipeline.storage.local import LocalStorage
from support.former import as_former

__all__ = ["WRITES", "History", "Killed", "KilledError"]

DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
SINCE = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
WRITES = 5
"""Writes that a landing makes: the range, three files, the manifest; one more where the range was planned before."""

TERMS = Terms(lasts=0.05)
"""Of a lease that no run after a killed one waits for long."""


class KilledError(Exception):
    """The process ends here."""


class Killed(LocalStorage):
    """A storage that ends the process before one of its writes, of which those of a lease are none."""

    left = WRITES + 1

    def count(self, key: str) -> None:
        self.left -= not key.startswith("leases/")
        if self.left < 0:
            raise KilledError if current_thread() is main_thread() else StorageError("the process has ended")

    def put(self, key: str, data: bytes) -> None:
        self.count(key)
        super().put(key, data)

    def create(self, key: str, data: bytes) -> None:
        self.count(key)
        super().create(key, data)

    def put_file(self, key: str, path: Path) -> None:
        self.count(key)
        super().put_file(key, path)


class History:
    """What was written and what landed of it so far.

    Parameters
    ----------
    root
        Folder of the landing zone.
    source
        Makes the source, anew for each run.
    write
        Makes so many impressions of items of these names arrive.
    first
        Moment of the first run.
    """

    def __init__(
        self, root: Path, source: Callable[[], Source], write: Callable[[list[str]], None], first: dt.datetime
    ) -> None:
        self.data = LocalStorage(root)
        self.now, self.written = first, 0
        self._source, self._write = source, write
        self._tried: list[dt.datetime] = []
        self._done: dict[dt.datetime, tuple[Manifest, dict[str, bytes]]] = {}

    def begin(self, *, former: bool) -> None:
        """Land for the first time; by a `former` release, its partition has no run."""
        self.write(2)
        self.run(self.now)
        if former:
            partition = as_former(self.data, Partition.at(self.now))
            self._done[self.now] = manifest_of(self.data, partition.folder), self._files(self.now)

    def write(self, count: int) -> None:
        """Let impressions arrive."""
        self._write([str(number) for number in range(self.written, self.written + count)])
        self.written += count

    def run(self, moment: dt.datetime, kill: int = WRITES + 1) -> None:
        """Land at a moment, as far as the run gets: what it must give follows from what has landed."""
        data = Killed(self.data.root)
        data.left = kill
        before = newest(data)
        self._tried.append(moment)
        try:
            manifest = land(data, moment, self._source(), load_mapping(), buckets=1, since=SINCE, terms=TERMS)
        except KilledError:
            return
        except SourceError:
            assert before is not None
            assert before.moment > moment
            assert moment not in self._done
            return
        if moment in self._done:
            assert (manifest, self._files(moment)) == self._done[moment]
        else:
            assert before is None or before.moment < moment
            self._done[moment] = manifest, self._files(moment)

    def _files(self, moment: dt.datetime) -> dict[str, bytes]:
        found = landed_at(self.data, moment)
        assert found is not None
        names = [file.name for file in manifest_of(self.data, found.folder).files]
        return {name: self.data.get(f"{found.folder}/{name}") for name in (*names, "range.json", "manifest.json")}

    def step(self, kind: str, when: int, kill: int = WRITES + 1) -> None:
        """Go on: a "night" or some "hour" later, or try a "late" run so many hours ago, or "retry" one so many back."""
        if kind == "retry":
            self.run(self._tried[-1 - when % len(self._tried)])
        elif kind == "late":
            self.run(self.now - when * HOUR, kill)
        else:
            date = self.now.date()
            self.now = night_of(date + DAY) if kind == "night" else (self.now + when * HOUR).replace(minute=35)
            self.write(2)
            self.run(self.now, kill)

    def check(self) -> None:
        """Land the rest: whatever was written has landed once, in one chain."""
        self.now += HOUR
        self.write(1)
        self.run(self.now)
        assert list(Chain(self.data).problems()) == []
        found = [one.folder for one in landed(self.data)]
        assert len(found) == len(self._done)
        assert sum(manifest_of(self.data, folder).read for folder in found) == self.written
        tables = [f"{folder}/impressions-000.parquet" for folder in found]
        items = [pl.read_parquet(self.data.root / table, hive_partitioning=False)["item_id"] for table in tables]
        assert sorted(int(item) for of_one in items for item in of_one) == list(range(self.written))
