"""Start the service: ``python -m ltr_pipeline.serving``.

SIGTERM and SIGINT end it in order. SIGHUP does, too, where one process serves; where several do, it replaces them one
after the other, so that somebody answers all the time. Workers end with the process that started them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

# LightGBM imports these two where they are installed, for wrappers that the service never uses: 150 MB and seconds.
for _name in ("pandas", "sklearn"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type] # now an import says "not installed"

# glibc gives large blocks back to the system as soon as they are free, and gets them again, page by page, for the next
# request. These options make it keep them.
if hasattr(_libc := ctypes.CDLL(None), "mallopt"):
    for _option, _bytes in ((-1, 256 << 20), (-2, 16 << 20), (-3, 32 << 20)):  # trim threshold, top pad, mmap threshold
        _libc.mallopt(_option, _bytes)

import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from uvicorn.config import STARTUP_FAILURE  # noqa: E402
from uvicorn.supervisors import Multiprocess  # noqa: E402

from ltr_pipeline.errors import LtrError, SettingsError  # noqa: E402
from ltr_pipeline.local.signals import end_with  # noqa: E402
from ltr_pipeline.printable import one_line  # noqa: E402
from ltr_pipeline.serving.http.app import create_app  # noqa: E402
from ltr_pipeline.serving.http.examples import curl, sample  # noqa: E402
from ltr_pipeline.serving.http.protocol import LimitedProtocol  # noqa: E402
from ltr_pipeline.serving.logs import Logs  # noqa: E402
from ltr_pipeline.serving.settings import ServingSettings  # noqa: E402
from ltr_pipeline.serving.weights.workers import FOLDER  # noqa: E402
from ltr_pipeline.settings import load, unread  # noqa: E402

__all__ = ["main", "worker"]

STOP_SECONDS = 10
FILES = 8192
ASK_SECONDS = 0.05  # between two looks whether it answers
PARENT = "LTR_SERVE_PARENT"  # for the workers; not for users


def main() -> None:
    """Serve until a signal comes; a wrong setting ends the program with a one-line message."""
    for misspelt in unread(ServingSettings):
        sys.stderr.write(f"warning: {one_line(misspelt)}\n")
    try:
        settings = load(ServingSettings)
        listening = _bound(settings.host, settings.port)
        app = create_app(settings) if settings.workers == 1 else None
    except LtrError as error:
        sys.exit(f"error: {error}")
    _open_many_files()
    threading.Thread(target=_announce, args=(listening, settings, app), daemon=True).start()
    with ExitStack() as ending:
        if settings.workers > 1:  # this process only starts and watches the workers
            ending.enter_context(Logs(settings.log_folder))
            shared = ending.enter_context(tempfile.TemporaryDirectory(prefix="ltr-metrics-"))
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", shared)
            os.environ[FOLDER] = str(Path(shared) / "workers")
            os.environ[PARENT] = str(os.getpid())
        config = uvicorn.Config(
            app or "ltr_pipeline.serving.__main__:worker",  # each worker imports this module first
            factory=app is None,
            http=LimitedProtocol,
            ws="none",  # there is no such route, and an upgrade would leave the limits behind
            server_header=False,
            workers=settings.workers,
            access_log=False,
            log_config=None,  # `logs` takes uvicorn's lines, too
            proxy_headers=False,  # the peer's address decides who may write, so no header may replace it
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        if app is None:
            Multiprocess(config, [listening]).run()
        else:
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` sets it
                signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
            with suppress(KeyboardInterrupt):  # uvicorn raises it anew once all has ended in order
                uvicorn.Server(config).run([listening])


def worker() -> FastAPI:
    """Make the service of one of several processes, which ends with the one that started it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent acts on it
    end_with(int(os.environ[PARENT]))
    try:
        return create_app()
    except LtrError as error:
        sys.stderr.write(f"error: {one_line(str(error))}\n")
        sys.exit(STARTUP_FAILURE)  # so that the parent ends, too


def _bound(host: str, port: int) -> socket.socket:
    """Take the address before anything starts; SettingsError when it is another's, or none of this machine."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.set_inheritable(True)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"the service cannot listen on {host}:{port}: {error.strerror}; set LTR_SERVE_HOST or LTR_SERVE_PORT, or "
            "stop what listens there"
        ) from None
    return listening


def _announce(listening: socket.socket, settings: ServingSettings, app: FastAPI | None) -> None:
    """Say where it serves, once it does, and a first request that has every feature."""
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only compared
    while True:
        with suppress(OSError), socket.create_connection((reached, port), timeout=1):
            break
        threading.Event().wait(ASK_SECONDS)
    here = f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
    found = app.state.parts.sample() if app else sample(settings.mapping)
    sys.stderr.write(
        f"serving on http://{name}:{port}\n({settings.world})\n"
        f"The board: {here}/board/\nEvery operation: {here}/docs. Try one:\n"
        f"{curl(here, found, key=bool(settings.keys))}\n"
    )


def _open_many_files() -> None:
    """Raise the number of files that may be open, such as connections, as far as the system lets a program do."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # refused: it stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(most, FILES)), most))


if __name__ == "__main__":
    main()
