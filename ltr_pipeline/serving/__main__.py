"""Start the service: ``python -m ltr_pipeline.serving``."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from ltr_pipeline.errors import LtrError
from ltr_pipeline.serving.board import FOLDER
from ltr_pipeline.serving.logs import Logs
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import load

STOP_SECONDS = 10


def main() -> None:
    """Serve until a signal comes; a wrong setting is one line."""
    try:
        settings = load(ServingSettings)
    except LtrError as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"serving on http://{settings.host}:{settings.port}\n")
    with ExitStack() as ending:
        if settings.workers > 1:  # this process only watches over them
            ending.enter_context(Logs(settings.log_folder))
            shared = ending.enter_context(tempfile.TemporaryDirectory(prefix="ltr-metrics-"))
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", shared)
            os.environ[FOLDER] = str(Path(shared) / "board")
        uvicorn.run(
            "ltr_pipeline.serving.app:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,
            log_config=None,  # `logs` has it all
            timeout_graceful_shutdown=STOP_SECONDS,
        )


if __name__ == "__main__":
    main()
