from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.versions.registry import Registry
from support.history import Quick, write_history


@pytest.fixture(scope="session")
def month_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A month with an event, a rejected night, a drift and a rollback; not to be written to."""
    folder = tmp_path_factory.mktemp("month")
    write_history(Quick(folder / "data"), Registry(Quick(folder / "registry")).ledger)
    return folder


@pytest.fixture(scope="session")
def year_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 days of 40 features; not to be written to."""
    folder = tmp_path_factory.mktemp("year")
    names = ["S", *(f"feature_{number}" for number in range(39))]
    write_history(Quick(folder / "data"), Registry(Quick(folder / "registry")).ledger, 400, features=names)
    return folder
