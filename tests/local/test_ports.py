"""Ports that are free, ports that are taken, and whose answer comes from one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local import standalone
from ltr_pipeline.local.ports import check_free, free_port, free_ports
from ltr_pipeline.local.programs import Program, stop, wait


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "live"}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another service answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        yield other.server_address[1]
        other.shutdown()
        thread.join()


@contextlib.contextmanager
def service(folder: Path, port: int) -> Iterator[Program]:
    program = standalone.service(folder)
    program.start(os.environ | {"LTR_SERVE_PORT": str(port), "LTR_LOG_FOLDER": str(folder)}, folder)
    try:
        yield program
    finally:
        stop([program])


def test_ports_are_free_and_no_client_can_take_them() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in ports:
        assert port < lowest
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_taken_ports_are_said_with_who_has_them_and_the_setting_that_chooses_each(taken: int) -> None:
    free, other = free_ports(2)
    check_free({"PORT": free, "OTHER": other})
    check_free({})
    who = rf"python\S* \(process {os.getpid()}\) listens on 127.0.0.1:{taken}; stop it or set PORT"
    with pytest.raises(ProgramError, match=who):
        check_free({"OTHER": other, "PORT": taken})
    with pytest.raises(ProgramError, match=f"PORT and OTHER are both {free}; set one of them"):
        check_free({"PORT": free, "OTHER": free})


@pytest.mark.parametrize(
    ("address", "shown"), [("0.0.0.0", "0.0.0.0"), ("127.0.0.7", "127.0.0.7"), ("::1", r"\[::1\]"), ("::", r"\[::\]")]
)
def test_a_port_is_taken_whatever_the_address(address: str, shown: str) -> None:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProgramError, match=f"listens on {shown}:{port}; stop it or set PORT"):
            check_free({"PORT": port})
    check_free({"PORT": port})


def test_the_answer_of_another_service_on_its_port_is_not_taken_for_its_own(taken: int, tmp_path: Path) -> None:
    other = f"http://127.0.0.1:{taken}"
    assert httpx.get(f"{other}/ltr/health", trust_env=False).json() == {"status": "live"}
    with service(tmp_path, taken) as program:
        with pytest.raises(ProgramError, match=r"(?s)The service has ended; .*Address already in use"):
            wait({program: lambda: standalone.serves(program, standalone.address(program) or other)}, 120)
        assert standalone.address(program) is None


def test_the_answer_of_the_service_itself_is_its_own(tmp_path: Path) -> None:
    with service(tmp_path, free_port()) as program:
        wait({program: lambda: standalone.serves(program, standalone.address(program))}, 120)
