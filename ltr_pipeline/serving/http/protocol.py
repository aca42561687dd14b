"""HTTP/1.1 on one connection, with limits that uvicorn's protocol lacks, so that no client takes the others' room.

A head that is too large, too slow or has too many lines, requests sent without waiting for answers, answers that nobody
reads, and more connections than there is room for end by the connection being closed, with an answer where there is
still time for one. Bodies have limits of their own (`app`). What is whole and in time pays for none of this.
"""

from __future__ import annotations

import asyncio
import resource
from functools import cache
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ltr_pipeline.serving import prometheus

__all__ = ["CONNECTIONS", "HEADERS", "HEAD_BYTES", "HEAD_SECONDS", "PIPELINED", "UNREAD_SECONDS", "LimitedProtocol"]

HEAD_BYTES: Final = 16 * 1024
"""Largest head of a request: its line and headers."""

HEADERS: Final = 100
"""Most header lines of a request."""

HEAD_SECONDS: Final = 10.0
"""Longest time in which a head must arrive, from the connection or from its first byte."""

PIPELINED: Final = 16
"""Most requests that may wait for the answer to the one before them."""

UNREAD_SECONDS: Final = 30.0
"""How long an answer may wait to be read."""

CONNECTIONS: Final = 1000
"""Most connections of a worker; one more closes the one that has been without a whole head for longest."""

OWN_FILES: Final = 48
"""Files that a worker has open or may open besides, where fewer may be open than there may be connections."""


class _RefusedError(Exception):
    """The parser stops; what it was parsing is answered by `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class LimitedProtocol(HttpToolsProtocol):
    """One connection of uvicorn with httptools, which ends where a limit is broken."""

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        super().__init__(*args, **more)
        self._in_head = self._in_body = False
        self._heads = 0  # whole ones
        self._head_bytes = 0  # of one that is not whole yet
        self._idle_since = self.loop.time()
        self._refusal: _RefusedError | None = None
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def idle_since(self) -> float | None:
        """When it began to wait for a whole head; None while a request is under way."""
        busy = self._in_body or not (self.cycle is None or self.cycle.response_complete)
        return None if busy else self._idle_since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and if there are too many let go of one."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        if len(self.connections) > _room():
            others = (one for one in self.connections if isinstance(one, LimitedProtocol))
            idle = [(one.idle_since, id(one), one) for one in others if one.idle_since is not None]
            min(idle)[-1].end("too many")  # this one is idle, too

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        if self._unread:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as far as it keeps to the limits."""
        whole, in_body = self._heads, self._in_body
        super().data_received(data)
        if not self._in_head:
            self._stop_waiting()
            return
        if self._heads == whole and not in_body:  # nothing else was in it
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_RefusedError(431, _LARGE))
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, if there are not too many."""
        if len(self.headers) >= HEADERS:
            self._stop_parsing(431, f"the request has more than {HEADERS} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or let it wait for the one before it."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._stop_parsing(431, _LARGE)
        if len(self.pipeline) >= PIPELINED:
            self._stop_parsing(429, f"{PIPELINED} requests wait on this connection; read their answers first")
        self._in_head, self._in_body = False, True
        self._heads += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Give who does not read its answer a while."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.end, "unread")

    def resume_writing(self) -> None:
        """Go on: it was read."""
        super().resume_writing()
        if self._unread:
            self._unread.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or was not to be parsed any further."""
        refused, self._refusal = self._refusal, None
        self._refuse(refused or _RefusedError(400, msg))

    def end(self, reason: str) -> None:
        """Close the connection at once, without an answer."""
        prometheus.CLOSED.labels(reason).inc()
        self.connections.discard(self)
        self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None

    def _stop_parsing(self, status: int, reason: str) -> None:
        self._refusal = _RefusedError(status, reason)
        raise self._refusal  # through the parser, which reports it to `send_400_response`

    def _head_is_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self._refuse(_RefusedError(408, f"the head of the request took longer than {HEAD_SECONDS:g} s"))

    def _refuse(self, error: _RefusedError) -> None:
        """Answer by an error and close; where another answer is under way, close alone."""
        prometheus.CLOSED.labels(_REASONS[error.status]).inc()
        if self.cycle is None or self.cycle.response_complete:
            body = b'{"error":"%s"}' % str(error).encode()
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()


@cache
def _room() -> int:
    """Return how many connections there may be, so that files can be opened beside them."""
    return max(4, min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES))


_LARGE: Final = f"the head of the request is larger than {HEAD_BYTES} bytes"
_REASONS: Final = {400: "not HTTP", 408: "slow head", 429: "pipelined", 431: "large head"}
