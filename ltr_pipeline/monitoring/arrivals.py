"""What is wrong with how the events of a day arrived: clocks that are off, and values that are of another type."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from ltr_pipeline.dataset.build import shown_times
from ltr_pipeline.errors import NotFoundError, SourceError
from ltr_pipeline.events.manifest import Manifest, manifest_of, read_quarantine, together
from ltr_pipeline.events.reasons import WRONG_TYPE
from ltr_pipeline.monitoring.records import Alert
from ltr_pipeline.storage.base import Storage

__all__ = ["LATE_DAYS", "LEAST_SHARE", "arrival_alerts"]

LEAST_SHARE: Final = 0.01
"""Share of what arrived from which on it alerts: future times, and values of a wrong type."""

LEAST_LATE: Final = 0.1
"""Share of the impressions from which on times of long before alert: some are always late."""

LATE_DAYS: Final = 3

_READ: Final = 10_000  # quarantined records that are looked at
_FEATURE: Final = re.compile(r"feature (.+) is (.+), not a number")


def arrival_alerts(data: Storage, partitions: Sequence[str], date: dt.date) -> list[Alert]:
    """Look at the partitions that the lists of a day arrived with.

    These are the first that landed after the day, and those since the first that landed in it or after: that one
    brought the day before. Where something lands once a night, it is the partition of the next night.

    Parameters
    ----------
    partitions
        Folders, of which one that cannot be read is none.

    Raises
    ------
    DatasetError
        Its tables cannot be read or were altered.
    """
    landed = sorted(filter(None, (_manifest(data, folder) for folder in partitions)), key=lambda one: one.partition)
    last = next((place for place, one in enumerate(landed) if one.date > date), None)
    if last is None:
        return []
    begun = next(place for place, one in enumerate(landed) if one.date >= date)
    first = min(begun + 1, last)
    brought, before = landed[first : last + 1], landed[first - 1].date if first else None
    folders, account = [one.partition.folder for one in brought], together(brought)
    return [
        *_of_the_future(account),
        *_of_the_past(data, folders, account, before),
        *_of_another_type(data, folders, account),
    ]


def _manifest(data: Storage, folder: str) -> Manifest | None:
    try:
        return manifest_of(data, folder)
    except (NotFoundError, SourceError):
        return None


def _of_the_future(manifest: Manifest) -> Iterator[Alert]:
    arrived = manifest.impressions + manifest.feedback
    if arrived and manifest.future >= LEAST_SHARE * arrived:
        yield Alert(
            kind="data",
            subject="clock",
            what=f"{manifest.future:,} of {arrived:,} events that landed on {manifest.date} are stamped more than a "
            "day in the future: they belong to no day yet",
            remedy="Set the clock of what writes them, or the unit of their times in the mapping (time_unit).",
        )


def _of_the_past(data: Storage, folders: Sequence[str], manifest: Manifest, before: dt.date | None) -> Iterator[Alert]:
    """Look for impressions of long before the partition before these: of the first nothing can be said."""
    if before is None or not manifest.impressions:
        return
    midnight = dt.datetime.combine(before - dt.timedelta(days=LATE_DAYS), dt.time(), dt.UTC)
    late = sum(int((times < midnight).sum()) for folder in folders for times in shown_times(data, folder))
    if late >= LEAST_LATE * manifest.impressions:
        yield Alert(
            kind="data",
            subject="clock",
            what=f"{late:,} of {manifest.impressions:,} impressions that landed on {manifest.date} are stamped before "
            f"{midnight:%Y-%m-%d}: they belong to days that are long over",
            remedy="Set the clock of what writes them, unless somebody has sent old events again.",
        )


def _of_another_type(data: Storage, folders: Sequence[str], manifest: Manifest) -> Iterator[Alert]:
    """Look for features whose values were no numbers, so that their messages were set aside."""
    if manifest.quarantine_reasons.get(WRONG_TYPE, 0) < LEAST_SHARE * max(manifest.impressions, 1):
        return
    found = Counter[tuple[str, str]]()
    for one in islice(chain.from_iterable(read_quarantine(data, folder) for folder in folders), _READ):
        if one.reason == WRONG_TYPE and (told := _FEATURE.match(one.detail)):
            found[told[1], told[2]] += 1
    for (name, kind), count in found.most_common():
        if count >= LEAST_SHARE * max(manifest.impressions, 1):
            yield Alert(
                kind="data",
                subject=name,
                what=f"{name} has changed its type: it is {kind}, not a number, in {count:,} records that landed on "
                f"{manifest.date}, and they were set aside; {manifest.impressions:,} impressions landed",
                remedy=f"Let what logs {name} write a number again, then land the records once more.",
            )
