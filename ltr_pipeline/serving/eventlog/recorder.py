"""Takes events without making a request wait, and writes them to the spool in a thread of its own.

Events go into a queue that is bounded in records and bytes; every few milliseconds a thread writes all that is queued.
So a stop by SIGTERM loses nothing, and a kill loses at most the queue. Messages are encoded before they are queued,
because a thread that encoded them would take the interpreter from requests again and again.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from typing import Final, NamedTuple
from uuid import uuid4

import structlog

from ltr_pipeline.errors import RequestError
from ltr_pipeline.names import did_you_mean
from ltr_pipeline.schema import AS_SERVED, FEEDBACK, IMPRESSIONS, POSITION, RANKING_ID
from ltr_pipeline.serving import prometheus, wire
from ltr_pipeline.serving.eventlog.encode import AnsweredList, Encoder, Interaction, columns_of, query_of
from ltr_pipeline.serving.eventlog.pending import NonePending, Pending
from ltr_pipeline.serving.eventlog.shipper import Shipper, Sink, open_sink
from ltr_pipeline.serving.eventlog.spool import Journal, Record
from ltr_pipeline.serving.settings import ServingSettings

__all__ = ["BusyError", "Recorder"]

FLUSH_SECONDS: Final = 0.05
QUEUE_RECORDS: Final = 10_000
QUEUE_BYTES: Final = 64 << 20
SHIP_SECONDS: Final = 3.0  # at the end, to deliver what is in the spool
LATE_SECONDS: Final = 2.0  # by which a report may overtake its answer, when another worker answered
FLUSH_RECORDS: Final = 500  # written at once

log = structlog.get_logger(__name__)


class BusyError(Exception):
    """There is no room for events now."""


class _ShownReport(NamedTuple):
    """A report of the items that were shown, and until when its answer may turn up."""

    request_id: str
    items: list[str]
    patience: float


_Queued = list[Record] | AnsweredList | _ShownReport


class Recorder:
    """Takes every event that the service logs.

    Raises
    ------
    SettingsError
        No events can be written by these settings.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self.encoder = Encoder(settings.mapping)
        self._sink: Sink = open_sink(settings.kafka, settings.events_path)
        self._queue: deque[tuple[_Queued, int]] = deque()
        self._putting = threading.Lock()
        self._put_bytes = self._got_bytes = 0
        self._most_bytes = settings.spool_max_mb * (1 << 20) // settings.workers
        self._journal: Journal | None = None
        self._shipper: Shipper | None = None
        waits = settings.shown == "reported"
        self._pending = Pending(settings.spool, settings.shown_seconds) if waits else NonePending()
        self._dropping = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)

    def start(self) -> None:
        """Start to write, and log which columns events will lack."""
        log.info("events are logged", to=self._sink.name, spool=str(self._settings.spool), shown=self._settings.shown)
        if RANKING_ID in self.encoder.left_out:
            log.warning("the mapping has no ranking_id: feedback joins by query; lists of one query and day are one")
        if not self.encoder.marks_shadow:
            log.warning("the mapping has no shadow: lists shown for tests cannot be marked and are not logged")
        if POSITION in self.encoder.left_out:
            log.info("the mapping has no position: an item's place in its list is all there is")
        if AS_SERVED in self.encoder.left_out:
            log.info("the mapping has no as_served: the gate's feature audit does not know these lists as logged here")
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, deliver as much as possible within seconds, and end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._shipper:
            self._shipper.stop(SHIP_SECONDS)
        self._pending.close()

    def answered(self, listed: AnsweredList) -> None:
        """Log an answered list. It never waits: when the queue is full, the list is dropped and counted."""
        try:
            self._take(listed)
        except Exception:  # whatever is wrong with one event, requests go on
            prometheus.EVENTS.labels(IMPRESSIONS, "dropped").inc()
            log.exception("an event was not written", query_id=listed.query_id)

    def feedback(self, request: wire.FeedbackRequest) -> int:
        """Log what users did, and return how many events that were.

        Raises
        ------
        RequestError
            The mapping has no such action, or no path for a rating, or an event names neither a query nor a request of
            this service.
        BusyError
            There is no room; none of the events was taken.
        """
        answered = [self._answered(event, place) for place, event in enumerate(request.events)]
        if not self._put([Record(FEEDBACK, one.seconds, one.query_id, self.encoder.feedback(one)) for one in answered]):
            prometheus.EVENTS.labels(FEEDBACK, "dropped").inc(len(answered))
            raise BusyError("there is no room for events now; try again")
        return len(answered)

    def shown(self, request: wire.ShownRequest) -> int:
        """Log which items of an answer were really shown, and return how many.

        Raises
        ------
        RequestError
            Reports do not count in this service, or the report names an item twice or an unknown request.
        BusyError
            There is no room.
        """
        if self._settings.shown != "reported":
            raise RequestError("every returned item counts as shown here; set LTR_SHOWN=reported so that reports count")
        if query_of(request.request_id) is None:
            raise RequestError(f"request_id {request.request_id[:80]!r} was not made by this service")
        if len(set(request.items)) < len(request.items):
            raise RequestError("items: an item is named twice; name each once, where it was shown first")
        if not self._put(_ShownReport(request.request_id, request.items, time.monotonic() + LATE_SECONDS)):
            raise BusyError("there is no room for reports now; try again")
        return len(request.items)

    def _answered(self, event: wire.FeedbackItem, place: int) -> Interaction:
        if problem := self._problem(event.action, event.rating):
            raise RequestError(f"event {place}: {problem}")
        query_id = event.query_id
        if event.request_id is not None:
            found = query_of(event.request_id)
            if query_id and found and query_id != found:
                raise RequestError(f"event {place}: request_id belongs to the query {found!r}, not to {query_id!r}")
            query_id = query_id or found
        if query_id is None:
            raise RequestError(f"event {place}: give the request_id of an answer, or the query_id")
        return Interaction(
            event_id=event.event_id or uuid4().hex,
            query_id=query_id,
            request_id=event.request_id,
            item_id=event.item_id,
            user_id=event.user_id,
            action=event.action,
            seconds=time.time(),
            columns=columns_of(event),
        )

    def _problem(self, action: str | None, rating: int | None) -> str:
        """Say why an action and a rating cannot be written, or would mean nothing; empty where they can."""
        encoder = self.encoder
        near = "" if action is None else did_you_mean(action, encoder.actions)
        if rating is None and action is None:
            return "give an action, or a rating"
        if rating is not None and not encoder.rates:
            return "the mapping has no path for rating, so it would be lost: give it one (LTR_MAPPING)"
        if action in encoder.actions or (rating is not None and not near and encoder.takes(action)):
            return ""
        known = f"The mapping has {', '.join(encoder.actions) or 'none'}"
        return f"action {action!r} is not known{near or '.'} {known}" if action else f"give an action. {known}"

    def _take(self, listed: AnsweredList) -> None:
        """Queue an answered list, or count it as left out where it cannot be marked."""
        if listed.shadow and not self.encoder.marks_shadow:
            prometheus.EVENTS.labels(IMPRESSIONS, "unmarked").inc()
            return
        queued = listed if self._pending.keeps(listed) else self._shown_list(listed)
        if not self._put(queued):
            prometheus.EVENTS.labels(IMPRESSIONS, "dropped").inc(len(queued) if isinstance(queued, list) else 1)

    def _put(self, queued: _Queued) -> bool:
        """Queue something, and return whether there was room."""
        size = _size(queued)
        with self._putting:
            if len(self._queue) >= QUEUE_RECORDS or self._put_bytes - self._got_bytes + size > QUEUE_BYTES:
                return False
            self._put_bytes += size
        self._queue.append((queued, size))
        return True

    def _run(self) -> None:
        while True:
            last = self._stopped.wait(FLUSH_SECONDS)
            try:
                self._open_early()
                while self._flush():
                    pass
            except Exception:  # the thread outlives whatever is wrong with one event
                log.exception("events were not written")
            if last and not self._queue:
                return

    def _flush(self) -> bool:
        """Write some of what is queued, and return whether there is more."""
        records: list[Record] = []
        late: list[_ShownReport] = []
        for _ in range(min(FLUSH_RECORDS, len(self._queue))):
            queued, size = self._queue.popleft()
            self._got_bytes += size
            if isinstance(queued, list):
                records += queued
                continue
            try:
                if not isinstance(queued, AnsweredList):
                    records += self._report(queued, late)
                elif not self._pending.keep(queued):
                    prometheus.EVENTS.labels(IMPRESSIONS, "dropped").inc()
            except Exception:  # whatever is wrong with one event, the others are written
                prometheus.EVENTS.labels(IMPRESSIONS, "dropped").inc()
                log.exception("an event was not written", request_id=queued.request_id)
        self._write(records)
        self._pending.settle()
        self._queue.extend((report, 0) for report in late)
        return len(self._queue) > len(late)

    def _report(self, report: _ShownReport, late: list[_ShownReport]) -> list[Record]:
        """Return the events of an answer as it was shown; a report that overtook its answer goes to `late`."""
        listed = self._pending.take(report.request_id, report.items)
        if listed is not None:
            return self._shown_list(listed)
        if time.monotonic() < report.patience and not self._stopped.is_set():
            late.append(report)
        else:
            prometheus.EVENTS.labels(IMPRESSIONS, "unknown").inc()
        return []

    def _shown_list(self, listed: AnsweredList) -> list[Record]:
        lines, too_long = self.encoder.impressions(listed)
        if too_long:
            prometheus.EVENTS.labels(IMPRESSIONS, "dropped").inc(too_long)
            log.warning("items are too long to be sent", query_id=listed.query_id, items=too_long)
        return [Record(IMPRESSIONS, listed.seconds, listed.query_id, line) for line in lines]

    def _write(self, records: list[Record]) -> None:
        if not records:
            return
        try:
            journal, shipper = self._opened()
            if shipper.waiting_bytes + sum(len(record.line) for record in records) > self._most_bytes:
                raise OSError(errno.EDQUOT, f"{self._most_bytes >> 20} MiB are waiting (LTR_SPOOL_MAX_MB)")  # noqa: TRY301
            journal.append(records)
        except Exception as error:  # whatever it was, the events are lost
            self._note_drop(error, records)
            return
        prometheus.events((record.kind for record in records), "spooled")
        if self._dropping:
            self._dropping = False
            log.info("events are written again", spool=str(self._settings.spool))

    def _open_early(self) -> None:
        """Open the spool before there is anything to write, to deliver what earlier processes have left."""
        try:
            self._opened()
        except OSError as error:
            self._note_drop(error, [])

    def _opened(self) -> tuple[Journal, Shipper]:
        """Return the spool of this process and its shipper; OSError while the spool cannot be made."""
        if self._journal is None or self._shipper is None:
            self._journal = Journal.create(self._settings.spool)
            self._shipper = Shipper(self._journal, self._settings.spool, self._sink)
            self._shipper.start()
        return self._journal, self._shipper

    def _note_drop(self, error: Exception, records: list[Record]) -> None:
        prometheus.events((record.kind for record in records), "dropped")
        if not self._dropping:
            self._dropping = True
            disk = error.strerror if isinstance(error, OSError) else None
            log.error(
                "events are dropped", spool=str(self._settings.spool), error=disk or str(error), exc_info=not disk
            )


def _size(queued: _Queued) -> int:
    """Return roughly how many bytes it takes in memory; reports count nothing, as they are small."""
    if isinstance(queued, list):
        return sum(len(record.line) for record in queued)
    if isinstance(queued, AnsweredList):
        return sum(memoryview(candidate.features).nbytes for candidate in queued.candidates)
    return 0
