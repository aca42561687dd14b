"""A landing that is stopped right before it writes its manifest, when it has looked whether anybody else has landed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.storage.lease import Terms
from ltr_pipeline.storage.local import LocalStorage
from support.landingkills import SINCE
from support.programs import python_path


class Stopping(LocalStorage):
    """A storage that stops the process before a manifest is written."""

    def create(self, key: str, data: bytes) -> None:
        if key.endswith("/manifest.json"):
            os.kill(os.getpid(), signal.SIGSTOP)
        super().create(key, data)


@contextmanager
def stopped_before_its_manifest(root: Path, log: Path, moment: datetime) -> Iterator[subprocess.Popen[str]]:
    """Yield a landing process that has stopped there; it is gone afterwards."""
    command = [sys.executable, "-m", "support.landingstops", str(root), str(log), moment.isoformat()]
    environment = os.environ | {"PYTHONPATH": python_path()}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield child
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    root, log, when = sys.argv[1:]
    source, moment = FileSource(Path(log)), datetime.fromisoformat(when)
    land(Stopping(Path(root)), moment, source, load_mapping(), buckets=2, since=SINCE, terms=Terms(lasts=0.2))
