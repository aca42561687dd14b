"""The environment that docker-compose.yaml gives to each container, at this machine's addresses.

Only host names, ports, folders and secrets differ from the containers'.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.native.minio import S3Server
from deploy.native.postgres import PostgresServer
from deploy.native.server import NoServerError
from ltr_pipeline.local.standalone import port_of

CHECKOUT: Final = Path(__file__).parents[2]
PORTS: Final = {"POSTGRES": 5433, "KAFKA": 9092, "MINIO": 9000, "LTR_SERVE": 8000}


class Compose:
    """The compose file for a stack in `home`, whose Airflow is reached at `url`.

    Attributes
    ----------
    folder
        Data, keys, logs and records of the servers.
    ports
        Of the servers and the service, by the name of their variable without ``_PORT``.
    airflow_port
        Of Airflow's API server.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home.absolute(), url.rstrip("/")
        self.folder = self.home / "services"
        self.ports = {name: int(os.environ.get(f"{name}_PORT") or port) for name, port in PORTS.items()}
        self.airflow_port = port_of(self.url)
        self._services: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text())[
            "services"
        ]

    @property
    def serving_url(self) -> str:
        """Return where the service is reached."""
        return f"http://127.0.0.1:{self.ports['LTR_SERVE']}"

    def command(self, service: str) -> tuple[str, ...]:
        """Return the command of a service."""
        return tuple(self._services[service]["command"])

    def parts(self) -> list[str]:
        """Return the services that are parts of Airflow and stay."""
        return [
            name
            for name, service in self._services.items()
            if name.startswith("airflow-") and "restart" in service and "profiles" not in service
        ]

    def shell(self) -> dict[str, str]:
        """Return this shell's environment without what any container gets: a part has only the variables of its own."""
        given = {name for service in self._services.values() for name in service.get("environment", ())}
        return {name: value for name, value in os.environ.items() if name not in given}

    def airflow(self, part: str = "airflow-scheduler") -> dict[str, str]:
        """Return the environment of a part of Airflow; the scheduler, which runs tasks, has most."""
        return self.environment(part) | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.airflow_port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",  # its server would not keep to loopback
        }

    def serving(self) -> dict[str, str]:
        """Return the environment of the service."""
        here = {"LTR_SERVE_HOST": "127.0.0.1", "LTR_SERVE_PORT": str(self.ports["LTR_SERVE"])}
        return self.environment("ltr-serving") | here

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment of a service; what it has without a value comes from this shell, if it is set."""
        postgres = PostgresServer(self.folder / "postgres", self.ports["POSTGRES"])
        s3 = S3Server(self.folder / "s3", self.ports["MINIO"])
        variables = os.environ | self._secrets() | _KEPT
        variables |= {"POSTGRES_PASSWORD": postgres.password, "AIRFLOW_PORT": str(self.airflow_port)}
        variables |= {"MINIO_ROOT_USER": s3.access_key_id, "MINIO_ROOT_PASSWORD": s3.secret_access_key}
        environment = {}
        for name, value in self._services[service]["environment"].items():
            if value is None and name not in os.environ:
                continue
            given = os.environ[name] if value is None else _interpolated(value, variables)
            for there, here in self._addresses(s3.endpoint).items():
                given = given.replace(there, here)
            environment[name] = given
        return environment

    def _addresses(self, s3: str) -> dict[str, str]:
        """Return where on this machine is what the containers know by another name; longer names first."""
        return {
            "@postgres:5432": f"@127.0.0.1:{self.ports['POSTGRES']}",
            "kafka:19092": f"127.0.0.1:{self.ports['KAFKA']}",
            "http://minio:9000": s3,
            "http://airflow-api-server:8080": self.url,
            "/opt/airflow/events": str(CHECKOUT / "logs"),
            "/opt/airflow": str(self.home),
        }

    def _secrets(self) -> dict[str, str]:
        """Return what ``make secrets`` makes up for the compose file, made up at the first call and kept."""
        file = self.folder / "secrets.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        names = ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "LTR_API_KEYS")
        made = {name: secrets.token_hex(64) for name in names}
        passwords = ("AWS_SECRET_ACCESS_KEY", "MINIO_SERVING_PASSWORD", "POSTGRES_LTR_PASSWORD")
        made |= {name: secrets.token_hex(20) for name in passwords}
        made["AIRFLOW__CORE__FERNET_KEY"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        if kept.keys() < made.keys():
            kept = made | kept
            write_secretly(file, json.dumps(kept))
        return dict(kept)


_KEPT = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AWS_ACCESS_KEY_ID": "ltr"}  # whatever the shell has set


def write_secretly(file: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def _interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Replace Compose's ``${NAME:-default}``, ``${NAME:+other}`` and ``${NAME:?message}``, inner ones first."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        found = variables.get(name)
        if kind == ":+":
            return rest if found else ""
        if kind == ":?" and not found:
            raise NoServerError(f"{name}: {rest}")
        return found or rest or ""

    while (replaced := _INNERMOST.sub(value, text)) != text:
        text = replaced
    return text


_INNERMOST = re.compile(r"\$\{(\w+)(?:(:[-+?])([^{}]*))?\}")
