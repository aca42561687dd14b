"""New weights reach a running service; whatever is wrong with them does not."""

from __future__ import annotations

import signal
from pathlib import Path

from documents import document
from serving.server import Server

from ltr_pipeline.storage import LocalStorage
from ltr_pipeline.versions import Registry

A, B, C = "20250714_0215", "20250715_0215", "20250716_0215"


def test_a_published_version_is_served_within_the_poll_interval(tmp_path: Path) -> None:
    with Server(tmp_path, WEIGHTS_POLL_SECONDS="0.1") as server:
        assert server.get("/ltr/health")["version"] == "legacy"
        registry = Registry(LocalStorage(tmp_path / "var" / "registry" / "ltr"))
        registry.publish(document(A), who="night", why="passed")
        server.until(lambda: server.get("/ltr/health")["version"] == A)
        assert server.stop() == -signal.SIGTERM
