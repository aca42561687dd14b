"""The simulated log that `make run` learns from when there is none: started once, a day longer each night.

Its world is kept beside it, so that a day appended later is the day that would have been simulated at once.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec

from ltr_pipeline.errors import SourceError
from ltr_pipeline.folders import record_of
from ltr_pipeline.schedule import newest_night
from ltr_pipeline.settings import Settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

__all__ = ["DAYS", "Growth", "catch_up", "start", "up_to"]

DAYS = 31


class Growth(NamedTuple):
    """Days that were appended to a simulated log: how many, until which day, with how many impressions."""

    days: int
    end: dt.date
    impressions: int
    path: Path


class _Simulated(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The world that a log was simulated with, and the day after its last."""

    world: World
    end: dt.date
    size: int = 0  # bytes of the log when this was saved
    growing: bool = False  # a simulation was under way: what it left after them is cut off


def start(settings: Settings, first: dt.date, days: int, **world: object) -> Growth | None:
    """Write a new simulated log; SourceError when there is one already."""
    path = Path(settings.events_path)
    if path.exists():
        raise SourceError(f"{path} is there already and is not overwritten; move it away or name another --path")
    return _begin(settings, first, days, **world)


def up_to(settings: Settings, day: dt.date) -> Growth | None:
    """Simulate until the night of `day`, if the log is simulated: a month before it, or the days that are missing."""
    if not settings.simulated:
        return None
    if begun := _begun(settings):
        return _extend(settings, begun, day)
    return _begin(settings, day - dt.timedelta(days=DAYS), DAYS)  # after what a service may have written there


def catch_up(settings: Settings) -> Growth | None:
    """Let a simulated log that was begun reach the newest night, as a real one would have."""
    return up_to(settings, newest_night(dt.datetime.now(dt.UTC))) if settings.simulated and _begun(settings) else None


def _begin(settings: Settings, first: dt.date, days: int, **world: object) -> Growth | None:
    chosen = {name: value for name, value in world.items() if value is not None}
    made = World(legacy_weights=settings.mapping.legacy_weights, start=first, **chosen)  # type: ignore[arg-type]
    path = Path(settings.events_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = _Simulated(world=made, end=first, size=path.stat().st_size if path.exists() else 0)
    _save(settings, begun)
    return _extend(settings, begun, first + dt.timedelta(days=days))


def _begun(settings: Settings) -> _Simulated | None:
    record = record_of(settings.events_path)
    return msgspec.json.decode(record.read_bytes(), type=_Simulated) if record.exists() else None


def _extend(settings: Settings, simulated: _Simulated, end: dt.date) -> Growth | None:
    days = (end - simulated.end).days
    if days <= 0:
        return None
    path = Path(settings.events_path)
    new = path.with_name(f"{path.name}.new")
    summary = write_log(new, simulated.world, simulated.end, days)
    with path.open("ab") as log, new.open("rb") as arrived:
        fcntl.flock(log, fcntl.LOCK_EX)  # a service may append, too: before or after, not in between
        if simulated.growing:
            log.truncate(simulated.size)
        _save(settings, msgspec.structs.replace(simulated, size=os.fstat(log.fileno()).st_size, growing=True))
        shutil.copyfileobj(arrived, log)
        log.flush()
        _save(settings, _Simulated(world=simulated.world, end=end, size=os.fstat(log.fileno()).st_size))
    new.unlink()
    return Growth(days, end, summary.impressions, path)


def _save(settings: Settings, simulated: _Simulated) -> None:
    record_of(settings.events_path).write_bytes(msgspec.json.format(msgspec.json.encode(simulated)))
