"""What scoring jobs stated on a day, held against what came of it; without a database there is no such thing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import structlog

from ltr_pipeline.dataset.build import events
from ltr_pipeline.errors import LtrError, ScoringError
from ltr_pipeline.monitoring.forecast import forecasts
from ltr_pipeline.monitoring.records import Forecast
from ltr_pipeline.settings import Settings

if TYPE_CHECKING:
    from ltr_pipeline.database.engine import Database

__all__ = ["forecasts_of"]

log = structlog.get_logger(__name__)


def forecasts_of(
    settings: Settings, partitions: Mapping[str, str], day: dt.date
) -> tuple[dict[str, Forecast], list[str]]:
    """Hold the probabilities that each version wrote on a day against what happened since.

    Whatever is wrong with the database never stops who asks: there is no forecast then, and it says why.

    Parameters
    ----------
    partitions
        Landed partitions that cover the day and its attribution window, with the SHA-256 of each manifest.

    Returns
    -------
    Forecasts by version, and why there are none of some job, or of all.

    Raises
    ------
    DatasetError
        A partition has not landed whole, or a landed table was altered.
    """
    try:
        rows, said = _stated(settings, day)
    except LtrError as error:
        log.warning("there is no forecast", error=str(error))
        return {}, [str(error)]
    found = forecasts(
        rows, events(settings.data, dict(partitions), settings.mapping), settings.mapping, settings.attribution_days
    )
    return found, said


def _stated(settings: Settings, day: dt.date) -> tuple[pl.DataFrame, list[str]]:
    """Return what all jobs stated, and why some stated nothing."""
    file = settings.database.file
    if file and not file.exists():
        raise ScoringError(f"{settings.database} is not there, so nothing was scored")
    from ltr_pipeline.database.engine import Database  # it says which package is missing, if one is

    with Database(settings.database) as database:
        return _of_jobs(database, settings.scoring_path, day)


def _of_jobs(database: Database, scoring: Path | None, day: dt.date) -> tuple[pl.DataFrame, list[str]]:
    from ltr_pipeline.batch.job import load_jobs
    from ltr_pipeline.batch.stated import STATED, stated

    found, said = [pl.DataFrame(schema=STATED)], []
    for name, job in load_jobs(scoring).items():
        try:
            found.append(stated(database, name, job, day))
        except ScoringError as error:
            log.info("a job states nothing that can be compared", job=name, reason=str(error))
            said.append(str(error))
    return pl.concat(found), said
