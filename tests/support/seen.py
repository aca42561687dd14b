"""What was shown on made-up days in which nothing changes, and changes to it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ltr_pipeline.metrics.drift import Rows
from ltr_pipeline.monitoring.drift_rows import Column, Seen

__all__ = ["NAN", "TODAY", "TUESDAYS", "ago", "column", "quiet", "with_feature", "with_measure"]

NAN = float("nan")
TODAY = dt.date(2025, 7, 29)
TUESDAYS = [ago.toordinal() for ago in (TODAY - dt.timedelta(weeks=weeks) for weeks in (4, 3, 2, 1))]


def quiet(*, days: int = 28, lists: int = 40, size: int = 20, seed: int = 1) -> Seen:
    """Seen on some days and `TODAY`: the independent features fit, near and price, lists of 300 users."""
    rng = np.random.default_rng(seed)
    today = TODAY.toordinal()
    every = np.arange(today - days, today + 1)
    user = rng.integers(300, size=len(every) * lists).repeat(size)
    rows = Rows(day=every.repeat(lists * size), cluster=user)
    matrix = rng.standard_normal((len(user), 3)).astype(np.float32)
    totals = {int(day): (lists * size, lists) for day in every}
    return Seen(names=("fit", "near", "price"), matrix=matrix, rows=rows, asker=user, totals=totals)


def ago(seen: Seen) -> np.ndarray:
    """How many days before `TODAY` each row was shown."""
    return TODAY.toordinal() - seen.rows.day


def column(seen: Seen, name: str) -> np.ndarray:
    """A copy of a feature's values."""
    return seen.matrix[:, seen.names.index(name)].copy()


def with_feature(seen: Seen, name: str, values: ArrayLike) -> Seen:
    """The same with other values of a feature, or with a further one."""
    names = seen.names if name in seen.names else (*seen.names, name)
    matrix = np.full((len(seen.matrix), len(names)), np.nan, dtype=np.float32)
    matrix[:, : len(seen.names)] = seen.matrix
    matrix[:, names.index(name)] = values
    return replace(seen, names=names, matrix=matrix)


def with_measure(seen: Seen, name: str, values: ArrayLike) -> Seen:
    """The same with a measure of each row."""
    of_rows = np.broadcast_to(np.asarray(values, dtype=np.float32), (len(seen.matrix),))
    return replace(seen, measures={**seen.measures, name: Column(of_rows, seen.rows)})
