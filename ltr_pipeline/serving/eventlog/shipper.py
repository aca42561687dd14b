"""From the spool to where a nightly run reads: the Kafka topic, or the event log where there is no topic.

Events are sent in order, and sent again until they are acknowledged. An event that was on its way when a process died
is sent twice, and counts once at night by its event_id.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.kafka.connection import KafkaConnection
from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.eventlog.spool import Journal, Record, abandoned, writing

__all__ = ["LogSink", "Shipper", "Sink", "SinkError", "TopicSink", "open_sink"]

LOG_NAME: Final = "served.jsonl"
"""File of the service's events where the event log is a folder."""

IDLE_SECONDS: Final = 0.25
BACKOFF_SECONDS: Final = (0.5, 5.0)
ADOPT_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05

log = structlog.get_logger(__name__)


class SinkError(Exception):
    """Events cannot be delivered now, but perhaps later."""


class Sink(Protocol):
    """The place where events go."""

    name: str

    def send(self, records: Sequence[Record], enough: Callable[[], bool]) -> int:
        """Deliver events, and return how many of them, from the first on, need not be sent again.

        Parameters
        ----------
        enough
            Returns whether to stop waiting; called again and again.

        Raises
        ------
        SinkError
            None of the events is delivered.
        """

    def close(self) -> None:
        """Close what is open."""


