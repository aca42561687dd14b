"""An hourly refresh that hangs while it lands: stopped whole, or asleep with a lease that it goes on renewing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ltr_pipeline.events.source import Block, Range
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.jobs import hourly
from ltr_pipeline.storage.lease import Terms
from support.hours import BY, LATE
from support.programs import python_path
from support.small import LENIENT, small_settings

How = Literal["stopped", "asleep"]
FOR_EVER = Terms(lasts=1.0, longest=3600.0)


class Hanging(FileSource):
    """A source that hangs when it is read."""

    def __init__(self, pattern: str, how: How) -> None:
        super().__init__(pattern)
        self._how = how

    def read(self, span: Range) -> Iterator[Block]:
        os.write(1, b"reading\n")
        if self._how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            time.sleep(600)
        return super().read(span)


@contextmanager
def hanging(folder: Path, log: Path, how: How) -> Iterator[subprocess.Popen[str]]:
    """Yield a refresh of the project in a folder that hangs by now; it is gone afterwards."""
    command = [sys.executable, "-m", "support.hourhangs", str(folder), str(log), how]
    environment = os.environ | {"PYTHONPATH": python_path()}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        while child.stdout.readline() not in ("reading\n", ""):
            pass
        yield child
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    folder, log, how = sys.argv[1:]
    hourly.TERMS = FOR_EVER  # type: ignore[misc]
    settings = small_settings(Path(folder), events_path=log)
    source = Hanging(log, "stopped" if how == "stopped" else "asleep")
    outcome = hourly.refresh({"moment": LATE.isoformat()}, LENIENT, BY, settings, source)
    os.write(1, f"ended: {outcome['reason']}\n".encode())
