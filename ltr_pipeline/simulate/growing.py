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
from ltr_pipeline.schedule import newest_night
from ltr_pipeline.settings import Settings
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

__all__ = ["DAYS", "Growth", "catch_up", "is_wanted", "start", "up_to"]

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


def is_simulated(settings: Settings) -> bool:
    """Tell whether the event log is a simulated one."""
    return _record(settings).exists()


def start(settings: Settings, first: dt.date, days: int, **world: object) -> Growth | None:
    """Write a new simulated log; SourceError when the log is there already."""
    path = Path(settings.events_path)
    if path.exists():
        raise SourceError(f"{path} is there already and is not overwritten; move it away or name another --path")
    chosen = {name: value for name, value in world.items() if value is not None}
    made = World(legacy_weights=settings.mapping.legacy_weights, start=first, **chosen)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(settings, _Simulated(world=made, end=first))
    return _extend(settings, _Simulated(world=made, end=first), first + dt.timedelta(days=days))


def is_wanted(settings: Settings) -> bool:
    """Tell whether to learn from a simulated log: there is one, or no event log is configured and none is there."""
    return is_simulated(settings) or not (
        "events_path" in settings.model_fields_set or Path(settings.events_path).exists()
    )


def up_to(settings: Settings, day: dt.date) -> Growth | None:
    """Simulate until the night of `day`, if that is wanted: a month before it, or the days that are missing."""
    if is_simulated(settings):
        return _extend(settings, msgspec.json.decode(_record(settings).read_bytes(), type=_Simulated), day)
    if is_wanted(settings):
        return start(settings, day - dt.timedelta(days=DAYS), DAYS)
    return None


def catch_up(settings: Settings) -> Growth | None:
    """Let a simulated log reach the newest night, as a real one would have."""
    return up_to(settings, newest_night(dt.datetime.now(dt.UTC))) if is_simulated(settings) else None


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
    _record(settings).write_bytes(msgspec.json.format(msgspec.json.encode(simulated)))


def _record(settings: Settings) -> Path:
    return Path(f"{settings.events_path}.world.json")
