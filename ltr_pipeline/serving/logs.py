"""The service's log: one JSON object a line in ``logs/api.log``, where there is a folder, and warnings on stderr.

Requests only leave their line in memory; a thread appends all waiting lines several times a second in one write, so the
lines of several workers never mix. Lines that are not written yet are lost when the process is killed.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from ltr_pipeline.printable import printable

__all__ = ["FILE_NAME", "Facts", "Logs"]

FILE_NAME: Final = "api.log"
FLUSH_SECONDS: Final = 0.2
MOST_LINES: Final = 100_000
"""Lines that may wait, for example for a full disk; later ones are dropped and counted."""


class Facts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The facts about a request that its log line has; the code that answers it fills them in.

    Attributes
    ----------
    outcome
        ``model`` or ``fallback`` for a ranking; for any request ``refused`` when the answer was a 4xx, ``error`` when
        it was a 5xx, ``gone`` when nobody waited for the answer.
    """

    timestamp: datetime
    level: str = ""
    event: str
    request_id: str
    method: str
    path: str
    status: int = 0
    ms: float = 0.0
    version: str | None = None
    candidates: int | None = None
    k: int | None = None
    outcome: str | None = None


class Logs:
    """Takes the log lines of this process while the ``with`` lasts, from structlog and the standard library.

    Parameters
    ----------
    folder
        Folder of the log, made if missing; None = no file, only warnings and errors on stderr.
    dropped
        Called with the number of lines that could not be written.
    """

    def __init__(self, folder: Path | None, dropped: Callable[[int], None] = lambda _lines: None) -> None:
        self._path = folder / FILE_NAME if folder else None
        self._dropped = dropped
        self._lines: list[bytes] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._handler = _Handler()
        self._before: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._before = structlog.get_config()
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                self._send,
            ],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
        )
        logging.getLogger().addHandler(self._handler)
        logging.getLogger("uvicorn").setLevel(logging.INFO)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        logging.getLogger().removeHandler(self._handler)
        structlog.configure(**self._before)

    def write(self, line: bytes) -> None:
        """Queue a line, given without its line feed, for the file; do nothing without a file."""
        if self._path is None:
            return
        if len(self._lines) >= MOST_LINES:
            self._dropped(1)
            return
        self._lines.append(line)

    def _send(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Write an event; as the last processor it ends its way here."""
        line = msgspec.json.encode(event, enc_hook=str, order=None)
        self.write(line)
        if event["level"] not in ("debug", "info"):
            sys.stderr.buffer.write(printable(line.decode()).encode() + b"\n")
            sys.stderr.flush()
        raise structlog.DropEvent

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        """Append the waiting lines; the file is opened anew each time, so it may be rotated."""
        lines, self._lines = self._lines, []
        if not lines or self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, b"\n".join([*lines, b""]))
            finally:
                os.close(file)
        except OSError:  # a full disk or a missing folder must not stop the service
            self._dropped(len(lines))


class _Handler(logging.Handler):
    """Passes records of the standard library's logging, which uvicorn and boto use, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, **exc_info)
