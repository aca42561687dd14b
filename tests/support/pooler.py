"""A real PgBouncer in transaction mode before a real PostgreSQL, as hosted databases have one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from deploy.native.postgres import AS_OWNER, OWNER, PostgresServer
from deploy.native.server import NoServerError, Server
from ltr_pipeline.local.ports import free_port

PROGRAM = "/usr/sbin/pgbouncer"  # not in everybody's PATH
SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 3
server_lifetime = 0
"""
"""With a lifetime of 0 each transaction is in a session of its own: whatever one leaves, the next does not find."""


class Pooler(Server):
    """PgBouncer over a folder, before a PostgreSQL."""

    name = "PgBouncer"

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        super().__init__(folder)
        self.port = free_port()
        users, settings = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text(f'"airflow" "{server.password}"\n')
        settings.write_text(SETTINGS.format(server=server.port, port=self.port, users=users))
        self._settings = settings
        if OWNER:
            for path in (self.folder, users, settings):
                shutil.chown(path, OWNER, OWNER)

    def start(self) -> None:
        """Start, and wait until it listens."""
        self._launch([program(), str(self._settings)], lambda: True, **AS_OWNER)

    def url(self, url: str) -> str:
        """Return the address through the pooler of a database of the server."""
        place, _, name = url.rpartition("/")
        return f"{place.rpartition(':')[0]}:{self.port}/{name}"


def program() -> str:
    """Find PgBouncer; NoServerError when it is not installed."""
    found = shutil.which("pgbouncer") or shutil.which(PROGRAM)
    if not found:
        raise NoServerError("install PgBouncer (apt-get install pgbouncer)")
    return found


def version() -> str:
    """Return the version of PgBouncer."""
    said = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].split()[-1]
