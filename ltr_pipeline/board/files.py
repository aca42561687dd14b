"""The board as files, to be sent or kept: every page as it is now, with links that work wherever the folder lies."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ltr_pipeline.board.asked import Asked
from ltr_pipeline.board.facts import Facts, Reader
from ltr_pipeline.board.links import FEATURES, PAGES, Links, file_names
from ltr_pipeline.board.nights import ROWS
from ltr_pipeline.board.page import Here, feature_page, render
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.errors import LtrError, NotFoundError
from ltr_pipeline.storage.local import LocalStorage

__all__ = ["write_files"]


def write_files(folder: Path, reader: Reader, lists: Sequence[ShownList] = ()) -> Path:
    """Write the pages, those of the features, and the reports they link to; return the first page.

    Users are left out, as a folder is passed on more easily than a service is opened.

    Raises
    ------
    LtrError
        The folder cannot be written.
    StorageError
        The history cannot be read.
    """
    facts = reader.facts()
    report = reader.drift(facts.drift[-1].date) if facts.drift else None
    names = file_names([feature.name for feature in report.features] if report else [])
    pages = {
        f"{'index' if name == 'overview' else name}.html": render(
            name, facts, Asked(), Here(Links(files=names)), report=report, lists=lists
        )
        for name in PAGES
    }
    for feature, file in names.items():
        page = feature_page(facts, Asked(), Here(Links(1, names)), report, feature)
        if page:
            pages[f"{FEATURES}/{file}"] = page
    if folder.exists() and not folder.is_dir():
        raise LtrError(f"{folder} is no folder; name another one")
    written = LocalStorage(folder)
    for name, text in pages.items():
        written.put(name, text.encode())
    _copy_reports(written, reader, facts)
    return folder / "index.html"


def _copy_reports(written: LocalStorage, reader: Reader, facts: Facts) -> None:
    for night in facts.nights[-ROWS:]:
        with contextlib.suppress(NotFoundError):
            written.put(f"reports/{night.run}.html", reader.report(night.run))
