"""The stack of docker-compose.yaml without Docker: the same servers, started natively with the same settings.

    python tests/services/stack.py up | down

That is ``make up SERVICES=1`` and ``make down``. PostgreSQL, Kafka and MinIO are the programs beside this file; Airflow
is an API server, a scheduler, a DAG processor and a triggerer, each a process of its own, and so is the service, with
the environment and the commands of the compose file: only host names, ports and folders differ. All of it lives in
``AIRFLOW_HOME``:

============== ======================================================================
services.env   environment of the stack while it runs, for a shell: ``set -a; . FILE``
services/      data, keys, logs and process ids; kept for the next time
============== ======================================================================

Ports on 127.0.0.1 are ``POSTGRES_PORT`` 5433, ``KAFKA_PORT`` 9092, ``MINIO_PORT`` 9000, ``LTR_SERVE_PORT`` 8000, and
Airflow's that of ``AIRFLOW__API__BASE_URL``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml
from loopback import NoServerError
from postgres_server import PostgresServer
from s3_server import S3Server

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PROGRAMS = Path(sys.executable).parent
SERVER_SECONDS = 900  # the first start builds MinIO and fetches Kafka
AIRFLOW_SECONDS = 180
SERVING_SECONDS = 60
STOP_SECONDS = 60


@dataclass(frozen=True)
class Daemon:
    """A process in a group of its own, which outlives the program that starts it."""

    name: str
    command: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def start(self, environment: dict[str, str]) -> None:
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                self.command,
                env=os.environ | environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._record.write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}")

    def process(self) -> psutil.Process | None:
        """The running process: one that has its number and was started at another time is somebody else's."""
        try:
            number, created = self._record.read_text().split()
            process = psutil.Process(int(number))
            if process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            pass
        return None

    def has_ended(self) -> bool:
        """Whether it was started, and has not been stopped by `make down`, and yet does not run."""
        return self._record.exists() and not self.process()

    def forget(self) -> None:
        self._record.unlink(missing_ok=True)


