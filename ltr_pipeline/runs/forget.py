"""Removes a person from what runs keep: labelled tables name users, and so may rows of feature tables."""

from __future__ import annotations

import polars as pl

from ltr_pipeline.dataset.features.snapshot import PREFIX
from ltr_pipeline.dataset.features.source import ENTITY
from ltr_pipeline.runs.names import EXAMPLES_FILE, NIGHTS, REFRESHES
from ltr_pipeline.schema import LABELLED, USER_ID
from ltr_pipeline.storage.base import Storage

__all__ = ["forget_in_runs"]


def forget_in_runs(storage: Storage, user_id: str) -> int:
    """Delete the tables that hold a user, and return how many; a run that needs them is built again.

    The examples of such a run go first, so that a call which is killed in between is completed by the next: they name
    queries and items, and may show this user's.
    """
    gone = 0
    for key in (*storage.keys(NIGHTS), *storage.keys(REFRESHES)):
        column = _users_of(key)
        if column and _holds(storage, key, column, user_id):
            storage.delete("/".join([*key.split("/")[:2], EXAMPLES_FILE]))
            storage.delete(key.removesuffix(".parquet") + ".json")
            storage.delete(key)
            gone += 1
    return gone


def _users_of(key: str) -> str | None:
    """Return the column of a file that may name users; None where none does."""
    if not key.endswith(".parquet"):
        return None
    if f"/{PREFIX}" in key:
        return ENTITY
    return USER_ID if f"/{LABELLED}-" in key else None


def _holds(storage: Storage, key: str, column: str, user_id: str) -> bool:
    with storage.local_file(key) as path:
        rows = pl.scan_parquet(path, hive_partitioning=False).filter(pl.col(column) == user_id)
        return bool(rows.select(pl.len()).collect().item())
