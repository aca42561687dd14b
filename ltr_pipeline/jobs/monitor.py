"""The watch over data, model and business, a landed night at a time: look, keep what was found, tell of what is new.

A night is watched once its events have landed: the data of the day before it, the outcomes of the day whose feedback
has matured by then, and an early look at the day whose feedback is 24 hours old. What is found becomes records of the
history (`monitoring.store`), so a task that is retried writes the same again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
import polars as pl
import structlog

from ltr_pipeline.calendar import Calendar, Occasion
from ltr_pipeline.dataset.build import events
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.errors import LtrError, SourceError
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.partitions import landed, landed_dates, newest
from ltr_pipeline.gate.rivals import load_rival
from ltr_pipeline.jobs.forecasts import forecasts_of
from ltr_pipeline.monitoring.alerts import standing
from ltr_pipeline.monitoring.drift import TRAILING_DAYS, drift_report
from ltr_pipeline.monitoring.export import export
from ltr_pipeline.monitoring.falls import USUAL_DAYS
from ltr_pipeline.monitoring.outcomes import Promises, outcomes, promises_of
from ltr_pipeline.monitoring.records import DriftReport, Forecast, NightRecord, Outcomes, PostedMetrics, Record
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.report import notify
from ltr_pipeline.report.history import refill
from ltr_pipeline.runs.run import Json
from ltr_pipeline.schedule import night_of
from ltr_pipeline.schema import ITEM_ID, POSITION, RANKING_ID, TIME
from ltr_pipeline.settings import Settings, load_settings

__all__ = ["conclude", "due", "export_history", "init", "watch", "watch_data", "watch_matured", "watch_outcomes"]

log = structlog.get_logger(__name__)

DAY: Final = dt.timedelta(days=1)
CATCHES_UP: Final = 35
"""Newest landed nights that are watched later where they were not in time."""

EARLY_DAYS: Final = 1
"""Age of the feedback, in days, at which a day is looked at early."""

REWRITTEN: Final = 60
"""Newest days whose rows are written anew: outcomes mature, and nights are run again."""


def due(settings: Settings | None = None, night: dt.date | str | None = None) -> list[str]:
    """Return the landed nights that nobody has watched yet, oldest first; or the one that is asked for.

    However often something lands on a day, its night is watched once, after what landed when it was due or later.

    Raises
    ------
    SourceError
        Nothing has landed, or not the night that is asked for.
    """
    settings = settings or load_settings()
    last = newest(settings.data)
    if last is None:
        raise SourceError(f"nothing has landed in {settings.data.uri()}; `ltr run` lands events")
    nights = landed_dates(settings.data, CATCHES_UP if night is None else None)
    if night is not None:
        night = dt.date.fromisoformat(night) if isinstance(night, str) else night
        if night not in nights:
            raise SourceError(f"no events landed in the night of {night}; nights that did: {nights[0]} to {nights[-1]}")
        return [night.isoformat()]
    watched = {date + DAY for date in History(settings.data).dates(DriftReport)}
    return [date.isoformat() for date in nights if date not in watched and night_of(date) <= last.moment]


def watch(settings: Settings, night: dt.date | None = None) -> Iterator[tuple[dt.date, DriftReport, list[Outcomes]]]:
    """Watch every night that is due, one after the other, and yield what was found; `conclude` does the rest."""
    for date in map(dt.date.fromisoformat, due(settings, night)):
        yield date, _watch_data(settings, date), _watch_outcomes(settings, date)


def watch_data(nights: Sequence[str], settings: Settings | None = None) -> list[Json]:
    """Look at the data of the day before each landed night, keep the reports, and return what they say in short."""
    settings = settings or load_settings()
    reports = [_watch_data(settings, dt.date.fromisoformat(night)) for night in nights]
    return [
        {"date": str(one.date), "status": one.status, "alerts": [alert.what for alert in one.alerts]} for one in reports
    ]


def watch_outcomes(nights: Sequence[str], settings: Settings | None = None) -> list[Json]:
    """Measure what came of what was shown, keep it, and return what it says in short."""
    settings = settings or load_settings()
    found = [one for night in nights for one in _watch_outcomes(settings, dt.date.fromisoformat(night))]
    return [{"date": str(one.date), "version": one.version, "lists": one.lists, "status": one.status} for one in found]


def _watch_data(settings: Settings, night: dt.date) -> DriftReport:
    """Compare the day before a night with the weeks before it, and keep the report."""
    day, history, calendar = night - DAY, History(settings.data), settings.calendar
    since = day - (TRAILING_DAYS + settings.attribution_days) * DAY
    declared, former = calendar.between(since, day), calendar.former(day)
    rival = load_rival(settings.registry, _in_use(settings, history, day))
    report = drift_report(
        settings.data,
        _landed(settings, day, since) | _of_days(settings, former),
        settings.mapping,
        day,
        scorer=rival.scorer if rival else None,
        importance=rival.importance if rival else None,
        events=[occasion.name for occasion in declared if day in occasion],
        left_out=_days(declared) - {day},
        former=former,
        sources=Sources(settings.s3, settings.database),
        lookback=settings.attribution_days,
        skew_seconds=settings.feedback_skew_seconds,
    )
    history.write(report)
    return report


def _in_use(settings: Settings, history: History, day: dt.date) -> str | None:
    """Return the version that ranked on a day: what its night left in use, or what is in use now."""
    nights = history.read(NightRecord, until=day, limit=1)
    return nights[-1].latest if nights else settings.registry.promoted()


def _days(occasions: Iterable[Occasion]) -> set[dt.date]:
    return {one.first + ahead * DAY for one in occasions for ahead in range((one.last - one.first).days + 1)}


def _of_days(settings: Settings, days: Iterable[dt.date]) -> dict[str, str]:
    """Return the landed partitions with events of some days of former years; none where they are gone."""
    found: dict[str, str] = {}
    for day in days:
        found |= _landed(settings, day, day)
    return found


def _watch_outcomes(settings: Settings, night: dt.date) -> list[Outcomes]:
    """Measure the day that has matured by a night, and have an early look at a later one."""
    promises = promises_of(settings.registry)
    ages = dict.fromkeys([settings.attribution_days, min(EARLY_DAYS, settings.attribution_days)])
    return [one for age in ages for one in _watch_day(settings, night, age, promises)]


def watch_matured(settings: Settings, night: dt.date) -> list[Outcomes]:
    """Measure the day whose feedback is complete by a night, of each version that it was shown, and keep it."""
    return _watch_day(settings, night, settings.attribution_days, promises_of(settings.registry))


def _watch_day(settings: Settings, night: dt.date, age: int, promises: Promises) -> list[Outcomes]:
    """Measure the day whose feedback is so many days old."""
    day, history = night - (1 + age) * DAY, History(settings.data)
    occasions, partitions = settings.calendar.on(day), _landed(settings, night - DAY, day)
    found = outcomes(
        settings.data,
        partitions,
        settings.mapping,
        day,
        attribution_days=settings.attribution_days,
        age_days=age,
        skew_seconds=settings.feedback_skew_seconds,
        promises=None if occasions else promises,
        former=_comparable(settings.calendar, history, day),
        forecasts=_forecasts(settings, partitions, day) if age == settings.attribution_days else None,
        fall_max=settings.outcome_fall_max,
    )
    for one in found:
        history.write(one)
    return found


def _forecasts(settings: Settings, partitions: dict[str, str], day: dt.date) -> dict[str, Forecast]:
    """Return what scores of a database stated on a day, beside what happened; nothing where there is no database."""
    file = settings.database.file
    return {} if file and not file.exists() else forecasts_of(settings, partitions, day)[0]


def _comparable(calendar: Calendar, history: History, day: dt.date) -> list[Outcomes]:
    """Return the outcomes of the days before without declared events; for the day of an event, of its former ones."""
    if calendar.on(day):
        return [one for former in calendar.former(day) for one in history.read(Outcomes, former, former)]
    since = day - USUAL_DAYS * DAY
    declared = calendar.between(since, day)
    found = history.read(Outcomes, since, day - DAY)
    return [one for one in found if not any(one.date in occasion for occasion in declared)]


def _landed(settings: Settings, last: dt.date, first: dt.date) -> dict[str, str]:
    """Return the landed partitions with events of some days; none where what has landed does not reach them."""
    start = dt.datetime.combine(first, dt.time(), dt.UTC)
    try:
        return partitions_for(settings.data, last + DAY, start, settings.trusted_keys)
    except SourceError as error:
        if not landed_dates(settings.data, 1):
            raise
        log.info("nothing has landed for these days", first=str(first), last=str(last), reason=str(error))
        return {}


def conclude(nights: Sequence[str], settings: Settings | None = None) -> Json:
    """Fill the database's tables, remove what is older than is kept, and tell the channels of what is new.

    Returns
    -------
    The alerts of the newest of the nights, those that are new, and how much was written and removed.
    """
    settings = settings or load_settings()
    history = History(settings.data)
    newest = max(map(dt.date.fromisoformat, nights), default=None)
    if newest is None:
        return {"alerts": [], "rows": 0, "removed": 0}
    removed = history.prune(newest - settings.monitoring_days * DAY)
    rows = _fill_tables(settings, history, newest)
    alerts = standing(history, newest)
    for one in alerts:
        log.warning("alert", about=one.alert.subject, what=one.alert.what, since=str(one.since))
    if any(one.is_news for one in alerts):
        notify.send(settings.notify_urls, notify.alerts(newest, alerts, settings.board))
    log.info("watched", nights=len(nights), alerts=len(alerts), rows=rows, removed=removed)
    found: Json = msgspec.to_builtins({"alerts": alerts, "rows": rows, "removed": removed})
    return found


def _fill_tables(settings: Settings, history: History, newest: dt.date) -> int:
    """Give the database's tables what the history has, where they have been made; return the rows written.

    The history is whole without them, so a database that is away only leaves them as they were.
    """
    file = settings.database.file
    if file and not file.exists():
        return 0
    try:
        from ltr_pipeline.database.engine import Database
        from ltr_pipeline.monitoring import tables

        with Database(settings.database) as database:
            if not tables.are_there(database):
                return 0
            since = newest - REWRITTEN * DAY
            kinds: tuple[type[Record], ...] = (NightRecord, DriftReport, Outcomes, PostedMetrics)
            records = [record for kind in kinds for record in history.read(kind, since)]
            return tables.replace(database, records, since, newest - settings.monitoring_days * DAY)
    except LtrError as error:
        log.warning("the tables for BI were not filled", error=str(error))
        return 0


def init(settings: Settings, folder: Path) -> tuple[int, list[Path]]:
    """Begin the history with the nights that have run, make the tables for BI, and write the three files.

    Returns
    -------
    How many nights were taken in, and the paths of the files.

    Raises
    ------
    StorageError, DatabaseError
        The storage or the database cannot be written.
    """
    taken = len(refill(settings))
    make_tables(settings)
    return taken, export_history(settings, folder)


def make_tables(settings: Settings) -> None:
    """Make the tables for BI in the database, and fill them."""
    from ltr_pipeline.database.engine import Database
    from ltr_pipeline.database.tables import upgrade
    from ltr_pipeline.monitoring.tables import TABLES

    with Database(settings.database) as database:
        upgrade(database, [TABLES])
    _fill_tables(settings, History(settings.data), dt.datetime.now(dt.UTC).date())


def export_history(settings: Settings, folder: Path, days: int = 7) -> list[Path]:
    """Write the history as three files, and return their paths.

    Parameters
    ----------
    days
        How many of the newest landed nights the log of predictions covers.
    """
    return export(folder, History(settings.data), _shown(settings, days))


def _shown(settings: Settings, nights: int) -> Iterator[pl.DataFrame]:
    """Yield the impressions of the newest landed nights, a night at a time, in order of time."""
    dates = landed_dates(settings.data, nights)
    partitions = landed(settings.data, dates[0]) if dates else []
    for _, of_night in groupby(partitions, key=lambda one: one.date):
        folders = dict.fromkeys((one.folder for one in of_night), "")
        tables = [shown for shown, _ in events(settings.data, folders, settings.mapping)]
        yield pl.concat(tables).sort(TIME, RANKING_ID, POSITION, ITEM_ID)
