"""One event a line, with run, date and version, wherever the process already logs and in the training log too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import structlog

__all__ = ["FILE_NAME", "run_log"]

FILE_NAME = "ltr_training.log"


@contextmanager
def run_log(folder: Path | None, *, style: Literal["json", "text"] = "json", **context: object) -> Iterator[None]:
    """Bind `context` to every event logged inside, and copy the events to ``<folder>/ltr_training.log``.

    Where events go otherwise (Airflow's task log, a terminal) is left as it is configured.

    Parameters
    ----------
    folder
        Made if missing; None = no copy.
    style
        ``json`` for machines, ``text`` for people.
    **context
        Keys of every event, such as ``run`` and ``date``.
    """
    with structlog.contextvars.bound_contextvars(**context):
        if folder is None:
            yield
            return
        # Airflow caches its loggers, and those keep the list they were made with: extend it in place.
        processors = structlog.get_config()["processors"]
        copy = _Copy(folder / FILE_NAME, style, context)
        processors.insert(0, copy)
        try:
            yield
        finally:
            processors.remove(copy)


class _Copy:
    """A structlog processor that appends the events of a context to a file and passes every event on unchanged.

    Other threads of the process, such as the triggerer's, log through the same processors; theirs are not copied.
    """

    def __init__(self, path: Path, style: str, context: Mapping[str, object]) -> None:
        self._path = path
        self._context = context.items()
        render: Callable[..., Any] = (
            structlog.processors.JSONRenderer(json.dumps, default=str)
            if style == "json"
            else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
        )
        self._line: list[Callable[..., Any]] = [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ]

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if not self._context <= structlog.contextvars.get_contextvars().items():
            return event
        line: Any = dict(event)
        for process in self._line:
            line = process(logger, method, line)
        with suppress(OSError):  # the copy is a convenience: a full disk or a missing folder must not fail a run
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        return event
