"""HTTP/1.1 on one connection, with limits that uvicorn's protocol lacks, so that no client takes the others' room.

A head that is too large, too slow or has too many lines, requests sent without waiting for answers, answers that nobody
reads, a body that goes on after its answer, and more connections than there is room for end by the connection being
closed, with an answer where there is still time for one. How large and slow a body may be that is read, the application
decides (`app`). What is whole and in time pays for none of this.
"""

from __future__ import annotations

import asyncio
import resource
from functools import cache
from operator import attrgetter
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ltr_pipeline.serving import prometheus

__all__ = [
    "BODY_SECONDS",
    "CONNECTIONS",
    "HEADERS",
    "HEAD_BYTES",
    "HEAD_SECONDS",
    "PIPELINED",
    "UNREAD_SECONDS",
    "WAITING_BYTES",
    "LimitedProtocol",
]

HEAD_BYTES: Final = 16 * 1024
"""Largest head of a request: its line and headers; also most bytes between two pieces of a body."""

HEADERS: Final = 100
"""Most header lines of a request, and most lines behind its body."""

HEAD_SECONDS: Final = 10.0
"""Longest time in which a head must arrive, from the connection or from its first byte."""

BODY_SECONDS: Final = 10.0
"""How long a body may go on that was answered before its end, such as one without the key."""

PIPELINED: Final = 16
"""Most requests that may wait for the answer to the one before them."""

WAITING_BYTES: Final = 32 * 1024
"""Most memory that they may take."""

UNREAD_SECONDS: Final = 30.0
"""How long an answer may wait to be read."""

CONNECTIONS: Final = 1000
"""Most connections of a worker; one more closes the one that last sent a whole head or got a whole answer."""

HEADER_BYTES: Final = 120
"""Memory of a header beside its letters."""

OWN_FILES: Final = 48
"""Files that a worker has open or may open besides, where fewer may be open than there may be connections."""


class _RefusedError(Exception):
    """The parser stops; what it was parsing is answered by `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Answer:
    """The transport as an answer sees it: the head waits for the first piece of the body, so that both are one write.

    Written by themselves they are two system calls, and wake the client twice.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Write a piece; the first one of the answer waits for the next."""
        if self._head is None and self._cycle.response_started:  # else it asks for the rest of the request
            self._head = data
        else:
            self._transport.write(self._head + data if self._head else data)
            self._head = self._head and b""

    def flush(self) -> None:
        """Write a head that no body has followed."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Close behind what was written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._transport.is_closing()


class LimitedProtocol(HttpToolsProtocol):
    """One connection of uvicorn with httptools, which ends where a limit is broken."""

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        super().__init__(*args, **more)
        self.since = self.loop.time()
        """When it was made, last sent a whole head, or was last answered."""

        self._in_head = self._in_body = False
        self._pieces = 0  # heads and pieces of bodies that were taken
        self._between = 0  # bytes since the last of them
        self._lines = 0  # of headers
        self._answering: RequestResponseCycle | None = None  # `cycle` is the newest, which may wait for this one
        self._refusal: _RefusedError | None = None
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and if there are too many let go of one."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        if len(self.connections) > _room():
            others = (one for one in self.connections if isinstance(one, LimitedProtocol) and one is not self)
            min(others, key=_SINCE).end("too many")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        if self._unread:
            self._unread.cancel()
        super().connection_lost(exc)
        self._answer_no_more()
        self.pipeline.clear()
        self.cycle = self._answering = None  # type: ignore[assignment] # what it holds goes now, not when garbage does

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as far as it keeps to the limits."""
        before = self._pieces
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._between = self._between + len(data) if self._pieces == before else 0
        if self._between > HEAD_BYTES:
            self._refuse(_RefusedError(431, _LARGE))
        elif self._late is None and (self._in_head or not self._is_asked):
            self._late = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head, self._lines = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, if there are not too many; one behind the body is no header, so it is left out."""
        self._lines += 1
        if self._lines > HEADERS:
            self._stop_parsing(431, f"the request has more than {HEADERS} headers")
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer a request, or let it wait for the one before it."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._stop_parsing(431, _LARGE)
        if len(self.pipeline) >= PIPELINED:
            self._stop_parsing(429, _WAITING)
        self._in_head, self._in_body, self._lines = False, True, 0
        self._pieces += 1
        self.since = self.loop.time()
        self._stop_waiting()
        super().on_headers_complete()
        self._check_waiting()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._pieces += 1
        self._check_waiting(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_body = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, once the end of this one has come."""
        self.since = self.loop.time()
        if self._answering:
            self._answering.transport.flush()  # type: ignore[attr-defined] # an `_Answer`
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_unless_read()
        elif self._in_body and self.cycle.response_complete:
            self._late = self.loop.call_later(BODY_SECONDS, self.end, "slow body")

    def pause_writing(self) -> None:
        """Give who does not read its answer a while."""
        super().pause_writing()
        self._end_unless_read()

    def resume_writing(self) -> None:
        """Go on: it was read."""
        super().resume_writing()
        if self._unread and not self.transport.is_closing():
            self._unread.cancel()
            self._unread = None

    def timeout_keep_alive_handler(self) -> None:
        """Close what has asked nothing for a while."""
        super().timeout_keep_alive_handler()
        self._end_unless_read()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or was not to be parsed any further."""
        refused, self._refusal = self._refusal, None
        self._refuse(refused or _RefusedError(400, msg))

    def end(self, reason: str) -> None:
        """Close the connection at once, without an answer."""
        prometheus.CLOSED.labels(reason).inc()
        self.connections.discard(self)
        self._answer_no_more()
        self.transport.abort()

    @property
    def _is_asked(self) -> bool:
        """Whether a request is under way: its body, or its answer."""
        return self._in_body or not (self.cycle is None or self.cycle.response_complete)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: whoever asks for another protocol is answered in this one."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - as in uvicorn
        self._answering = cycle
        cycle.transport = _Answer(cycle)  # type: ignore[assignment] # as much of a transport as it uses
        super()._start_asgi_task(cycle, app)

    def _answer_no_more(self) -> None:
        """Have the rest of an answer go nowhere: a closed transport takes nothing."""
        if self._answering:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _check_waiting(self, more: int = 0) -> None:
        """Stop when the requests that wait for their turn take too much, with so many bytes more."""
        if self.pipeline and more + sum(_size(cycle) for cycle, _ in self.pipeline) > WAITING_BYTES:
            self._stop_parsing(429, _WAITING)

    def _end_unless_read(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_SECONDS, self.end, "unread")

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
        if not self._is_asked:
            body = b'{"error":"%s"}' % str(error).encode()
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self._answer_no_more()
        self.transport.close()
        self._end_unless_read()


def _size(cycle: RequestResponseCycle) -> int:
    """Return about how much memory a request takes that waits."""
    headers = cycle.scope["headers"]
    return len(cycle.body) + sum(HEADER_BYTES + len(name) + len(value) for name, value in headers)


@cache
def _room() -> int:
    """Return how many connections there may be, so that files can be opened beside them."""
    return max(4, min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES))


_SINCE: Final = attrgetter("since")
_WAITING: Final = f"{PIPELINED} requests or {WAITING_BYTES} bytes wait on this connection; read their answers first"
_LARGE: Final = f"the head of the request is larger than {HEAD_BYTES} bytes"
_REASONS: Final = {400: "not HTTP", 408: "slow head", 429: "pipelined", 431: "large head"}
