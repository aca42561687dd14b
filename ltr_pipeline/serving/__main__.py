"""Start the service: ``python -m ltr_pipeline.serving``."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from contextlib import ExitStack
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

from ltr_pipeline.errors import LtrError  # noqa: E402
from ltr_pipeline.serving.http.app import create_app  # noqa: E402
from ltr_pipeline.serving.logs import Logs  # noqa: E402
from ltr_pipeline.serving.settings import ServingSettings  # noqa: E402
from ltr_pipeline.serving.weights.workers import FOLDER  # noqa: E402
from ltr_pipeline.settings import load  # noqa: E402

__all__ = ["create_app", "main"]

STOP_SECONDS = 10


def main() -> None:
    """Serve until a signal comes; a wrong setting ends the program with a one-line message."""
    try:
        settings = load(ServingSettings)
    except LtrError as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"serving on http://{settings.host}:{settings.port}\n({settings.world})\n")
    with ExitStack() as ending:
        if settings.workers > 1:  # this process only starts and watches the workers
            ending.enter_context(Logs(settings.log_folder))
            shared = ending.enter_context(tempfile.TemporaryDirectory(prefix="ltr-metrics-"))
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", shared)
            os.environ[FOLDER] = str(Path(shared) / "workers")
        uvicorn.run(
            "ltr_pipeline.serving.__main__:create_app",  # each worker imports this module first
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,
            log_config=None,  # `logs` takes uvicorn's lines, too
            proxy_headers=False,  # the peer's address decides who may write, so no header may replace it
            timeout_graceful_shutdown=STOP_SECONDS,
        )


if __name__ == "__main__":
    main()
