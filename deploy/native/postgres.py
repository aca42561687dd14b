"""A real PostgreSQL on loopback: a cluster of its own in a folder, with a database `airflow` behind a password.

As a program it runs until it is stopped::

    python -m deploy.native.postgres var/postgres --port 5433

PostgreSQL refuses to run as root: there it runs as the user ``postgres`` of Debian's package, who must be able to
enter the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.native.server import START_SECONDS, NoServerError, Server, serve
from ltr_pipeline.local.ports import free_port

DATABASES = Path(__file__).parents[1] / "postgres" / "databases.sh"
DATABASE = "airflow"  # its owner's name, too
OWNER = "postgres" if os.geteuid() == 0 else None
AS_OWNER: dict[str, Any] = {"user": OWNER, "group": OWNER, "extra_groups": []} if OWNER else {}


def program(name: str) -> str:
    """Find one of PostgreSQL's programs, which Debian keeps out of PATH; NoServerError when it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which(name, path=os.pathsep.join([*map(str, reversed(versions)), os.environ.get("PATH", "")]))
    if not found:
        raise NoServerError(f"install PostgreSQL (apt-get install postgresql): there is no {name}")
    return found


class PostgresServer(Server):
    """PostgreSQL over a folder; `stop` and `start` keep address, password and data.

    Parameters
    ----------
    folder
        Holds ``data/``, ``password`` and ``postgresql.log``.
    port
        On loopback; without one, a free one.
    """

    name = "PostgreSQL"
    ending = signal.SIGINT  # sessions are ended, what was committed is kept

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder)
        self.port = port or free_port()

    @property
    def password(self) -> str:
        file = self.folder / "password"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(20))
            self._give(file)
        return file.read_text()

    @property
    def url(self) -> str:
        """Return the address of the database for SQLAlchemy."""
        return f"postgresql+psycopg2://{DATABASE}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def connect(self, database: str = DATABASE) -> Any:
        """Return a plain psycopg2 connection of the database's owner."""
        import psycopg2

        return psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=DATABASE,
            password=self.password,
            dbname=database,
            connect_timeout=5,
        )

    def version(self) -> str:
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return str(cursor.fetchone()[0])

    def start(self) -> None:
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._make()
        arguments = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        self._launch([program("postgres"), *arguments], self._answers, **AS_OWNER)

    def _make(self) -> None:
        """Lay out the cluster and its database."""
        data, password = self.folder / "data", self.password
        assert password
        shutil.rmtree(data, ignore_errors=True)  # of a start that was killed
        self._give(self.folder)
        self._run(
            "initdb",
            f"--pgdata={data}",
            f"--username={DATABASE}",
            "--auth=scram-sha-256",
            f"--pwfile={self.folder / 'password'}",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [program(name), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
            **AS_OWNER,
        )
        if done.returncode:
            hint = f" (it runs as the user {OWNER}, who must be able to enter that folder)" if OWNER else ""
            raise NoServerError(f"{name} failed in {self.folder}{hint}: {done.stderr[-500:].strip()}")

    def _give(self, path: Path) -> None:
        if OWNER:
            shutil.chown(path, OWNER, OWNER)

    def _answers(self) -> bool:
        import psycopg2

        try:
            self._make_database()
        except psycopg2.OperationalError:
            return False
        return True

    def _make_database(self) -> None:
        with contextlib.closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            connection.autocommit = True  # a database is not made in a transaction
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if not cursor.fetchone():
                cursor.execute(f"CREATE DATABASE {DATABASE}")


def make_databases(environment: Mapping[str, str], port: int) -> None:
    """Make the databases beside Airflow's by the script and the variables of the compose file's ``postgres-init``."""
    here = {"PATH": os.environ.get("PATH", os.defpath), "PSQL": program("psql"), "PGHOST": "127.0.0.1"}
    done = subprocess.run(
        ["bash", str(DATABASES)],
        env=dict(environment) | here | {"PGPORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )
    if done.returncode:
        raise NoServerError(f"{DATABASES.name} could not make the databases: {(done.stdout + done.stderr)[-1000:]}")


def main() -> None:
    """Run PostgreSQL until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for data, password and log")
    parser.add_argument("--port", type=int, default=5433)
    chosen = parser.parse_args()
    server = PostgresServer(chosen.folder, chosen.port)
    serve(server, lambda: f"PostgreSQL {server.version()} serves 127.0.0.1:{server.port}")


if __name__ == "__main__":
    main()
