"""Whether what has landed and what comes are of one world: read by one mapping, and both real or both simulated."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable

from ltr_pipeline.errors import SourceError
from ltr_pipeline.events.manifest import Manifest, manifest_of
from ltr_pipeline.events.partitions import reaching
from ltr_pipeline.folders import is_simulated
from ltr_pipeline.mapping import Mapping
from ltr_pipeline.storage.base import Storage

__all__ = ["check_one_world"]


def check_one_world(data: Storage, since: dt.datetime, mapping: Mapping, *, simulated: bool) -> None:
    """Check that what has landed may be learned from together with what comes.

    Parameters
    ----------
    data
        The data storage.
    since
        Beginning of the training window: partitions without a later event do not matter.
    mapping
        What comes is read by this mapping.
    simulated
        Whether what comes is simulated.

    Raises
    ------
    SourceError
        Partitions landed under another mapping, which this one does not continue, or the one is simulated and the other
        is not.
    """
    manifests = [manifest_of(data, one.folder) for one in reaching(data, since.date())]
    inside = [one for one in manifests if one.last_time is not None and one.last_time >= since]
    if others := [one for one in inside if _simulated(one) not in (None, simulated)]:
        here, there = ("simulated", "real") if simulated else ("real", "simulated")
        raise SourceError(
            f"{_days(others)} in {data.uri()} are {there} events, but the event log is {here}: give it folders of its "
            "own by LTR_DATA_URI and LTR_REGISTRY_URI, or move these away"
        )
    if others := [one for one in inside if not mapping.continues_from(one.mapping_sha256)]:
        all_of_them = json.dumps([*mapping.continues, others[-1].mapping_sha256[:12]])
        raise SourceError(
            f"{_days(others)} in {data.uri()} landed under another mapping: if this one revises it, write continues = "
            f"{all_of_them} at the top of the file that LTR_MAPPING names; if it reads other events, give them folders "
            "of their own by LTR_DATA_URI and LTR_REGISTRY_URI"
        )


def _simulated(manifest: Manifest) -> bool | None:
    """Tell whether a partition's events are simulated; None where it read no file, as a topic does not say."""
    read = [segment.source for segment in manifest.range.segments if segment.end > segment.start]
    return any(map(is_simulated, read)) if read and manifest.range.source == "files" else None


def _days(manifests: Iterable[Manifest]) -> str:
    found = [one.partition for one in manifests]
    if len(found) == 1:
        return f"the partition of {found[0].name}"
    return f"{len(found)} partitions ({found[0].date} to {found[-1].date})"
