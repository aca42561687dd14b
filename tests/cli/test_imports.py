"""What looks something up or prints help starts at once: what reads events and trains models is not imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ltr_pipeline import __version__
from support.commands import A, B, ltr, project, published

HELP = {"rich", "typer", "annotated_doc", "shellingham", "markdown_it", "mdurl", "linkify_it", "pygments"}
SETTINGS = {"pydantic", "pydantic_core", "pydantic_settings", "annotated_types", "typing_extensions", "dotenv"}
REST = {"ltr_pipeline", "structlog", "msgspec", "click", "typing_inspection"}
OPTIONAL = {"attr", "better_exceptions", "colorama", "greenlet", "orjson"}  # looked for by these, if installed at all
MAY_BE_IMPORTED = HELP | SETTINGS | REST | OPTIONAL

SCRIPT = """
import json, sys
from ltr_pipeline.cli.main import main
try:
    main()
finally:
    found = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    print(json.dumps(sorted(found)), file=sys.stderr)
"""


def imported(*words: str) -> set[str]:
    """Packages that a command has imported by its end, without Python's own and those whose names say private."""
    command = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout
    return {name for name in json.loads(done.stderr.splitlines()[-1]) if not name.startswith("_")}


@pytest.mark.parametrize("words", ["--help", "--version", "versions", "history", "versions --json", "history --json"])
def test_a_look_up_imports_little(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    published(tmp_path, A, B)
    assert imported(*words.split()) <= MAY_BE_IMPORTED


def commands() -> list[str]:
    """Every command of the command line."""
    from typer.main import get_command

    from ltr_pipeline.cli.main import app

    return list(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", commands())
def test_help_of_a_command_imports_little(name: str) -> None:
    assert imported(name, "--help") <= MAY_BE_IMPORTED


def test_the_package_says_its_version() -> None:
    done = ltr("--version")
    assert (done.code, done.out, done.err) == (0, f"ltr-pipeline {__version__}\n", "")
