"""The stack of docker-compose.yaml without Docker: the same servers, started natively with the same settings.

    python -m deploy.native.stack up | down

That is ``make up SERVICES=1`` and ``make down``. PostgreSQL, Kafka and MinIO are the programs beside this file; Airflow
is an API server, a scheduler, a DAG processor and a triggerer, each a process of its own, and so is the service, with
the environment and the commands of the compose file: only host names, ports and folders differ. All of it lives in
``AIRFLOW_HOME``:

============== ======================================================================
services.env   environment of the stack while it runs, for a shell: ``set -a; . FILE``
services/      data, keys, logs and records of processes; kept for the next time
============== ======================================================================

Ports on 127.0.0.1 are ``POSTGRES_PORT`` 5433, ``KAFKA_PORT`` 9092, ``MINIO_PORT`` 9000, ``LTR_SERVE_PORT`` 8000, and
Airflow's that of ``AIRFLOW__API__BASE_URL``.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from deploy.native.compose import CHECKOUT, Compose, write_secretly
from deploy.native.minio import make_logins
from deploy.native.postgres import make_databases
from deploy.native.server import READY, NoServerError
from ltr_pipeline.database.address import VARIABLE, Address
from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.ports import check_free, listens
from ltr_pipeline.local.programs import BIN, Program, all_or_none, stop, wait
from ltr_pipeline.local.signals import interruptible
from ltr_pipeline.local.standalone import airflow_is_healthy, serves
from ltr_pipeline.printable import one_line, printable

PORTS: Final = {"postgres": "POSTGRES", "kafka": "KAFKA", "s3": "MINIO", "ltr-serving": "LTR_SERVE"}
"""By the name of a program, that of its port."""
PASSWORDS: Final = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"


class Stack:
    """All servers and parts of Airflow, in `home`; Airflow is reached at `url`."""

    def __init__(self, home: Path, url: str) -> None:
        self.compose = Compose(home, url)
        self.folder = self.compose.folder
        self.file = self.compose.home / "services.env"

    def up(self) -> None:
        """Start what does not run yet, and wait until all of it is well; what had started is stopped if one fails."""
        for folder in (self.folder, self.compose.home / "auth"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        environment, serving = self.compose.airflow(), self.compose.serving()
        environment["LTR_API_KEYS"] = serving["LTR_API_KEYS"]
        servers, parts, service = self.servers(environment), self.parts(), self.service()
        programs = [*servers, service, *parts]
        starting = [program for program in programs if not program.running()]
        self._check_ports(starting)
        first = [program for program in starting if program in servers]
        then = [program for program in starting if program not in servers]
        try:
            with interruptible(), all_or_none(first, _say), all_or_none(then, _say):
                write_secretly(self.file, "".join(f"{k}={shlex.quote(v)}\n" for k, v in sorted(environment.items())))
                self._start_servers(servers)
                make_logins(self.compose.environment("minio-init"))
                make_databases(self.compose.environment("postgres-init"), self.compose.ports["POSTGRES"])
                self._prepare()
                self._start([service], serving)
                for part in parts:
                    self._start([part], self.compose.airflow(part.name))
                wait(dict.fromkeys(parts, self._is_healthy) | {service: self._serves}, tell=_say)
        except BaseException:
            if not any(program.running() for program in programs):
                self.file.unlink(missing_ok=True)
            raise
        self._tell(environment)

    def down(self) -> None:
        """Stop Airflow and the service, then the servers, and wait; what takes too long is killed."""
        stop([*self.parts(), self.service()])
        stop(self.servers({"KAFKA_TOPIC": "", "S3_BUCKET": ""}))
        self.file.unlink(missing_ok=True)
        print("Airflow, the service, Kafka, MinIO and PostgreSQL have stopped.", flush=True)

    def servers(self, environment: Mapping[str, str]) -> list[Program]:
        """Return PostgreSQL, Kafka and MinIO."""
        port = {name: str(number) for name, number in self.compose.ports.items()}
        data = {name: str(self.folder / name) for name in ("postgres", "kafka", "s3")}
        topic = ("--topic", environment["KAFKA_TOPIC"], "--partitions", "4")
        bucket = ("--bucket", environment["S3_BUCKET"])
        return [
            self._server("postgres", "postgres", data["postgres"], "--port", port["POSTGRES"]),
            self._server("kafka", "kafka", "--port", port["KAFKA"], "--data", data["kafka"], *topic),
            self._server("s3", "minio", data["s3"], "--port", port["MINIO"], *bucket),
        ]

    def parts(self) -> list[Program]:
        """Return the parts of Airflow."""
        return [self._service(name) for name in self.compose.parts()]

    def service(self) -> Program:
        """Return the service."""
        return self._service("ltr-serving")

    def _server(self, name: str, module: str, *arguments: str) -> Program:
        command = (sys.executable, "-u", "-m", f"deploy.native.{module}", *arguments)
        return Program(name, name, command, self.folder)

    def _service(self, name: str) -> Program:
        program, *arguments = self.compose.command(name)
        return Program(name, name, (str(BIN / program), *arguments), self.folder)

    def _check_ports(self, starting: Sequence[Program]) -> None:
        """Raise ProgramError when somebody listens where a program that is to start should."""
        settings = {f"{PORTS[program.name]}_PORT": self._port(program) for program in starting if program.name in PORTS}
        if any(program.name == "airflow-api-server" for program in starting):
            settings["AIRFLOW__API__PORT"] = self.compose.airflow_port
        check_free(settings)

    def _port(self, program: Program) -> int:
        return self.compose.ports[PORTS[program.name]]

    def _start_servers(self, servers: Sequence[Program]) -> None:
        self._start(servers, {})
        for server in servers:
            wait({server: partial(_is_ready, server, self._port(server))}, tell=_say)
            _say(server.last_lines()[-1])

    def _prepare(self) -> None:
        """Make Airflow's tables, the gate's Variables in them, and in the database for scores our tables."""
        _say("Airflow's tables and the gate's Variables are made")
        for service in ("airflow-init", "airflow-variables-init"):
            self._once(service)
        try:
            self._once("ltr-database-init")
        except NoServerError as error:  # it may be anybody's, and nights go on without it
            _say(str(error))

    def _once(self, service: str) -> None:
        program, *arguments = self.compose.command(service)
        command = [str(BIN / program), *arguments]
        environment = self.compose.shell() | self.compose.airflow(service)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoServerError(f"{program} {' '.join(arguments)} failed: {done.stderr[-1000:]}")

    def _start(self, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        for program in programs:
            if program.running():
                continue
            if program.ended():
                print(f"{program.name} has ended, and is started again", flush=True)
            program.log.unlink(missing_ok=True)  # what a server says of itself is read from there
            program.start(self.compose.shell() | dict(environment), CHECKOUT)

    def _is_healthy(self) -> bool:
        return airflow_is_healthy(self.parts(), self.compose.url, self.compose.airflow_port)

    def _serves(self) -> bool:
        return serves(self.service(), self.compose.serving_url)

    def _tell(self, environment: Mapping[str, str]) -> None:
        print(f"Airflow is at {self.compose.url} (logs, keys and data: {self.folder})")
        for user, password in json.loads(Path(environment[PASSWORDS]).read_text()).items():
            print(f"  user {user}, password {password}")
        print(
            f"The service is at {self.compose.serving_url}; X-API-Key is LTR_API_KEYS of these settings (docs/api.md)"
        )
        print(f"Scores go to the {Address.parse(environment[VARIABLE])} ({VARIABLE}; docs/database.md)")
        print(f"Settings for a shell: set -a; . {self.file}. `make down` stops it all.", flush=True)


def _is_ready(server: Program, port: int) -> bool:
    """Return whether a server has its port and has printed that all it needs is made."""
    return listens(server.processes(), port) and any(line.startswith(READY) for line in server.last_lines())


def _say(text: str) -> None:
    print(one_line(text), flush=True)


def main() -> None:
    """Start or stop the stack; what hinders it is told in a few lines."""
    if sys.argv[1:] not in (["up"], ["down"]):
        raise SystemExit(__doc__)
    home = Path(os.environ.get("AIRFLOW_HOME") or CHECKOUT / ".airflow")
    stack = Stack(home, os.environ.get("AIRFLOW__API__BASE_URL") or "http://127.0.0.1:8080")
    try:
        if sys.argv[1] == "up":
            stack.up()
        else:
            stack.down()
    except ProgramError as error:
        raise SystemExit(printable(str(error))) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
