"""The commands as a user types them, in a project of their own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog

from ltr_pipeline.cli.main import main
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.documents import document

A, B, C = ("20250714_0215", "20250715_0215", "20250716_0215")
PROGRAM = Path(sys.executable).with_name("ltr")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return what it printed, as JSON."""
        return json.loads(self.out)

    @property
    def words(self) -> list[list[str]]:
        """Words of each line it printed."""
        return [line.split() for line in self.out.splitlines() if line]


def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name an empty project in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LTR_REGISTRY_URI", str(folder / "registry"))
    monkeypatch.setenv("LTR_DATA_URI", str(folder / "data"))
    monkeypatch.setenv("LTR_EVENTS_PATH", str(folder / "logs" / "audit.log"))


def published(folder: Path, *versions: str) -> Registry:
    """Registry of the project, with these versions published to it."""
    registry = Registry(LocalStorage(folder / "registry" / "ltr"))
    for version in versions:
        registry.publish(document(version), who="airflow/nightly", why="passed the gate")
    return registry


def ltr(*arguments: str) -> Done:
    """A command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with _argv("ltr", *arguments), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main()
    return Done(int(end.value.code or 0), out.getvalue(), err.getvalue())


def typed(*arguments: str) -> Done:
    """A command, in a process of its own."""
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=600)
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def _argv(*words: str) -> Iterator[None]:
    """The command line, and the logging that `main` sets up, for a while."""
    before, logging = sys.argv, structlog.get_config()
    sys.argv = [*words]
    try:
        yield
    finally:
        sys.argv = before
        structlog.configure(**logging)
