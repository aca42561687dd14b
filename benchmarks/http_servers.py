"""The service's application under several HTTP servers: what a request costs, and what one client can take of each.

    python benchmarks/http_servers.py [--rounds 5] [--seconds 2] [--packages DIR]

Servers: uvicorn with httptools and this repository's limits (what the service runs), uvicorn with httptools and with
h11, hypercorn and granian, one worker and one loop each, with their own options set as near to the same limits as they
go. hypercorn and granian are no dependencies: those that are not installed, here or in the `site-packages` named by
`--packages`, are left out and named.

a. requests to rank 100 candidates with 200 trees, as in `serving.py`: how many a second at 16 connections, p50 and p95
   at one, and the server's CPU time of one request at 16. They take turns; printed are medians of the rounds, and in
   brackets the least and the most. Where the machine is busy, CPU time alone says something.
b. what one client without a key can do, each on a fresh server: how much its memory grows, how many of the connections
   are still open 12 s later, and how long others wait for an answer (never: not within 5 s)
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parent))
from serving import CONNECTIONS, TREES, load, publish, request, running, train

from ltr_pipeline.local.ports import free_port

SERVERS = {
    "uvicorn, httptools, limits": None,
    "uvicorn, httptools": None,
    "uvicorn, h11": None,
    "hypercorn": "hypercorn",
    "granian": "granian",
}
"""Names, and the package that is needed beside those of the service."""

OPEN, HEAD_BYTES, HEAD_SECONDS = 1000, 16 * 1024, 10
LATER = 12.0
SENDING = 10.0
PATIENCE = 5.0


# Servers.


def serve(name: str, port: int) -> None:
    """Serve until a signal comes."""
    import ltr_pipeline.serving.__main__ as service  # it sets the same memory options for all

    service._open_many_files()
    if name.startswith("uvicorn"):
        _serve_uvicorn(name, port)
    elif name == "hypercorn":
        _serve_hypercorn(port)
    else:
        _serve_granian(port)


def _serve_uvicorn(name: str, port: int) -> None:
    import uvicorn

    from ltr_pipeline.serving.http.app import create_app
    from ltr_pipeline.serving.http.protocol import LimitedProtocol

    uvicorn.run(
        create_app(),
        port=port,
        http=LimitedProtocol if name.endswith("limits") else name.rpartition(" ")[2],  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        log_config=None,
        limit_concurrency=None if name.endswith("limits") else OPEN,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


def _serve_hypercorn(port: int) -> None:
    from hypercorn.asyncio import serve as serve_asgi
    from hypercorn.config import Config

    from ltr_pipeline.serving.http.app import create_app

    config = Config()
    config.bind, config.loglevel = [f"127.0.0.1:{port}"], "ERROR"
    config.h11_max_incomplete_size, config.read_timeout = HEAD_BYTES, HEAD_SECONDS
    uvloop.run(serve_asgi(create_app(), config))  # type: ignore[arg-type]


def _serve_granian(port: int) -> None:
    from granian import Granian
    from granian.constants import Interfaces, Loops
    from granian.http import HTTP1Settings

    Granian(
        "ltr_pipeline.serving.http.app:create_app",
        factory=True,
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        backpressure=OPEN,
        log_access=False,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=HEAD_BYTES),
    ).serve()


@contextmanager
def served(name: str, folder: Path, packages: str) -> Iterator[tuple[int, Any]]:
    """A server of its own: its port, and the program."""
    port = free_port()
    place = folder / f"{name}-{port}".replace(", ", "-")
    place.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LTR_", "KAFKA_", "S3_"))}
    environment |= {
        "LTR_REGISTRY_URI": str(folder / "registry"),
        "LTR_SPOOL": str(place / "spool"),
        "LTR_EVENTS_PATH": str(place / "audit.log"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), packages]).rstrip(os.pathsep),
    }
    command = (sys.executable, str(Path(__file__)), "--serve", name, str(port))
    with running(command, port, environment, place) as program:
        for _ in range(50):
            waited(port)
        yield port, program


def cpu_seconds(program: Any) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in program.processes()))


def memory_mb(program: Any) -> float:
    sizes = 0
    for process in program.processes():
        with suppress(psutil.NoSuchProcess):
            sizes += process.memory_info().rss
    return sizes / 2**20


# What a request costs.


def measure(names: list[str], folder: Path, packages: str, rounds: int, seconds: float) -> dict[str, list[list[float]]]:
    """By server the figures of each round: requests a second, p50 and p95 in ms, CPU in ms."""
    figures: dict[str, list[list[float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        running_ones = {name: stack.enter_context(served(name, folder, packages)) for name in names}
        for number in range(-1, rounds):  # the first to warm up
            for name in names if number % 2 else reversed(names):
                port, program = running_ones[name]
                before = cpu_seconds(program)
                many = uvloop.run(load(request(port), port, CONNECTIONS, seconds))
                cpu = (cpu_seconds(program) - before) / len(many)
                alone = np.array(uvloop.run(load(request(port), port, 1, seconds)))
                if number >= 0:
                    p50, p95 = np.percentile(alone, [50, 95]) * 1e3
                    figures[name].append([len(many) / seconds, p50, p95, cpu * 1e3])
    return figures


# What one client can take.


def waited(port: int) -> float | None:
    """Seconds until a new connection is answered; None when it is not."""
    begin = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /ltr/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            if not connection.recv(100).startswith(b"HTTP/1.1 200"):
                return None
    except OSError:
        return None
    return time.perf_counter() - begin


def connected(port: int, stack: ExitStack) -> socket.socket:
    connection = stack.enter_context(socket.socket())
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with suppress(OSError):
        connection.connect(("127.0.0.1", port))
    connection.setblocking(False)
    return connection


def send(connection: socket.socket, data: bytes) -> None:
    """Send as much of it as is taken at once."""
    with suppress(OSError):
        while data:
            data = data[connection.send(data) :]


def huge_head(port: int, stack: ExitStack) -> list[socket.socket]:
    connection = connected(port, stack)
    connection.settimeout(PATIENCE)
    with suppress(OSError):
        connection.sendall(b"GET /ltr/health HTTP/1.1\r\nHost: a\r\nx: ")
        until = time.monotonic() + SENDING
        for _ in range(1 << 14):  # 1 GB
            connection.sendall(b"x" * (1 << 16))
            if time.monotonic() > until:
                break
    connection.setblocking(False)
    return [connection]


def pipelined(port: int, stack: ExitStack) -> list[socket.socket]:
    many = [connected(port, stack) for _ in range(20)]
    for connection in many:
        connection.settimeout(1)
        with suppress(OSError):
            connection.sendall(b"GET /ltr/health HTTP/1.1\r\nHost: a\r\n\r\n" * 100_000)
        connection.setblocking(False)
    return many


def each(count: int, data: bytes) -> Callable[[int, ExitStack], list[socket.socket]]:
    def attack(port: int, stack: ExitStack) -> list[socket.socket]:
        many = [connected(port, stack) for _ in range(count)]
        for connection in many:
            send(connection, data)
        return many

    return attack


BODY = b"POST /ltr/rank HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
BUNDLE = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
ATTACKS: dict[str, Callable[[int, ExitStack], list[socket.socket]]] = {
    "1 GB of headers, or 10 s": huge_head,
    "20 × 3.8 MB of requests, unread": pipelined,
    "1,500 half-sent heads": each(1500, b"GET / HTTP/1.1\r\nx: "),
    "1,500 bodies without an end": each(1500, BODY),
    "1,000 unread answers, bodies behind": each(1000, BUNDLE + BODY + b"x" * 300_000),
}


def is_open(connection: socket.socket) -> bool:
    """Whether the other side still takes a byte, after all that it has said."""
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        with suppress(OSError):
            return connection.send(b"x") == 1
    except OSError:
        pass
    return False


def attacked(name: str, attack: Callable[[int, ExitStack], list[socket.socket]], folder: Path, packages: str) -> str:
    """Attack a fresh server; a cell of the table."""
    with served(name, folder, packages) as (port, program), ExitStack() as stack:
        before = memory_mb(program)
        many = attack(port, stack)
        waits = [waited(port) for _ in range(3)]
        grown = memory_mb(program) - before
        until = time.monotonic() + LATER
        while time.monotonic() < until:
            for connection in many:
                send(connection, b"x")  # now and then a byte
            time.sleep(0.5)
        grown = max(grown, memory_mb(program) - before)
        still = sum(map(is_open, many))
        worst = "never" if None in waits else f"{max(wait for wait in waits if wait is not None) * 1e3:.0f} ms"
    return f"{grown:.0f} MB, {still} open, {worst}"


# What is printed.


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def compare(rounds: int, seconds: float, packages: str) -> None:
    names = [name for name, package in SERVERS.items() if package is None or _is_there(package, packages)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        publish(folder, train(TREES))
        if rounds:
            print("| server | requests/s | p50, ms | p95, ms | CPU a request, ms |\n|---|---|---|---|---|")
            for name, figures in measure(names, folder, packages, rounds, seconds).items():
                print(f"| {name} | {' | '.join(spread(list(column)) for column in zip(*figures, strict=True))} |")
        print(f"\n| server | {' | '.join(ATTACKS)} |\n|---|{'---|' * len(ATTACKS)}")
        for name in names:
            print(
                f"| {name}",
                *(attacked(name, attack, folder, packages) for attack in ATTACKS.values()),
                "",
                sep=" | ",
                flush=True,
            )
    for name in SERVERS.keys() - set(names):
        print(f"{name} is not installed; see --packages")


def _is_there(package: str, packages: str) -> bool:
    return importlib.util.find_spec(package) is not None or (bool(packages) and (Path(packages) / package).is_dir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--packages", default="", metavar="DIR")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], int(given.serve[1]))
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    compare(given.rounds, given.seconds, given.packages)


if __name__ == "__main__":
    main()
