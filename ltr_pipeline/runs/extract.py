"""Which source a run reads: the Kafka topic where one is configured, the event log where there is none or it is away.

A fallback loses nothing: each source goes on where the last partition that landed from it ended, so what the topic
holds is read by the next run that reaches it, and what both held falls out as duplicates.
"""

from __future__ import annotations

import datetime as dt

import structlog

from ltr_pipeline.errors import SettingsError, SourceError, SourceUnavailableError
from ltr_pipeline.events import landing
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.events.source import Source
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.events.sources.kafka import KafkaSource
from ltr_pipeline.settings import Settings
from ltr_pipeline.storage.lease import TERMS, Terms

__all__ = ["land"]

log = structlog.get_logger(__name__)


def land(
    settings: Settings,
    moment: dt.datetime,
    since: dt.datetime,
    *,
    last_try: bool,
    source: Source | None = None,
    terms: Terms = TERMS,
) -> Manifest:
    """Land what arrived since the newest landing, as the partition of the run of a moment.

    A run that has landed gets its partition as it is.

    Parameters
    ----------
    moment
        Of the run: its logical date, UTC.
    since
        The beginning of the training window: older records are ignored.
    last_try
        The task will not be tried again, so that a topic which is away is not waited for any longer.
    source
        Where to read instead of what is configured.
    terms
        How long another run that lands is waited for.

    Raises
    ------
    BusyError
        Another run lands, and took longer than there was patience for; or it was faster.
    SourceUnavailableError
        The topic cannot be reached now, and there will be another try, or falling back is switched off.
    SourceError, SettingsError
        The source cannot be read, a later run has landed (`partitions.is_backfill`), or a setting is wrong.
    """

    def landed(source: Source, fallback: str = "") -> Manifest:
        return landing.land(
            settings.data,
            moment,
            source,
            settings.mapping,
            buckets=settings.buckets,
            since=since,
            fallback=fallback,
            keys=settings.trusted_keys,
            terms=terms,
        )

    files = FileSource(settings.events_path)
    if source or settings.kafka is None:
        return landed(source or files)
    try:
        return landed(KafkaSource(settings.kafka, since=since))
    except (SourceError, SettingsError) as error:
        if not _falls_back(error, settings, last_try=last_try):
            raise
        log.warning("the topic is not read: falling back to files", error=str(error), files=settings.events_path)
        try:
            return landed(files, fallback=str(error))
        except SourceError as also:
            raise SourceError(f"{error}; and falling back to files failed, too: {also}") from also


def _falls_back(error: SourceError | SettingsError, settings: Settings, *, last_try: bool) -> bool:
    match settings.fallback_on:
        case "never":
            return False
        case "any":
            return last_try or not isinstance(error, SourceUnavailableError)
        case _:
            return last_try and isinstance(error, SourceUnavailableError)
