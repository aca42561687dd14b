"""Prometheus' own checker of rules: built once from its source and kept in the user's cache."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from services.s3_server import NoServerError

PROMETHEUS = "v0.308.1"  # Prometheus 3.8.1, as a Go module
BUILD_SECONDS = 1800


def promtool() -> Path:
    """The program, built by Go on the first call on this machine; NoServerError without Go or a network."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltr-pipeline"
    program = cache / f"promtool-{PROMETHEUS}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "promtool.lock").open("w") as lock:  # one build at a time, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    """Build it without the service discovery of every cloud, which is most of the work and checks no rule."""
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"]))
    if not go:
        raise NoServerError("install Go (https://go.dev/dl/): promtool is built from its source")
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        source = Path(folder) / "source"
        found = _run([go, "mod", "download", "-json", f"github.com/prometheus/prometheus@{PROMETHEUS}"], Path(folder))
        shutil.copytree(json.loads(found)["Dir"], source)
        for path in (source, source / "plugins"):
            path.chmod(0o755)  # Go keeps modules read-only
        (source / "plugins" / "plugins.go").unlink()
        _run([go, "build", "-trimpath", "-ldflags=-s -w", "-o", f"{folder}/promtool", "./cmd/promtool"], source)
        for path in source.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        (Path(folder) / "promtool").replace(program)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"CGO_ENABLED": "0"},
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise NoServerError(f"make `{' '.join(command)}` work; it says: {error.stderr[-500:]}") from error
    except subprocess.TimeoutExpired as error:
        raise NoServerError(f"`{' '.join(command)}` takes more than {BUILD_SECONDS} s; run it by hand") from error
    return done.stdout
