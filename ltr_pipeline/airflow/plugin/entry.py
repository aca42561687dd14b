"""The plugin that Airflow loads: listeners, the board's app, and where the UI shows it."""

from __future__ import annotations

import threading
from typing import Any, Final
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from ltr_pipeline.airflow.plugin.notes import Notes

__all__ = ["PREFIX", "BoardApp", "LtrPlugin", "views"]

PREFIX: Final = "/ltr"
"""Where the board is below Airflow's own address."""


class BoardApp:
    """The board as an ASGI application that is imported when it is first asked for something.

    Airflow loads plugins in every process of its own; only the API server shows pages.
    """

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's
        """Answer a request."""
        if self._app is None:
            from starlette.concurrency import run_in_threadpool

            await run_in_threadpool(self._load)
        await self._app(scope, receive, send)

    def _load(self) -> None:
        with self._lock:
            if self._app is None:
                from ltr_pipeline.airflow.plugin.app import board_app

                self._app = board_app()


def views() -> list[dict[str, str]]:
    """Return where Airflow's UI shows the board; addresses are below the path of ``[api] base_url``."""
    root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX
    return [
        {"name": "LTR board", "href": f"{root}/", "destination": "nav", "url_route": "ltr-board"},
        {
            "name": "LTR report",
            "href": f"{root}/run?dag={{DAG_ID}}&run={{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "ltr-report",
        },
    ]


class LtrPlugin(AirflowPlugin):
    """All that this package adds to Airflow."""

    name = "ltr_pipeline"
    listeners = [Notes()]  # noqa: RUF012 - Airflow's own form
    fastapi_apps = [{"app": BoardApp(), "url_prefix": PREFIX, "name": "LTR board"}]  # noqa: RUF012
    external_views = views()