def members(group: int) -> list[int]:
    """Processes of a group; those that have ended and wait for their parent to notice are none."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


class Stack:
    """All servers and parts of Airflow, in `home`."""

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home.absolute(), url.rstrip("/")
        self.port = urlsplit(self.url).port or 80
        self.folder = self.home / "services"
        self.file = self.home / "services.env"
        compose = yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text())
        self._services: dict[str, dict[str, Any]] = compose["services"]
        self.ports = {
            name: int(os.environ.get(f"{name}_PORT") or default)
            for name, default in (("POSTGRES", 5433), ("KAFKA", 9092), ("MINIO", 9000), ("LTR_SERVE", 8000))
        }
        self.serving_url = f"http://127.0.0.1:{self.ports['LTR_SERVE']}"

    def servers(self, environment: dict[str, str]) -> list[Daemon]:
        port = {name: str(number) for name, number in self.ports.items()}
        topic, bucket = environment["KAFKA_TOPIC"], environment["S3_BUCKET"]
        data = str(self.folder / "kafka")
        kafka = ("--port", port["KAFKA"], "--data", data, "--topic", topic, "--partitions", "4")
        return [
            self._program("postgres", str(self.folder / "postgres"), "--port", port["POSTGRES"]),
            self._program("kafka", *kafka),
            self._program("s3", str(self.folder / "s3"), "--port", port["MINIO"], "--bucket", bucket),
        ]

    def airflow(self) -> list[Daemon]:
        parts = {
            name: tuple(service["command"])
            for name, service in self._services.items()
            if name.startswith("airflow-") and "restart" in service and "profiles" not in service
        }
        return [
            Daemon(name, (str(PROGRAMS / command[0]), *command[1:]), self.folder) for name, command in parts.items()
        ]

    def serving(self) -> list[Daemon]:
        command = self._services["ltr-serving"]["command"]
        return [Daemon("ltr-serving", (str(PROGRAMS / command[0]), *command[1:]), self.folder)]

    def environment(self) -> dict[str, str]:
        """What the compose file gives to Airflow, at this machine's addresses."""
        return self._given("airflow-scheduler") | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",  # its server would not keep to loopback
        }

    def serving_environment(self) -> dict[str, str]:
        """What the compose file gives to the service, at this machine's addresses."""
        here = {"LTR_SERVE_HOST": "127.0.0.1", "LTR_SERVE_PORT": str(self.ports["LTR_SERVE"])}
        return self._given("ltr-serving") | here

    def _given(self, service: str) -> dict[str, str]:
        postgres = PostgresServer(self.folder / "postgres", self.ports["POSTGRES"])
        s3 = S3Server(self.folder / "s3", self.ports["MINIO"])
        variables = os.environ | self._secrets() | s3.environment
        variables |= {"POSTGRES_PASSWORD": postgres.password, "AIRFLOW_PORT": str(self.port), **_KEPT}
        here = {
            "@postgres:5432": f"@127.0.0.1:{self.ports['POSTGRES']}",
            "kafka:19092": f"127.0.0.1:{self.ports['KAFKA']}",
            "http://minio:9000": s3.endpoint,
            "http://airflow-api-server:8080": self.url,
            "/opt/airflow/events": str(CHECKOUT / "logs"),
            "/opt/airflow": str(self.home),
        }
        environment = {}
        for name, value in self._services[service]["environment"].items():
            given = _interpolated(value, variables)
            for there, address in here.items():
                given = given.replace(there, address)
            environment[name] = given
        return environment

    def up(self) -> None:
        """Start what does not run yet, and wait until all of it is well."""
        for folder in (self.folder, self.home / "auth"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        environment, serving = self.environment(), self.serving_environment()
        environment["LTR_API_KEYS"] = serving["LTR_API_KEYS"]
        _write_secretly(self.file, "".join(f"{k}={shlex.quote(v)}\n" for k, v in sorted(environment.items())))
        servers, parts = self.servers(environment), self.airflow()
        _check_ports(servers, [self.ports[name] for name in ("POSTGRES", "KAFKA", "MINIO")])
        _check_ports(parts, [self.port])
        _check_ports(self.serving(), [self.ports["LTR_SERVE"]])
        _start(servers, environment)
        for server in servers:
            self._await(servers, lambda log=server.log: log.read_text().endswith("\n"), SERVER_SECONDS)
            print(server.log.read_text(), end="", flush=True)
        migrate = [PROGRAMS / "airflow", *self._services["airflow-init"]["command"][1:]]
        done = subprocess.run(migrate, env=os.environ | environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoServerError(f"airflow db migrate failed: {done.stderr[-1000:]}")
        _start(self.serving(), serving)
        _start(parts, environment)
        self._await(parts, self._healthy, AIRFLOW_SECONDS)
        self._await(self.serving(), self._serves, SERVING_SECONDS)
        print(f"Airflow is at {self.url} (logs, keys and data: {self.folder})")
        for user, password in json.loads(Path(environment[_PASSWORDS]).read_text()).items():
            print(f"  user {user}, password {password}")
        print(f"The service is at {self.serving_url}; X-API-Key is LTR_API_KEYS of these settings (docs/api.md)")
        print(f"Settings for a shell: set -a; . {self.file}. `make down` stops it all.", flush=True)

    def down(self) -> None:
        """Stop Airflow and the service, then the servers, and wait; what takes too long is killed."""
        names = {"KAFKA_TOPIC": "", "S3_BUCKET": ""}
        for wave in ([*self.airflow(), *self.serving()], self.servers(names)):
            groups = [process.pid for daemon in wave if (process := daemon.process())]
            for group in groups:
                os.killpg(group, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while any(members(group) for group in groups) and time.monotonic() < deadline:
                time.sleep(0.2)
            for group in groups:
                if members(group):
                    os.killpg(group, signal.SIGKILL)
            for daemon in wave:
                daemon.forget()
        self.file.unlink(missing_ok=True)
        print("Airflow, the service, Kafka, MinIO and PostgreSQL have stopped.", flush=True)

    def _await(self, daemons: list[Daemon], ready: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            late = time.monotonic() > deadline
            for daemon in daemons:
                if late or not daemon.process():
                    end = daemon.log.read_text(errors="replace")[-1000:]
                    raise NoServerError(f"{daemon.name} {'is not ready' if late else 'ended'}; {daemon.log}: …{end}")
            time.sleep(0.5)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=10) as answer:
                parts = json.load(answer)
        except (OSError, ValueError):
            return False
        return all(part["status"] == "healthy" for part in parts.values())

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.serving_url}/ltr/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _program(self, name: str, *arguments: str) -> Daemon:
        return Daemon(name, (sys.executable, "-u", str(HERE / f"{name}_server.py"), *arguments), self.folder)

    def _secrets(self) -> dict[str, str]:
        """What ``make secrets`` makes up for the compose file."""
        file = self.folder / "secrets.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        names = ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "LTR_API_KEYS")
        made = {name: secrets.token_hex(64) for name in names}
        made["AIRFLOW__CORE__FERNET_KEY"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        if kept.keys() < made.keys():
            kept = made | kept
            _write_secretly(file, json.dumps(kept))
        return dict(kept)


_PASSWORDS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
_KEPT = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}  # whatever the shell has set


def _check_ports(daemons: list[Daemon], ports: list[int]) -> None:
    """NoServerError when none of them runs, and somebody listens where they should."""
    if any(daemon.process() for daemon in daemons):
        return
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise NoServerError(f"something else listens on 127.0.0.1:{port}; stop it or choose another port")


def _start(daemons: list[Daemon], environment: dict[str, str]) -> None:
    for daemon in daemons:
        if daemon.has_ended():
            print(f"{daemon.name} has ended, and is started again", flush=True)
        if not daemon.process():
            daemon.start(environment)


def _interpolated(text: str, variables: dict[str, str]) -> str:
    """Compose's ``${NAME:-default}`` and ``${NAME:?message}``."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if found := variables.get(name):
            return found
        if kind == ":?":
            raise NoServerError(f"{name}: {rest}")
        return rest or ""

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)


def _write_secretly(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def main() -> None:
    if sys.argv[1:] not in (["up"], ["down"]):
        raise SystemExit(__doc__)
    home = Path(os.environ.get("AIRFLOW_HOME") or CHECKOUT / ".airflow")
    stack = Stack(home, os.environ.get("AIRFLOW__API__BASE_URL") or "http://127.0.0.1:8080")
    try:
        if sys.argv[1] == "up":
            stack.up()
        else:
            stack.down()
    except NoServerError as error:
        raise SystemExit(f"{error}\n(`make down` stops what has started)") from None


if __name__ == "__main__":
    main()
