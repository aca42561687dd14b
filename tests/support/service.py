"""The service as a real process, spoken to over real HTTP.

::

    with Server(tmp_path, WEIGHTS_POLL_SECONDS="0.2", LTR_REGISTRY_URI=str(tmp_path / "registry")) as server:
        server.get("/ltr/health")["version"]
        server.post("/ltr/rank", {...}, expect=422)

Nothing of this machine's environment reaches it, only what the test gives: it runs in `folder`, where its default paths
then are, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from deploy.native import server as native
from ltr_pipeline.local.ports import free_port

T = TypeVar("T")


class Server(native.Server):
    """``python -m ltr_pipeline.serving`` on a free port of loopback; `start` and `stop` keep port and folder.

    It ends by the signal that stops it: `stop` returns -15, and 0 where a parent watches over several workers.

    Parameters
    ----------
    folder
        Where it runs; made if missing. Its log is ``service.log`` there.
    environment, **more
        Its variables; a value of None is left out.

    Attributes
    ----------
    http
        A client with the service as its base URL, e.g. for bodies that are no JSON.
    """

    name = "service"

    def __init__(self, folder: Path, environment: Mapping[str, str | None] | None = None, **more: str | None) -> None:
        super().__init__(folder)
        self.port = free_port()
        given = {**_plain(folder), **(environment or {}), **more}
        self.environment = {name: value for name, value in given.items() if value is not None}
        self.environment["LTR_SERVE_PORT"] = str(self.port)
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that was started: with several workers, of their parent."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Return what it has logged so far, over all starts: to stdout, to stderr, and to its file where it has one."""
        files = [self.log_file]
        if folder := self.environment.get("LTR_LOG_FOLDER"):
            files.append(self.folder / folder / "api.log")
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.close()

    def start(self) -> None:
        """Start, and wait until it answers; NoServerError with the end of its log when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ltr_pipeline.serving"]
        self._launch(command, self._answers, env=self.environment, start_new_session=True)

    def kill(self) -> None:
        """Kill it and its workers as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        super().kill()

    def get(self, path: str, *, expect: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        """JSON of an answer, whose status has to be the expected one."""
        return _json(self.http.get(path, headers=headers), expect)

    def post(self, path: str, body: Any = None, *, expect: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        """JSON of the answer to a JSON body, or to bytes as they are; by default they are said to be JSON."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = {"content-type": "application/json"} if headers is None else headers
        return _json(self.http.post(path, headers=headers, **content), expect)

    def metrics(self) -> str:
        return self.http.get("/metrics").text

    def metric(self, sample: str) -> float:
        """Value of a sample as Prometheus names it, e.g. ``ltr_reloads_total{outcome="loaded"}``; 0 when not there."""
        lines = (line.rpartition(" ") for line in self.metrics().splitlines())
        return next((float(value) for name, _, value in lines if name == sample), 0.0)

    def until(self, ready: Callable[[], T], seconds: float = 60.0) -> T:
        """Return what `ready` gives as soon as that is true; TimeoutError with the end of the log when it never is."""
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s; the service's log ends: {self.log[-3000:]}")
            time.sleep(0.05)
        return found

    def _answers(self) -> bool:
        if not self.running():
            return False
        try:
            return self.http.get("/ltr/health").status_code == 200
        except httpx.TransportError:
            return False


def imported() -> dict[str, str]:
    """The variable that says where the tests import the package from, if it is set: a service does so, too."""
    return {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}


def _plain(folder: Path) -> dict[str, str]:
    return {
        **imported(),
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "OMP_WAIT_POLICY": "PASSIVE",
        "LTR_LOG_FOLDER": "logs",
        "LTR_DATA_URI": str(folder / "var" / "data"),  # else it would show simulated data
    }


def _json(answer: httpx.Response, expect: int) -> Any:
    assert answer.status_code == expect, f"{answer.request.url}: {answer.status_code} {answer.text[:2000]}"
    return answer.json()
