"""A board that has something to act on: a month of nights, and versions that load."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from ltr_pipeline.versions.registry import Registry
from support.documents import document
from support.history import DAY, Quick, name_of, write_history

__all__ = ["NEWEST", "OLDEST", "environment_of", "registry_of", "write_board"]

VERSIONS = [name_of(DAY - dt.timedelta(days=ago)) for ago in (2, 1, 0)]
OLDEST, FORMER, NEWEST = VERSIONS


def write_board(folder: Path) -> None:
    """Write data and registry below a folder."""
    write_history(Quick(folder / "data"))
    registry = registry_of(folder)
    for number, version in enumerate(VERSIONS):
        registry.publish(document(version, high=0.7 + number / 100), who="airflow/nightly", why="passed the gate")


def registry_of(folder: Path) -> Registry:
    """The registry below a folder."""
    return Registry(Quick(folder / "registry" / "ltr"))


def environment_of(folder: Path) -> dict[str, str]:
    """Settings that name both."""
    return {"LTR_DATA_URI": str(folder / "data"), "LTR_REGISTRY_URI": str(folder / "registry")}
