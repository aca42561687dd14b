"""axe-core, which looks for what keeps people out of a page; from the npm registry, once, kept in the user's cache."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from deploy.native.server import NoServerError, kept
from support import servers

__all__ = ["VERSION", "problems", "script"]

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
SECONDS = 600
GRAVE = ("serious", "critical")


def script() -> str:
    """The text of axe-core; a test that needs it is skipped, or fails, where it cannot be had."""
    with kept(f"axe-core-{VERSION}") as file:
        if not file.exists():
            _fetch(file)
    servers.used("axe-core", VERSION)
    return file.read_text(encoding="utf-8")


def problems(page: Page) -> list[str]:
    """What is serious or critical on a page as it is shown now, and where; the page's policy lets no script in."""
    page.evaluate(script())
    found: dict[str, Any] = page.evaluate("axe.run()")
    assert found["passes"], "axe looked at nothing"
    return [
        f"{rule['id']}: {rule['help']}: {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def _fetch(file: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NoServerError("npm is missing; install Node.js, whose npm fetches axe-core")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=SECONDS)
        (archive,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        assert digest == SHA512, f"axe-core {VERSION} has another hash: {digest}"
        with tarfile.open(archive) as tar, tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as whole:
            member = tar.extractfile("package/axe.min.js")
            assert member is not None
            whole.write(member.read())
        Path(whole.name).rename(file)
