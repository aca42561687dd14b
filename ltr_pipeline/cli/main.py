"""The program ``ltr``: logging set up, a command run, errors told in one line."""

from __future__ import annotations

import sys

import structlog
from structlog.typing import EventDict

from ltr_pipeline.cli.commands import app
from ltr_pipeline.cli.console import print_error
from ltr_pipeline.errors import LtrError
from ltr_pipeline.printable import printable

__all__ = ["app", "main"]


def main() -> None:
    """Run a command; an error this package raises on purpose is one line, not a traceback."""
    structlog.configure(
        processors=[
            _without_failures,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _printable,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        app()
    except (LtrError, OverflowError) as error:  # the latter: a date beyond the calendar
        print_error(f"error: {error}", "red")
        sys.exit(2)


def _without_failures(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Drop what `main` says once more in its own words."""
    if event.get("event") == "task failed":
        raise structlog.DropEvent
    return event


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal obeys, before the renderer adds its colours."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}
