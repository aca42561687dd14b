"""A real webhook on loopback, for what is told to people."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """A webhook on loopback: remembers what it got, answers `status`, or only after `release` is set.

    With `certificate`, a folder as `certificates.issue` writes it, it speaks TLS.
    """

    daemon_threads = True

    def __init__(self, status: int = 200, hangs: bool = False, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "public.crt", certificate / "private.key")
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.status = status
        self.got: list[dict] = []
        self.release = threading.Event()
        if not hangs:
            self.release.set()

    @property
    def port(self) -> int:
        return self.server_address[1]


class Hook(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.release.wait(60)
        self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()
        if self.server.status == 200:
            self.wfile.write(b"ok")  # as Slack answers

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
