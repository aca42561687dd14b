"""Airflow's API server as a real process, with users of every role, spoken to as a browser and a program speak.

::

    with ApiServer(tmp_path, LTR_DATA_URI=…) as airflow:
        token = airflow.token("vera")
        airflow.client("vera").get("/ltr/")

No scheduler runs beside it: who looks at the board needs none.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import unescape
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal, Self

import httpx

from deploy.native import server as native
from ltr_pipeline.local.ports import free_port
from support import servers
from support.programs import CHECKOUT

__all__ = ["FAB", "ROLES", "USERS", "ApiServer", "Manager", "form_of"]

Manager = Literal["simple", "fab"]

FAB: Final = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
PASSWORD: Final = "a-password-for-the-tests"
USERS: Final = {"vera": "viewer", "uma": "user", "otto": "op", "ada": "admin"}
"""Users and their roles, which both auth managers have."""

ROLES: Final = {
    "nora": [("can_read", "DAG:train_ltr_daily")],
    "sven": [("can_read", "DAG:train_ltr_daily"), ("can_read", "DAG:score_rows_daily")],
    "gil": [("can_read", "DAG:train_ltr_daily"), ("can_edit", "DAG:train_ltr_daily")],
    "polly": [("can_read", "Variables"), ("can_edit", "Variables")],
    "odd": [],
}
"""Users of FAB with a role of their own, and what it permits."""

MAKE_USERS: Final = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
told = json.load(sys.stdin)
with get_application_builder() as builder:
    manager = builder.sm
    for name, permissions in told["roles"].items():
        role = manager.add_role(name)
        for action, resource in permissions:
            manager.add_permission_to_role(role, manager.create_permission(action, resource))
    for name, role in told["users"].items():
        found = manager.find_role(role)
        assert manager.add_user(name, name, role, f"{name}@example.org", found, told["password"]), name
"""


class ApiServer(native.Server):
    """``airflow api-server`` on a free port of loopback, over a database of its own.

    Parameters
    ----------
    folder
        Its home.
    manager
        Which auth manager it has.
    path
        Path of its address, such as ``/tools/airflow`` where a proxy has it there.
    more
        Variables of its environment.
    """

    name = "airflow"

    def __init__(self, folder: Path, manager: Manager = "simple", path: str = "", **more: str) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.path = path
        self.manager: Manager = manager
        users = ",".join(f"{name}:{role}" for name, role in USERS.items())
        fab = {"AIRFLOW__CORE__AUTH_MANAGER": FAB} if manager == "fab" else {}
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": "a-secret-key-for-the-tests",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-for-tokens-of-the-tests-which-is-long-enough-for-any-algorithm",
            "AIRFLOW__FAB__ENABLE_PROXY_FIX": "False",
            "LTR_DATA_URI": str(self.folder / "data"),
            **fab,
            **more,
        }

    @property
    def database(self) -> Path:
        """File of a database beside it, for those who want one."""
        return self.folder.parent / "ltr.db"

    @property
    def host(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its address, as people see it."""
        return f"http://{self.host}{self.path}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def airflow(self, *words: str) -> str:
        """Return what one of Airflow's commands prints, over the same database."""
        return self._run([str(Path(sys.executable).with_name("airflow")), *words])

    def _run(self, command: list[str], told: str = "") -> str:
        done = subprocess.run(
            command, env=self.environment, input=told, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def start(self) -> None:
        """Make the database and the users where they are missing, start, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "airflow.db").exists():
            self.airflow("db", "migrate")
            if self.manager == "fab":
                users = {name: role.capitalize() for name, role in USERS.items()} | {name: name for name in ROLES}
                told = json.dumps({"roles": ROLES, "users": users, "password": PASSWORD})
                self._run([sys.executable, "-c", MAKE_USERS], told)
            else:
                passwords = json.dumps(dict.fromkeys(USERS, PASSWORD))
                (self.folder / "simple_auth_manager_passwords.json.generated").write_text(passwords)
        command = [str(Path(sys.executable).with_name("airflow")), "api-server"]
        self._launch(command, self._answers, env=self.environment)
        servers.used(f"Airflow's API server, {self.manager} auth manager", version("apache-airflow"))

    def token(self, user: str) -> str:
        """A token that somebody has by name and password."""
        login = {"username": user, "password": PASSWORD}
        answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=60, trust_env=False)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["access_token"])

    def client(self, user: str = "") -> httpx.Client:
        """A browser whose session is somebody's, by the cookie that Airflow's login sets; nobody's without a name."""
        cookies = {"_token": self.token(user)} if user else {}
        return httpx.Client(base_url=self.url, cookies=cookies, timeout=120, trust_env=False)

    def own(self, **headers: str) -> dict[str, str]:
        """The headers by which a browser says that a page of this Airflow sends a form, with others."""
        return {"origin": f"http://{self.host}", "sec-fetch-site": "same-origin", **headers}

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v2/version", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def form_of(page: str) -> dict[str, str]:
    """The hidden fields of the form on a page."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {name: unescape(value) for name, value in found}
