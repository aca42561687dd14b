"""A TCP proxy on loopback that cuts, delays and swallows, for any protocol.

::

    with Proxy("127.0.0.1", server.port) as proxy:
        proxy.drop_answers(b"PUT ", times=1)  # the next PUT is done, but nobody hears of it
        proxy.hold(after=10_000)  # then everything stands still in mid-transfer, until it is released
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

CHUNK = 16 * 1024
PATIENCE_SECONDS = 60


class Proxy:
    """Passes everything on until told otherwise.

    Parameters
    ----------
    port
        Where to listen; 0 = wherever there is room.

    Attributes
    ----------
    port
        Where to connect to.
    delay
        Seconds that every piece of an answer is late.
    silent
        Connections are accepted and nothing is ever answered; what is sent does not arrive.
    dropped, cuts
        How many answers were swallowed and connections cut so far.
    passed
        Bytes passed on so far, in both directions.
    held
        Set while everything stands still.
    """

    def __init__(self, host: str, target: int, port: int = 0) -> None:
        self.target = (host, target)
        self.delay = 0.0
        self.silent = False
        self.dropped = self.cuts = self.passed = 0
        self.held = threading.Event()
        self._released = threading.Event()
        self._hold_at: int | None = None
        self._lock = threading.Lock()
        self._drops: tuple[bytes, int, int] = (b"", 0, 1)
        self._instead = b""
        self._matching = 0
        self._cut: tuple[int, int] = (0, 0)
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def drop_answers(self, request: bytes = b"", times: int = 1, every: int = 1, instead: bytes = b"") -> None:
        """Swallow the next answers, or every tenth or so, to requests that start so, and cut their connections.

        What is given `instead` is answered before the cut.
        """
        with self._lock:
            self._drops, self._matching, self._instead = (request, times, every), 0, instead

    def hold(self, after: int) -> None:
        """Let so many more bytes pass, then let everything stand still until `release`."""
        with self._lock:
            self._hold_at = self.passed + after
        self.held.clear()
        self._released.clear()

    def release(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._hold_at = None
        self._released.set()
        self.held.clear()

    def heal(self) -> None:
        """Pass everything on from now on."""
        self.delay, self.silent = 0.0, False
        self.drop_answers(times=0)
        self.cut(times=0)
        self.release()

    def cut(self, after: int = 0, times: int = 1) -> None:
        """Cut the next `times` connections that answer more than `after` bytes from now on, at that byte."""
        with self._lock:
            self._cut = (after, times)

    def cut_now(self) -> None:
        """Cut every open connection."""
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        self.heal()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_now()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.target, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        with self._lock:
            self._open |= {client, server}
        threading.Thread(target=link.answers, daemon=True).start()
        link.requests()
        with self._lock:
            self._open -= {client, server}

    def _takes(self, request: bytes) -> bool:
        """Return whether the answer to this request is to be swallowed; counts it."""
        with self._lock:
            start, times, every = self._drops
            if not times or not request.startswith(start):
                return False
            self._matching += 1
            if self._matching % every:
                return False
            self._drops = (start, times - 1, every)
            self.dropped += 1
            return True

    def _count(self, size: int) -> None:
        """Count bytes that are about to pass; waits where everything stands still."""
        with self._lock:
            self.passed += size
            still = self._hold_at is not None and self.passed > self._hold_at
        if still:
            self.held.set()
            self._released.wait(PATIENCE_SECONDS)

    def _allowed(self, answered: int, size: int) -> int | None:
        """Bytes of the next `size` that pass before the connection is cut; None when it is not."""
        with self._lock:
            after, times = self._cut
            if not times or answered + size <= after:
                return None
            self._cut = (after, times - 1)
            self.cuts += 1
            return max(0, after - answered)


class _Link:
    """One connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.request = b""  # how the newest request starts
        self.unanswered = True

    def requests(self) -> None:
        with suppress(OSError):
            while piece := self.client.recv(CHUNK):
                if self.proxy.silent:
                    continue
                if not self.request or piece[:4] in (b"GET ", b"PUT ", b"HEAD", b"POST", b"DELE"):
                    self.request, self.unanswered = piece[:200], True
                self.proxy._count(len(piece))
                self.server.sendall(piece)
        self._end()

    def answers(self) -> None:
        passed = 0
        with suppress(OSError):
            while piece := self.server.recv(CHUNK):
                while self.proxy.silent:
                    time.sleep(0.05)
                time.sleep(self.proxy.delay)
                if self._begins_an_answer(piece) and self.proxy._takes(self.request):
                    self.client.sendall(self.proxy._instead)
                    break
                self.proxy._count(len(piece))
                allowed = self.proxy._allowed(passed, len(piece))
                self.client.sendall(piece[:allowed])
                if allowed is not None:
                    break
                passed += len(piece)
        self._end()

    def _begins_an_answer(self, piece: bytes) -> bool:
        begins = self.unanswered and not piece.startswith(b"HTTP/1.1 100 ")
        self.unanswered = self.unanswered and not begins
        return begins

    def _end(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
