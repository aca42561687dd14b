"""Addresses of the pages, relative to the page that they stand on: below any prefix, behind any proxy, as files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

__all__ = ["ACTS", "COMPARE", "FEATURES", "PAGES", "Links", "file_names"]

PAGES: Final = {
    "overview": "Overview",
    "nights": "Nights",
    "versions": "Versions",
    "drift": "Drift",
    "outcomes": "Outcomes",
    "predictions": "Predictions",
    "batches": "Batches",
    "recommendations": "Recommendations",
    "segments": "Segments",
}
"""Pages and their titles, in their order."""

COMPARE: Final = "compare"
"""The page of two versions, which needs somebody who serves it."""

ACTS: Final = "act"
"""Folder of the pages that acts are confirmed on."""

FEATURES: Final = "drift"
"""Folder of the pages of features."""

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST: Final = 80  # characters of a file's name


class Links:
    """Links from one page to others.

    Parameters
    ----------
    depth
        Folders between the board's root and the page: 1 for that of a feature.
    files
        Name of the file of each feature; None where pages are served.
    """

    def __init__(self, depth: int = 0, files: Mapping[str, str] | None = None) -> None:
        self._root = "../" * depth
        self._files = files
        self.served = files is None

    def page(self, name: str, **asked: object) -> str:
        """Return the address of a page, with what is asked of it; a file is asked nothing."""
        if self._files is not None:
            return f"{self._root}{'index' if name == 'overview' else name}.html"
        path = self._root + ("" if name == "overview" else name)
        given = {key: value for key, value in asked.items() if value not in (None, "")}
        return (path or "./") + (f"?{urlencode(given)}" if given else "")

    def feature(self, name: str, **asked: object) -> str | None:
        """Return the address of a feature's page; None where it has none."""
        if self._files is not None:
            return f"{self._root}{FEATURES}/{self._files[name]}" if name in self._files else None
        if name in ("", ".", ".."):  # browsers take these for folders, however they are written
            return None
        return self.page(f"{FEATURES}/{quote(name, safe='')}", **asked)

    def compare(self, one: str, other: str) -> str | None:
        """Return the address of the page of two versions; None where it has none."""
        return self.page(COMPARE, one=one, other=other) if self.served else None

    def act(self, act: str, **asked: object) -> str:
        """Return the address of the page that an act is confirmed on, or that its form is sent to."""
        return self.page(f"{ACTS}/{act}", **asked)

    def report(self, run: str) -> str:
        """Return the address of a night's report."""
        return f"{self._root}reports/{quote(run, safe='')}{'' if self.served else '.html'}"


def file_names(features: Sequence[str]) -> dict[str, str]:
    """Return a name of a file for each feature; two never share one, whatever the system makes of upper case.

    >>> file_names(["A", "a", "km / h"])
    {'A': 'A.html', 'a': 'a-2.html', 'km / h': 'km-h.html'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for feature in features:
        stem = name = _UNFIT.sub("-", feature).strip("-")[:_LONGEST] or "feature"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        found[feature] = f"{name}.html"
    return found
