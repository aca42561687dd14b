"""Removes a person from what runs keep: labelled tables name users."""

from __future__ import annotations

import polars as pl

from ltr_pipeline.runs.names import EXAMPLES_FILE
from ltr_pipeline.schema import LABELLED, USER_ID
from ltr_pipeline.storage.base import Storage

__all__ = ["forget_in_runs"]


def forget_in_runs(storage: Storage, user_id: str) -> int:
    """Delete the labelled tables that hold a user, and return how many; a run that needs them is built again.

    The examples of such a run go first, so that a call which is killed in between is completed by the next: they name
    queries and items, and may show this user's.
    """
    gone = 0
    for key in storage.keys("runs"):
        if key.endswith(".parquet") and f"/{LABELLED}-" in key:
            with storage.local_file(key) as path:
                rows = pl.scan_parquet(path, hive_partitioning=False).filter(pl.col(USER_ID) == user_id)
                holds = rows.select(pl.len()).collect().item() > 0
            if holds:
                storage.delete("/".join([*key.split("/")[:2], EXAMPLES_FILE]))
                storage.delete(key)
                gone += 1
    return gone
