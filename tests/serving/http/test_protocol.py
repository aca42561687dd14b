"""What one client may take of a service: real sockets, one after the other and a thousand at once."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse

import psutil
import pytest

from ltr_pipeline.serving.http.bodies import ROOM
from ltr_pipeline.serving.http.protocol import (
    BODY_SECONDS,
    CONNECTIONS,
    HEAD_BYTES,
    HEAD_SECONDS,
    HEADERS,
    PIPELINED,
    WAITING_BYTES,
)
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


def connected(server: Server, room: int = 0) -> socket.socket:
    """A connection, whose side takes about `room` bytes that are not read."""
    connection = socket.socket()
    connection.settimeout(60)
    if room:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.connect(("127.0.0.1", server.port))
    return connection


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


def closed(server: Server, reason: str) -> float:
    """How many connections were closed for that."""
    return server.metric(f'ltr_connections_closed_total{{reason="{reason}"}}')


def send_at_once(connection: socket.socket, data: bytes) -> None:
    """Send as much of it as the other side takes without waiting."""
    connection.setblocking(False)
    try:
        while data:
            data = data[connection.send(data) :]
    except OSError:
        pass


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
    assert closed(server, "large head") > 0


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


def test_head_and_body_of_an_answer_come_in_one_piece(server: Server) -> None:
    connection = connected(server)
    for _ in range(20):
        connection.sendall(ASKED)
        head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body.endswith(b"}")


def test_an_answer_without_a_body_is_sent_and_the_connection_goes_on(server: Server) -> None:
    connection = connected(server)
    connection.sendall(ASKED.replace(b"GET", b"HEAD"))
    assert connection.recv(1 << 16).endswith(b"\r\n\r\n")
    connection.sendall(ASKED)
    assert status(connection) == 200


def test_who_asks_whether_to_go_on_is_told_before_the_answer(server: Server) -> None:
    connection = connected(server)
    head = (
        b"POST /ltr/feedback HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n" % KEY.encode()
    )
    connection.sendall(head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b"{}")
    assert status(connection) == 422


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
    server.until(lambda: closed(server, "pipelined") >= 20)


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
        server.until(lambda: closed(server, "too many") >= 200)
        began = time.monotonic()
        assert answer(half[-1]).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 3 * HEAD_SECONDS


CHUNKED = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("start", [b"0\r\nx: ", b"1;x="], ids=["a trailer", "a chunk's extension"])
def test_what_comes_between_pieces_of_a_body_without_an_end_is_refused(server: Server, start: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(CHUNKED + start)
        assert send_until_refused(connection, b"x" * 65536, 1 << 30) < 16 << 20


def test_many_lines_behind_a_body_are_refused(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(CHUNKED + b"0\r\n" + b"x: x\r\n" * (HEADERS + 1))
        assert b" 200 " not in answer(connection)


def test_a_line_behind_the_body_is_no_header(server: Server) -> None:
    head = CHUNKED[:-2] + b"Content-Type: application/json\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head + b"2\r\n{}\r\n0\r\nX-API-Key: " + KEY.encode() + b"\r\n\r\n")
        assert status(connection) == 401
        connection.sendall(head[:-2] + b"X-API-Key: " + KEY.encode() + b"\r\n\r\n2\r\n{}\r\n0\r\nX: x\r\n\r\n")
        assert status(connection) == 422


def test_bodies_that_never_end_let_others_in_and_are_ended(server: Server) -> None:
    head = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    with ExitStack() as opened:
        slow = [opened.enter_context(connected(server)) for _ in range(CONNECTIONS)]
        for connection in slow:
            send_until_refused(connection, head, 1)
        others = [opened.enter_context(connected(server)) for _ in range(20)]  # more than there is room for
        for other in others:
            other.sendall(ASKED)
            assert status(other) == 200
        begin = time.monotonic()
        last, ended = slow[-1], False
        assert status(last) == 401
        while not ended and time.monotonic() - begin < 3 * BODY_SECONDS:  # a byte now and then
            ended = send_until_refused(last, b"x", 1) == 0
            time.sleep(0.05)
        assert ended
    assert closed(server, "slow body") > 0


def test_a_connection_that_sends_line_ends_alone_is_ended(server: Server) -> None:
    with connected(server) as fresh, connected(server) as used:
        used.sendall(ASKED)
        assert status(used) == 200
        begin, open_ = time.monotonic(), {fresh, used}
        while open_ and time.monotonic() - begin < 3 * HEAD_SECONDS:
            open_ = {one for one in open_ if send_until_refused(one, b"\r\n", 1)}
            time.sleep(0.05)
        assert not open_


BUNDLE = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
FAT = ASKED[:-2] + b"".join(b"x%d: " % n + b"x" * 120 + b"\r\n" for n in range(98)) + b"\r\n"
BODY = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000


@pytest.mark.parametrize("behind", [b"", FAT * PIPELINED, BODY], ids=["nothing", "fat heads", "a body"])
def test_readers_of_nothing_take_little_whatever_waits_behind_it(server: Server, behind: bytes) -> None:
    with ExitStack() as opened:
        for _ in range(CONNECTIONS):
            send_at_once(opened.enter_context(connected(server, room=4096)), BUNDLE + behind)
        for _ in range(20):
            server.get("/ltr/health")


def test_small_bodies_may_wait_for_their_turn(server: Server) -> None:
    head = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % (WAITING_BYTES // 8)
    body = b"\r\n" + b"x" * (WAITING_BYTES // 8)
    with connected(server) as connection:
        connection.sendall((head + body) * 4 + head + b"Connection: close\r\n" + body)
        assert answer(connection).count(b"HTTP/1.1 401 ") == 5


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(server: Server, protocol: bytes) -> None:
    asked = ASKED[:-2] + b"Connection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    with connected(server) as connection:
        for _ in range(10):
            connection.sendall(asked)
            assert status(connection) == 200
    assert "pgrade" not in server.log


def test_bodies_that_are_let_in_have_so_much_room_together(server: Server) -> None:
    head = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-API-Key: %b\r\n" % KEY.encode()
    part = b"x" * 1_000_000
    with ExitStack() as opened:
        bodies = [opened.enter_context(connected(server)) for _ in range(3 * ROOM // len(part))]
        for connection in bodies:
            connection.sendall(head + b"Content-Length: 4000000\r\n\r\n" + part)
        assert status(bodies[0]) == 408  # the others' room
        connection = opened.enter_context(connected(server))
        connection.sendall(head + b"Content-Length: 2\r\n\r\n{}")
        assert status(connection) == 422


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 4_000_000,
        b'{"query_id":' * 300_000,
        b'{"query_id":"q","candidates":[' + b'{"item_id":"a","features":[]},' * 130_000,
    ],
    ids=["deep", "deep objects", "candidates"],
)
def test_hostile_json_takes_little(server: Server, body: bytes) -> None:
    for _ in range(5):
        answered = server.http.post(
            "/ltr/rank", content=body, headers={"x-api-key": KEY, "content-type": "application/json"}
        )
        assert answered.status_code in (400, 422)


def test_a_compressed_body_is_not_unpacked(server: Server) -> None:
    body = gzip.compress(b'{"query_id":' + b" " * (64 << 20))
    headers = {"x-api-key": KEY, "content-type": "application/json", "content-encoding": "gzip"}
    assert server.http.post("/ltr/rank", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize("path", [b"/metrics", b"/openapi.json", b"/ltr/versions", b"/nope?" + b"x=x&" * 3000])
def test_many_who_ask_for_what_is_dear_do_not_stop_others(server: Server, path: bytes) -> None:
    with ExitStack() as opened:
        for _ in range(200):
            asked = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"
            send_at_once(opened.enter_context(connected(server)), asked)
        for _ in range(5):
            server.get("/ltr/health")
