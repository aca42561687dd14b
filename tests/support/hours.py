"""A night that was published, and the day after it, which no hour has landed yet: where an hourly refresh begins."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from ltr_pipeline.jobs import chain, hourly
from ltr_pipeline.runs.run import Json
from ltr_pipeline.settings import Settings
from ltr_pipeline.simulate.log import write_log
from support.small import DAY, DAYS, FIRST, LENIENT, NIGHT, WHO, WORLD, moment, small_settings

HOUR: Final = dt.timedelta(hours=1)
BUSY: Final = msgspec.structs.replace(WORLD, rankings_per_day=300)
"""A world whose clients give some hundred positive answers a day."""

LATE: Final = dt.datetime.combine(NIGHT, dt.time(23, 35), dt.UTC)
REFRESH: Final = "20250715_2335"
NEXT: Final = NIGHT + DAY
BY: Final = "airflow/hourly"


def a_day_after_a_night(folder: Path) -> None:
    """Judge and publish a night in a folder, and let the day after it happen."""
    log = folder / "audit.log"
    write_log(log, BUSY, FIRST, DAYS)
    settings = small_settings(folder)
    judged = chain.judge({"moment": moment(NIGHT)}, LENIENT, settings)
    assert chain.finish(judged, WHO, settings)["moved"]
    write_log(log, BUSY, NIGHT, 1, append=True)


def copied(template: Path, folder: Path, **fields: object) -> Settings:
    """Settings of a copy; all copies read one log, which a landing knows by its file."""
    for part in ("data", "registry"):
        shutil.copytree(template / part, folder / part, symlinks=True)
    return small_settings(folder, events_path=str(template / "audit.log"), **fields)


def refresh(settings: Settings, at: dt.datetime = LATE, variables: dict[str, str] = LENIENT, **asked: Any) -> Json:
    return hourly.refresh({"moment": at.isoformat(), **asked}, variables, BY, settings)
