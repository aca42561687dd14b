"""Say where the board is, or write it as files."""

from __future__ import annotations

import urllib.request
from contextlib import suppress
from pathlib import Path

from ltr_pipeline.board.facts import Reader
from ltr_pipeline.board.files import write_files
from ltr_pipeline.board.shown import newest_lists
from ltr_pipeline.cli.console import print_line
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.errors import ProgramError
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.settings import load

__all__ = ["board"]

SECONDS = 5


def board(html: Path | None) -> None:
    """Print the address of the running service's board; with a folder, write all pages there."""
    if html:
        settings = load_settings()
        first = write_files(html, Reader(settings.data, settings.registry), newest_lists(settings.data))
        print_line(first.resolve().as_uri())
        return
    here = load(ServingSettings).own_url
    with suppress(OSError), urllib.request.urlopen(f"{here}/ltr/health", timeout=SECONDS):  # noqa: S310 - http only
        print_line(f"{here}/board/")
        return
    raise ProgramError(f"no service answers on {here}; `make serve` starts it, `ltr board --html FOLDER` needs none")
