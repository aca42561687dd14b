"""What one client may take of a service: real sockets, one after the other and a thousand at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse

import psutil
import pytest

from ltr_pipeline.serving.http.protocol import CONNECTIONS, HEAD_BYTES, HEAD_SECONDS, HEADERS, PIPELINED
from support.service import Server

KEY = "a-key-of-these-tests"
ASKED = b"GET /ltr/health HTTP/1.1\r\nHost: a\r\n\r\n"
MOST_BYTES = 100 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("protocol"), LTR_API_KEYS=KEY) as server:
        yield server


@pytest.fixture(autouse=True)
def cheap(server: Server) -> Iterator[None]:
    """What a client does costs less than 100 MB, nobody else waits, and nothing breaks."""
    before = psutil.Process(server.pid).memory_info().rss
    yield
    assert psutil.Process(server.pid).memory_info().rss - before < MOST_BYTES
    server.get("/ltr/health")
    assert "Traceback" not in server.log


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    try:
        while piece := connection.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return found


def status(connection: socket.socket) -> int:
    """Status of the next answer, which is read to its end."""
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def send_until_refused(connection: socket.socket, piece: bytes, most: int) -> int:
    """Send it again and again; bytes that were sent before the connection ended."""
    sent = 0
    try:
        while sent < most:
            sent += connection.send(piece)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    "piece", [b"x" * 65536, b"y: " + b"x" * 65536 + b"\r\n", b"y:\r\n" * 10_000], ids=["value", "lines", "short lines"]
)
def test_a_head_without_an_end_is_refused(server: Server, piece: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /ltr/health HTTP/1.1\r\nx: ")
        assert send_until_refused(connection, piece, 1 << 30) < 16 << 20


MANY = b"".join(b"x%d: " % n + b"x" * 1000 + b"\r\n" for n in range(20))


@pytest.mark.parametrize(
    "headers",
    [b"x: " + b"x" * HEAD_BYTES + b"\r\n", b"x: x\r\n" * (HEADERS + 1), MANY],
    ids=["value", "lines", "altogether"],
)
def test_a_large_head_is_answered_by_431_and_the_next_connection_as_ever(server: Server, headers: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /ltr/health HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 431 ")
    assert server.metric('ltr_connections_closed_total{reason="large head"}') > 0


def test_a_head_within_the_limits_is_read_in_any_pieces(server: Server) -> None:
    head = ASKED[:-2] + b"".join(b"x%d: " % n + b"x" * 100 + b"\r\n" for n in range(HEADERS - 1)) + b"\r\n"
    with connected(server) as connection:
        for start in range(0, len(head), 500):
            connection.sendall(head[start : start + 500])
            time.sleep(0.001)
        assert status(connection) == 200
        connection.sendall(ASKED)  # on the same connection
        assert status(connection) == 200


def test_a_refused_body_is_read_to_its_end_and_is_no_head(server: Server) -> None:
    head = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head + b"x" * 100_000)
        assert status(connection) == 401
        connection.sendall(b"x" * 100_000 + ASKED)
        assert status(connection) == 200


def test_a_few_requests_may_be_sent_at_once_and_are_answered_in_order(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(ASKED * PIPELINED + ASKED[:-4] + b"\r\nConnection: close\r\n\r\n")
        assert answer(connection).count(b"HTTP/1.1 200 ") == PIPELINED + 1


def test_thousands_of_requests_at_once_are_not_kept(server: Server) -> None:
    with ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(connected(server))
            send_until_refused(connection, ASKED * 1000, 4 << 20)
        server.get("/ltr/health")
    server.until(lambda: server.metric('ltr_connections_closed_total{reason="pipelined"}') >= 20)


def test_answers_that_nobody_reads_do_not_pile_up(server: Server) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    with ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(connected(server)).sendall(asked * PIPELINED)
        for _ in range(20):
            server.get("/ltr/health")


def test_connections_that_wait_give_way_to_those_that_ask(server: Server) -> None:
    with ExitStack() as opened:
        half = [opened.enter_context(connected(server)) for _ in range(CONNECTIONS + 200)]
        for connection in half:
            send_until_refused(connection, b"GET / HTTP/1.1\r\nx: ", 1)
        for _ in range(50):
            server.get("/ltr/health")
        server.until(lambda: server.metric('ltr_connections_closed_total{reason="too many"}') >= 200)
        began = time.monotonic()
        assert answer(half[-1]).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 3 * HEAD_SECONDS