class LogSink:
    """Appends lines to a file that other processes append to, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def send(self, records: Sequence[Record], enough: Callable[[], bool]) -> int:  # noqa: ARG002 - a disk answers at once
        """Append the lines; a torn last line is ended first, so that it spoils no other."""
        written = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    os.write(file, b"\n")
                for some in writing(file, [part for record in records for part in (record.line, b"\n")]):
                    written += some
            finally:
                os.close(file)
        except OSError as error:
            if not (whole := _whole(records, written)):
                raise SinkError(
                    f"{self.path}: {error.strerror}; check LTR_EVENTS_PATH, its permissions and space"
                ) from None
            return whole
        return len(records)

    def close(self) -> None:
        """Do nothing: the file is closed after each call."""


def _whole(records: Sequence[Record], written: int) -> int:
    """Return how many lines are whole when so many bytes were written."""
    ends = accumulate(len(record.line) + 1 for record in records)
    return sum(end <= written for end in ends)


class TopicSink:
    """Sends to a topic with an idempotent producer: all replicas acknowledge, a query's events stay in order."""

    def __init__(self, connection: KafkaConnection) -> None:
        self.name = f"topic {connection.topic}"
        self._topic = connection.topic
        self._settings: dict[str, Any] = connection.for_confluent() | {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.timeout.ms": int(connection.timeout_seconds * 1000),
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
            "error_cb": lambda error: log.debug("kafka", error=str(error)),
        }
        self._producer: Any = None

    def send(self, records: Sequence[Record], enough: Callable[[], bool]) -> int:
        """Send the events; a message that brokers refuse for its size or form counts as done, and is logged."""
        from confluent_kafka import KafkaException

        # Hand all messages to the producer; each notes its outcome when the brokers have answered.
        outcomes: list[Any] = [_PENDING] * len(records)
        try:
            producer = self._made()
            for index, record in enumerate(records):
                self._produce(producer, record, _noting(outcomes, index))
        except (KafkaException, BufferError) as error:
            self._producer = None  # what it still delivers will be delivered twice
            raise SinkError(f"{self.name}: {error}") from None
        # Wait until all have an outcome, or the caller has waited enough.
        while _PENDING in outcomes and not enough():
            producer.poll(POLL_SECONDS)
        return self._delivered(records, outcomes)

    def close(self) -> None:
        """Forget messages without an acknowledgement; they are still in the spool."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1.0)
            self._producer = None

    def _made(self) -> Any:  # noqa: ANN401 - confluent-kafka has no types
        if self._producer is None:
            from confluent_kafka import Producer

            self._producer = Producer(self._settings)
        return self._producer

    def _produce(self, producer: Any, record: Record, note: Any) -> None:  # noqa: ANN401
        while True:
            try:
                producer.produce(self._topic, bytes(record.line), record.key.encode(), on_delivery=note)
            except BufferError:  # its queue is full
                producer.poll(POLL_SECONDS)
            else:
                return

    def _delivered(self, records: Sequence[Record], outcomes: list[Any]) -> int:
        """Count the events, from the first on, that are acknowledged or refused for good; SinkError for none."""
        done = 0
        for record, error in zip(records, outcomes, strict=True):
            if error is not None and not _refused(error):
                if error is not _PENDING and error.fatal():
                    self._producer = None
                break
            if error is not None:
                log.error("an event was refused", topic=self._topic, query_id=record.key, error=str(error))
                prometheus.EVENTS.labels(record.kind, "dropped").inc()
            done += 1
        if not done and records:
            error = outcomes[0]
            raise SinkError(f"{self.name}: {'no acknowledgement yet' if error is _PENDING else error}")
        return done


_PENDING: Final = object()


def _noting(outcomes: list[Any], index: int) -> Any:  # noqa: ANN401
    def note(error: Any, _message: Any) -> None:  # noqa: ANN401
        outcomes[index] = error

    return note


def _refused(error: Any) -> bool:  # noqa: ANN401
    """Return whether sending the same message again would be of no use."""
    from confluent_kafka import KafkaError

    if error is _PENDING:
        return False
    return error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD)


def open_sink(kafka: KafkaConnection | None, events_path: str) -> Sink:
    """Return the topic where there is one, else the event log.

    Raises
    ------
    SettingsError
        The setting of the event log names no single file that can be appended to.
    """
    if kafka is not None:
        return TopicSink(kafka)
    path = Path(events_path)
    if any(mark in events_path for mark in "*?[") or path.suffix == ".gz":
        raise SettingsError(
            f"LTR_EVENTS_PATH is {events_path}, and the service cannot append to that; name a file or a folder, or set "
            "KAFKA_BOOTSTRAP_SERVERS"
        )
    return LogSink(path / LOG_NAME if path.is_dir() or events_path.endswith("/") else path)


class Shipper:
    """Delivers the events of a journal, and those that dead processes have left beside it, in a thread of its own.

    Parameters
    ----------
    journal
        Journal of this process.
    root
        Folder of all journals.
    sink
        Place where the events go.
    """

    def __init__(self, journal: Journal, root: Path, sink: Sink) -> None:
        self._own = journal
        self._adopted: list[Journal] = []
        self._root = root
        self._sink = sink
        self._looked = float("-inf")
        self._failing = False
        self._backoff = BACKOFF_SECONDS[0]
        self._stop_at: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ship", daemon=True)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of all events that this process has to deliver."""
        return sum(journal.waiting_bytes for journal in [self._own, *self._adopted])

    def start(self) -> None:
        """Start to deliver."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Deliver what is left for so many seconds at most, and end; the next process delivers the rest."""
        self._stop_at = time.monotonic() + seconds
        self._stopping.set()
        self._thread.join(seconds + 2)
        for journal in [self._own, *self._adopted]:
            journal.close()

    def _run(self) -> None:
        # Round after round without a pause while there is something to deliver, else with one.
        while not self._stopping.is_set():
            self._stopping.wait(0 if self._round() else self._backoff if self._failing else IDLE_SECONDS)
        # At the end: until everything is delivered, or the time is over.
        while not self._is_over() and self._round():
            pass
        self._sink.close()

    def _is_over(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _round(self) -> bool:
        """Deliver some events of one journal, and return whether to go on without a pause."""
        try:
            self._adopt()
            moved = any(self._ship(journal) for journal in [*self._adopted, self._own])
        except (SinkError, OSError) as error:
            self._note_failure(error)
            moved = False
        except Exception:  # whatever is wrong with one batch, the thread stays
            log.exception("shipping failed")
            self._note_failure(RuntimeError("see the log"))
            moved = False
        self._measure()
        return moved

    def _adopt(self) -> None:
        """Close adopted journals that are delivered, and now and then look for others to adopt."""
        for journal in [journal for journal in self._adopted if not journal.waiting_bytes]:
            self._adopted.remove(journal)
            journal.close()
        if time.monotonic() - self._looked > ADOPT_SECONDS:
            self._looked = time.monotonic()
            for journal in abandoned(self._root):
                self._adopted.append(journal)
                log.info(
                    "events of an earlier process are delivered", folder=str(journal.folder), events=journal.waiting
                )

    def _ship(self, journal: Journal) -> bool:
        batch = journal.read()
        if batch is None:
            return False
        delivered = self._sink.send(batch.records, self._is_over) if batch.records else 0
        journal.advance(batch, delivered)
        prometheus.events((record.kind for record in batch.records[:delivered]), "delivered")
        if batch.torn and delivered == len(batch.records):
            prometheus.EVENTS.labels("unknown", "torn").inc(batch.torn)
            log.warning("torn lines of the spool were skipped", folder=str(journal.folder), lines=batch.torn)
        if self._failing:
            self._failing, self._backoff = False, BACKOFF_SECONDS[0]
            log.info("events are delivered again", to=self._sink.name)
        return True

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            log.warning("events wait in the spool", folder=str(self._root), error=str(error))
        else:
            self._backoff = min(2 * self._backoff, BACKOFF_SECONDS[1])
        self._failing = True

    def _measure(self) -> None:
        """Export how much waits, and how long."""
        journals = [self._own, *self._adopted]
        prometheus.SPOOL_EVENTS.set(sum(journal.waiting for journal in journals))
        prometheus.SPOOL_BYTES.set(sum(journal.waiting_bytes for journal in journals))
        prometheus.SPOOL_AGE.set(max(journal.age(time.time()) for journal in journals))
