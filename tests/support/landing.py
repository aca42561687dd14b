"""Messages that land, night after night."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ltr_pipeline.events.landing import land
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.events.partitions import folder_of
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import Mapping, load_mapping
from ltr_pipeline.schedule import night_of
from ltr_pipeline.storage.local import LocalStorage

__all__ = ["Site"]


class Site:
    """An event log in a folder, and the landing zone beside it."""

    def __init__(self, folder: Path, mapping: Mapping | None = None, buckets: int = 2) -> None:
        self.log = folder / "audit.log"
        self.data = LocalStorage(folder / "data")
        self.mapping = mapping or load_mapping()
        self.buckets = buckets

    def write(self, messages: Iterable[dict[str, Any] | str]) -> None:
        """Append messages to the log."""
        with self.log.open("a") as file:
            file.writelines(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in messages)

    def land(self, moment: dt.datetime | dt.date) -> Manifest:
        """Land what is new in the log as the partition of a moment, or of the night of a date."""
        moment = moment if isinstance(moment, dt.datetime) else night_of(moment)
        return land(
            self.data,
            moment,
            FileSource(str(self.log)),
            self.mapping,
            buckets=self.buckets,
            since=moment - dt.timedelta(days=400),
        )

    def partitions(self, *dates: dt.date) -> dict[str, str]:
        """Return the partitions of the nights of some dates; any manifest will do."""
        return dict.fromkeys((folder_of(night_of(date)) for date in dates), "")

    def night(self, date: dt.datetime | dt.date, messages: Sequence[dict[str, Any] | str]) -> Manifest:
        """Write messages and land them."""
        self.write(messages)
        return self.land(date)
