"""Start the service: ``python -m ltr_pipeline.serving``."""

from __future__ import annotations

import os
import sys
import tempfile

import uvicorn

from ltr_pipeline.errors import LtrError
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import load

STOP_SECONDS = 10


def main() -> None:
    """Serve until a signal comes; a wrong setting is one line."""
    try:
        settings = load(ServingSettings)
    except LtrError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory(prefix="ltr-metrics-") as shared:
        if settings.workers > 1:
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", shared)
        uvicorn.run(
            "ltr_pipeline.serving.app:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,
            proxy_headers=False,  # who the peer is decides who may write: no header may say otherwise
            timeout_graceful_shutdown=STOP_SECONDS,
        )


if __name__ == "__main__":
    main()
