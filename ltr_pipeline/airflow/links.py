"""Links at the end of each DAG's documentation: the board's pages, the reports and the pages of docs/.

A DAG file is parsed again and again, so the two addresses are read from the environment of the DAG processor, without
the settings, which check them when a task runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from ltr_pipeline.board.links import PAGES

__all__ = ["see_also"]

_SAFE: Final = "/:@%~[]"


def see_also(docs: Sequence[str], pages: Sequence[str], *, reports: bool = False) -> str:
    """Return lines of Markdown that say where to look next.

    Parameters
    ----------
    docs
        Pages of docs/, such as ``gate.md``.
    pages
        Pages of the board, by their names in `PAGES`.
    reports
        Whether runs of the DAG have reports.

    Examples
    --------
    >>> print(see_also(["database.md"], ["batches"]).strip())
    **See also**: docs/database.md, and the board (`ltr board`), which is linked here where `LTR_BOARD_URL` is set.
    """
    folder, board = _address("LTR_DOCS_URL"), _address("LTR_BOARD_URL")
    written = [f"[docs/{page}](<{folder}{page}>)" if folder else f"docs/{page}" for page in docs]
    if not board:
        what = "the board (`ltr board`) and its reports" if reports else "the board (`ltr board`)"
        return (
            f"\n\n**See also**: {', '.join(written)}, and {what}, which {'are' if reports else 'is'} linked here where "
            "`LTR_BOARD_URL` is set.\n"
        )
    shown = [f"[{PAGES[page]}](<{board}{'' if page == 'overview' else page}>)" for page in pages]
    report = f"; the report of each night stands under [{PAGES['nights']}](<{board}nights>)" if reports else ""
    return f"\n\n**See also**: on the board {', '.join(shown)}{report}. Documentation: {', '.join(written)}.\n"


def _address(name: str) -> str:
    """Return an address that can stand in a link, with a slash at its end; empty where none is set."""
    given = os.environ.get(name, "").strip()
    return f"{quote(given.rstrip('/'), safe=_SAFE)}/" if given.startswith(("http://", "https://")) else ""
