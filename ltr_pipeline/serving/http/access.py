"""An id and a log line for every request, and a count for each that asked for a ranking and got none."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import msgspec
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ltr_pipeline.serving import prometheus
from ltr_pipeline.serving.logs import Facts

__all__ = ["FACTS", "Access"]

FACTS: Final = "ltr_facts"
"""Key of a request's `Facts` in its ASGI scope."""

RANK: Final = "/ltr/rank"
LONGEST_PATH: Final = 256

log = structlog.get_logger(__name__)


class Access:
    """ASGI middleware that names, counts and logs requests, and answers an unforeseen error by 500 with the id.

    Parameters
    ----------
    app
        Application that answers.
    write
        Takes lines for the log.
    version
        Returns the served version.
    """

    def __init__(self, app: ASGIApp, *, write: Callable[[bytes], None], version: Callable[[], str]) -> None:
        self._app = app
        self._write = write
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        facts = Facts(
            timestamp=datetime.now(UTC),
            event="request",
            request_id=uuid4().hex,
            method=scope["method"],
            path=scope["path"][:LONGEST_PATH],
        )
        scope[FACTS] = facts
        if scope["method"] == "HEAD":  # what GET answers; the server leaves the body out
            scope = {**scope, "method": "GET"}

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", facts.request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:  # nobody is left without an answer
            log.exception("request failed", request_id=facts.request_id, path=facts.path)
            if facts.status == 0:
                await _fail(named, facts.request_id)
        finally:
            self._tell(facts, time.perf_counter() - start)

    def _tell(self, facts: Facts, seconds: float) -> None:
        if facts.status >= 400 or facts.status == 0:  # 0: the client went away
            facts.outcome = "error" if facts.status >= 500 else "refused" if facts.status else "gone"
            if facts.path == RANK and facts.method == "POST":
                prometheus.predictions(self._version(), facts.outcome).inc()
        facts.level = "error" if facts.status >= 500 else "info"
        facts.ms = round(seconds * 1000, 3)
        self._write(msgspec.json.encode(facts))


async def _fail(send: Send, request_id: str) -> None:
    body = msgspec.json.encode({"error": f"something went wrong; the log has it under request {request_id}"})
    await send({"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
