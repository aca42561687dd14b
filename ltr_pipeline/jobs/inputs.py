"""The inputs of a nightly run, frozen when it starts, so that a retry reads the same."""

from __future__ import annotations

import datetime as dt
from typing import Final

import structlog

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.errors import LtrError, SettingsError, SourceError, StorageError
from ltr_pipeline.events.chain import arrived, partitions_for
from ltr_pipeline.events.manifest import Landed, account_of
from ltr_pipeline.events.partitions import following, is_backfill, is_past, newest
from ltr_pipeline.events.source import Source
from ltr_pipeline.events.worlds import check_one_world
from ltr_pipeline.gate.rivals import load_rival, rivals
from ltr_pipeline.jobs.monitor import watch_matured
from ltr_pipeline.monitoring.records import NightRecord, Outcomes
from ltr_pipeline.monitoring.retrain import LOOKED_AT, Due, Retrain, due
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.printable import counted
from ltr_pipeline.runs import extract
from ltr_pipeline.runs.run import Inputs, Run, RunRequest
from ltr_pipeline.settings import Settings

__all__ = ["check_date", "freeze", "windows"]

log = structlog.get_logger(__name__)

DAY: Final = dt.timedelta(days=1)


def freeze(run: Run, moment: dt.datetime, asked: RunRequest, rule: Retrain, source: Source | None) -> Inputs:
    """Land what arrived since the last run, and say which partitions and versions this one reads, and if it trains."""
    settings, date = run.settings, moment.date()
    window_days = settings.window_days if asked.window_days is None else asked.window_days
    _check_days(date, window_days, settings)
    start = windows(date, window_days, settings).start
    occasions = tuple(settings.calendar.between(start.date(), date - DAY))
    check_one_world(settings.data, start, settings.mapping, simulated=settings.simulated)
    landings = _landings(settings, moment, start, last_try=asked.last_try, source=source)
    landed = Landed.of(account_of(settings.data, landings)) if landings else None
    manifests = partitions_for(settings.data, date, start, settings.trusted_keys)
    champion, best_recent = rivals(settings.registry, moment)
    decided = _due(run, date, asked, rule, champion, backfill=landed is None)
    return Inputs(
        run=run.name,
        date=date,
        window_days=window_days,
        dry_run=asked.dry_run,
        partitions=list(manifests),
        manifests=manifests,
        landed=landed,
        arrived=landings,
        champion=champion,
        best_recent=best_recent,
        simulated=settings.simulated,
        trains=decided.trains,
        because=decided.because,
        by_hand=asked.by_hand,
        occasions=occasions,
    )


def _landings(
    settings: Settings, moment: dt.datetime, start: dt.datetime, *, last_try: bool, source: Source | None
) -> list[str]:
    """Land what arrived since the last run, and return the partitions of the 24 hours up to this one, oldest first.

    Where a later run has landed first, as an hourly one does when the night is late, its partition takes the place of
    this run's own: it holds what this one would have landed. A night that is a day late or more has none.
    """
    data = settings.data
    if is_past(data, moment):
        return []
    if not is_backfill(data, moment):
        try:
            extract.land(settings, moment, start, last_try=last_try, source=source)
        except SourceError:
            if not is_backfill(data, moment):  # else that run has landed while this one waited for it
                raise
    last = following(data, moment)
    return list(arrived(data, moment - DAY, last.moment if last else moment, settings.trusted_keys))


def _due(run: Run, date: dt.date, asked: RunRequest, rule: Retrain, champion: str | None, *, backfill: bool) -> Due:
    """Decide whether this run trains, by the history; a night of the past is made up for to have its model."""
    if asked.retrain or rule.retrain == "nightly" or champion is None:
        return due(date, rule, champion, asked=asked.retrain)
    if backfill:
        return Due(trains=True, because=f"the night of {date} is made up for")
    settings = run.settings
    unmeasured = _measure(settings, date)
    nights, outcomes, trouble = _history(run, date, rule)
    trouble = "; ".join(filter(None, (unmeasured, trouble)))
    decided = due(date, rule, champion, nights, outcomes, held_out=settings.held_out_days, trouble=trouble)
    if not decided.trains and load_rival(settings.registry, champion) is None:
        return Due(trains=True, because=f"{champion}, which is in use, cannot be loaded here; the log says why")
    return decided


def _measure(settings: Settings, date: dt.date) -> str:
    """Measure the newest matured day, which the watch of the morning would only measure after this night.

    Returns
    -------
    Why it could not be measured; empty where it was.
    """
    try:
        watch_matured(settings, date)
    except LtrError as error:
        log.warning("the newest matured day cannot be measured", error=str(error))
        return f"the newest matured day cannot be measured: {error}"
    return ""


def _history(run: Run, date: dt.date, rule: Retrain) -> tuple[list[NightRecord], list[Outcomes], str]:
    """Return the nights and outcomes that the decision rests on, and what of them cannot be read."""
    history = History(run.settings.data)
    since = date - max(LOOKED_AT, dt.timedelta(days=max(rule.retrain_days, rule.retrain_cooldown_days)))
    try:
        nights = [night for night in history.read(NightRecord, since, date) if night.run != run.name]
        outcomes = history.read(Outcomes, date - LOOKED_AT, date)
    except StorageError as error:
        log.warning("the history cannot be read", error=str(error))
        return [], [], f"the history cannot be read: {error}"
    bad = len(history.unreadable)
    return nights, outcomes, f"{counted(bad, 'record')} of the history cannot be read" if bad else ""


def _check_days(date: dt.date, window_days: int, settings: Settings) -> None:
    """Refuse a window without training days, and a date that would make every night until then a backfill."""
    held_out = settings.held_out_days
    if window_days <= held_out:
        raise SettingsError(f"the Param window_days is {window_days}, but {held_out} days are held out; use more")
    check_date(date, settings)


def check_date(date: dt.date, settings: Settings) -> None:
    """Refuse a date in the future; SettingsError says which is the newest that can be run."""
    today, landed = dt.datetime.now(dt.UTC).date(), newest(settings.data)
    latest = max(today, landed.date if landed else today) + DAY
    if date > latest:
        raise SettingsError(f"the run's date {date} is in the future: the latest date that can be run is {latest}")


def windows(
    date: dt.date,
    window_days: int,
    settings: Settings,
    min_queries: int = 0,
    occasions: tuple[Occasion, ...] = (),
) -> Windows:
    """Return the days that a run of `date` learns from and is tested on."""
    return Windows(
        cutoff=dt.datetime.combine(date, dt.time(), dt.UTC),
        window_days=window_days,
        attribution_days=settings.attribution_days,
        test_days=settings.test_days,
        valid_days=settings.valid_days,
        min_queries=min_queries,
        skew_seconds=settings.feedback_skew_seconds,
        occasions=occasions,
    )
