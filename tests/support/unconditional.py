"""An S3 server without conditional writes, as most were before 2024: passes everything on to a real one, signed anew,
but for ``If-None-Match``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from deploy.native.minio import S3Server

KEPT = ("content-type", "range", "x-amz-meta-ltr-write", "x-amz-copy-source")


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: S3Server
    not_implemented = False

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.not_implemented and self.headers.get("If-None-Match"):
            self._answer(501, b"<Error><Code>NotImplemented</Code><Message>no such header</Message></Error>", {})
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() in KEPT}
        request = AWSRequest(self.command, self.target.endpoint + self.path, headers=headers, data=body)
        keys = Credentials(self.target.access_key_id, self.target.secret_access_key)
        S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
        prepared = request.prepare()
        answer = urllib3.request(self.command, prepared.url, body=body, headers=dict(prepared.headers.items()))
        self._answer(answer.status, answer.data, {name: answer.headers[name] for name in answer.headers})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = relay  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def without_conditions(server: S3Server, *, not_implemented: bool = False) -> Iterator[str]:
    """Endpoint of a server that ignores conditions, or answers 501 to them; as many as are wanted at once."""
    handler = type("Handler", (Relay,), {"target": server, "not_implemented": not_implemented})
    relay = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=relay.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{relay.server_address[1]}"
    finally:
        relay.shutdown()
        thread.join()
        relay.server_close()
