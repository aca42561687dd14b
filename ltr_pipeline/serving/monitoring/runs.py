"""Runs that somebody asks the service for: in Airflow where its address is set, else on this machine."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, urlencode

from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.lock import held, is_held
from ltr_pipeline.local.programs import Program
from ltr_pipeline.schedule import newest_night, night_of
from ltr_pipeline.serving.monitoring.answers import RunRequest, RunStarted
from ltr_pipeline.serving.settings import ServingSettings

__all__ = ["DAG", "NotNowError", "Runs", "Standing", "runs_of"]

DAG: Final = "train_ltr_daily"
SECONDS: Final = 5.0
"""How long Airflow may take to answer."""

BUSY: Final = "a run is under way; ask again when it has ended"
OURS: Final = ("LTR_SERVE_PARENT", "LTR_SERVE_WORKERS_FOLDER", "PROMETHEUS_MULTIPROC_DIR")
"""Variables by which the service's own processes know each other."""


class NotNowError(Exception):
    """No run is begun: 409 while one is under way, 503 where nothing can begin one."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Standing(NamedTuple):
    """Whether a run is under way, when the next is due, and why that is not known."""

    running: bool | None
    next_at: dt.datetime
    said: str = ""


class Runs(Protocol):
    """Begins runs, one at a time."""

    def start(self, asked: RunRequest) -> RunStarted:
        """Begin a run; NotNowError."""

    def standing(self) -> Standing:
        """Say how the run stands."""


def runs_of(settings: ServingSettings) -> Runs:
    """Return what begins runs by these settings."""
    if settings.airflow_url:
        return _InAirflow(settings)
    home = os.environ.get("AIRFLOW_HOME")
    return _AtHand(Path(home) if home else None)


class _InAirflow:
    """Runs of the DAG, by Airflow's REST API."""

    def __init__(self, settings: ServingSettings) -> None:
        self._url = str(settings.airflow_url).rstrip("/")
        self._user, self._password, self._token = (
            settings.airflow_user,
            settings.airflow_password,
            settings.airflow_token,
        )

    def start(self, asked: RunRequest) -> RunStarted:
        token = self._login()
        if self._about(token).get("is_paused"):
            raise NotNowError(503, f"the DAG {DAG} is switched off in Airflow, so nothing would run; switch it on")
        if self._active(token):
            raise NotNowError(409, BUSY)
        conf: dict[str, Any] = {"retrain": True} if asked.retrain else {}
        conf |= {"date": asked.date.isoformat()} if asked.date else {}
        made = self._ask(f"/api/v2/dags/{DAG}/dagRuns", token, {"logical_date": None, "conf": conf})
        run = str(made.get("dag_run_id"))
        return RunStarted(run=run, address=f"{self._url}/dags/{DAG}/runs/{quote(run, safe='')}")

    def standing(self) -> Standing:
        try:
            token = self._login()
            about = self._about(token)
            return Standing(self._active(token), _moment(about.get("next_dagrun_run_after")) or _due())
        except NotNowError as error:
            return Standing(None, _due(), str(error))

    def _about(self, token: str) -> dict[str, Any]:
        return self._ask(f"/api/v2/dags/{DAG}", token)

    def _active(self, token: str) -> bool:
        asked = urlencode([("state", "running"), ("state", "queued"), ("limit", "1")])
        return bool(self._ask(f"/api/v2/dags/{DAG}/dagRuns?{asked}", token).get("total_entries"))

    def _login(self) -> str:
        if self._token:
            return self._token
        if not self._user:
            raise NotNowError(503, "Airflow asks for a login; set LTR_AIRFLOW_USER and LTR_AIRFLOW_PASSWORD")
        login = {"username": self._user, "password": self._password}
        return str(self._ask("/auth/token", "", login).get("access_token"))

    def _ask(self, path: str, token: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self._url}{path}", data, headers)  # noqa: S310 - http(s), by the settings
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise _refused(error) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise NotNowError(503, f"Airflow at LTR_AIRFLOW_URL cannot be reached: {reason}") from None


def _refused(error: urllib.error.HTTPError) -> NotNowError:
    """Say what an answer of Airflow's means; its text may quote what was sent, so it is not passed on."""
    meanings = {
        401: "Airflow does not know the login in LTR_AIRFLOW_USER and LTR_AIRFLOW_PASSWORD, or LTR_AIRFLOW_TOKEN",
        403: f"the login of LTR_AIRFLOW_USER may not run {DAG} in Airflow",
        404: f"Airflow at LTR_AIRFLOW_URL has no DAG {DAG}",
        409: BUSY,
    }
    said = meanings.get(error.code, f"Airflow answers {error.code}; its log says why")
    return NotNowError(409 if error.code == 409 else 503, said)


class _AtHand:
    """Runs of ``ltr run`` on this machine, which outlive the service."""

    def __init__(self, home: Path | None) -> None:
        self._home = home

    def start(self, asked: RunRequest) -> RunStarted:
        if self._home is None:
            raise NotNowError(503, "nothing here can run the pipeline: set LTR_AIRFLOW_URL, or start by `make serve`")
        program = self._program(self._home, asked)
        try:
            with held(self._home / "asked.lock", "another request for a run"):
                if self._running(self._home, program):
                    raise NotNowError(409, BUSY)
                environment = {name: value for name, value in os.environ.items() if name not in OURS}
                program.start(environment)
        except ProgramError:
            raise NotNowError(409, BUSY) from None
        except OSError as error:
            raise NotNowError(503, f"the run cannot be started: {error.strerror or error}") from None
        return RunStarted(run=None, address="/monitoring/pipeline-status")

    def standing(self) -> Standing:
        if self._home is None:
            return Standing(None, _due(), "nothing here runs the pipeline: LTR_AIRFLOW_URL is not set")
        return Standing(self._running(self._home, self._program(self._home, RunRequest())), _due())

    @staticmethod
    def _program(home: Path, asked: RunRequest) -> Program:
        words = ["--retrain"] if asked.retrain else []
        words += ["--date", asked.date.isoformat()] if asked.date else []
        script = "from ltr_pipeline.cli.main import main; main()"
        return Program("The run", "asked", (sys.executable, "-c", script, "run", *words), home)

    @staticmethod
    def _running(home: Path, program: Program) -> bool:
        """Return whether the run that was asked for, or another at hand, is under way."""
        with contextlib.suppress(OSError):
            return program.running() or is_held(home / "run.lock")
        return False


def _due() -> dt.datetime:
    """Return when the next nightly run is due by the schedule."""
    return night_of(newest_night(dt.datetime.now(dt.UTC)) + dt.timedelta(days=1))


def _moment(text: object) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(str(text))
    except ValueError:
        return None
